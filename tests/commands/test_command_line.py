"""Command lines, good and bad; a bad one is answered in one line."""

import os
import pathlib
import subprocess
import sys

import pytest

from tljax.commands import command_line, config_files, names, train
from tljax.types import Interpolation

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = """\
from tljax import Affine, HorizontalFlip
from tljax import ResNetSmall
from tljax import Experiment
from tljax import Digits
from tljax import SGD
from tljax import FreezeBelow
from tljax import Preprocessing


def get_config(seed='0'):
    return Experiment(
        backbone=ResNetSmall(),
        data=Digits(),
        strategy=FreezeBelow(stage='stage2'),
        optimizer=SGD(),
        augmentations=(Affine(), HorizontalFlip()),
        preprocessing=Preprocessing(),
        clip_norm=1.0,
        cut_after='stage3',
        per_class=5,
        seed=int(seed),
    )
"""


@pytest.fixture
def file(tmp_path) -> pathlib.Path:
    path = tmp_path / 'probe.py'
    path.write_text(CONFIG)
    return path


def parse(*words):
    """What a command line gives, under the flags of `tljax train`."""
    given = train.parser().read([*map(str, words)])
    return config_files.experiment(given.config)[0], given


def error(*words) -> str:
    """The line that a command line is refused with."""
    with pytest.raises(command_line.UsageError) as caught:
        parse(*words)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def field(experiment, path):
    """The value at `optimizer.learning_rate` or `augmentations[0].rotate_degrees`."""
    for part in path.replace('[', '.').replace(']', '').split('.'):
        experiment = experiment[int(part)] if part.isdigit() else getattr(experiment, part)
    return experiment


@pytest.mark.parametrize(
    ('path', 'word', 'value'),
    [
        ('batch_size', '64', 64),
        ('epochs', '2', 2.0),
        ('epochs', '2.5', 2.5),
        ('optimizer.learning_rate', '3e-4', 3e-4),
        ('optimizer.nesterov', 'true', True),
        ('optimizer.nesterov', 'false', False),
        ('cut_after', 'stage2', 'stage2'),
        ('strategy.stage', 'stage1', 'stage1'),
        ('strategy.stage', 'none', 'none'),
        ('clip_norm', '2', 2.0),
        ('clip_norm', 'none', None),
        ('cut_after', 'none', None),
        ('head', 'pretrained', 'pretrained'),
        ('head', 'none', None),
        ('per_class', 'none', None),
        ('checkpoint_every_steps', '7', 7),
        ('preprocessing.interpolation', 'bicubic', Interpolation.BICUBIC),
        ('preprocessing.mean', '(0.5, 0.4, 0.3)', (0.5, 0.4, 0.3)),
        ('augmentations[0].rotate_degrees', '5', 5.0),
        ('augmentations[1].probability', '0.1', 0.1),
        ('evaluate', 'test', ('test',)),
        ('evaluate', "('val', 'test')", ('val', 'test')),
        ('augmentations', '()', ()),
    ],
)
def test_a_field_is_set_to_a_value_of_its_type(path, word, value, file):
    found = field(parse(f'--config={file}', f'--config.{path}={word}')[0], path)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ('path', 'word', 'value'),
    [
        ('batch_size', '64', 64),
        ('optimizer.learning_rate', '-0.5', -0.5),
        ('cut_after', 'none', None),
        ('augmentations[0].rotate_degrees', '5', 5.0),
        ('evaluate', 'test', ('test',)),
    ],
)
def test_a_value_may_be_a_word_of_its_own(path, word, value, file):
    assert field(parse(f'--config={file}', f'--config.{path}', word)[0], path) == value


@pytest.mark.parametrize(
    ('word', 'value'),
    [('--config.optimizer.nesterov', True), ('--noconfig.optimizer.nesterov', False)],
)
def test_a_switch_needs_no_value(word, value, file):
    assert parse(f'--config={file}', word)[0].optimizer.nesterov is value


@pytest.mark.parametrize('number', [0, 1, -1])
def test_an_element_of_a_tuple_is_set(number, file):
    experiment, _ = parse(f'--config={file}', f'--config.preprocessing.mean[{number}]=0.25')
    assert experiment.preprocessing.mean[number] == 0.25


def test_an_element_is_of_the_type_of_its_field_and_not_of_the_value_before(file):
    file.write_text(CONFIG.replace('Preprocessing()', 'Preprocessing(mean=(0, 0, 0))'))
    experiment, _ = parse(f'--config={file}', '--config.preprocessing.mean[1]=0.25')
    assert experiment.preprocessing.mean == (0, 0.25, 0)


def test_the_rest_stays_as_the_file_has_it(file):
    plain, _ = parse(f'--config={file}')
    changed, _ = parse(f'--config={file}', '--config.batch_size=7')
    changed.batch_size = plain.batch_size
    assert changed == plain


def test_the_last_of_two_values_counts(file):
    words = ('--config.batch_size=3', '--config.batch_size=4')
    assert parse(f'--config={file}', *words)[0].batch_size == 4


@pytest.mark.parametrize('words', [('--config={}',), ('--config', '{}'), ('-config', '{}')])
def test_the_file_may_be_given_in_any_form_of_a_flag(words, file):
    assert parse(*(word.format(file) for word in words))[0].per_class == 5


def test_a_field_may_be_set_before_the_file_is_named(file):
    assert parse('--config.batch_size=3', f'--config={file}')[0].batch_size == 3


def test_what_follows_a_colon_is_the_argument_of_get_config(file):
    assert parse(f'--config={file}:17')[0].seed == 17


def test_the_commands_own_flags_are_set(file):
    _, values = parse(f'--config={file}', '--workdir=here', '--dry_run')
    assert (values.workdir, values.dry_run) == (pathlib.Path('here'), True)


@pytest.mark.parametrize(
    ('argument', 'name'), [('', 'probe'), (':x', 'probe-x'), (':a:b', 'probe-a:b')]
)
def test_a_run_is_named_by_its_file_and_argument(argument, name, file):
    assert config_files.find(f'{file}{argument}').run_name == name


def test_a_record_is_named_by_the_folder_of_its_run(tmp_path):
    (tmp_path / 'tuned').mkdir()
    (tmp_path / 'tuned/config.json').write_text('{}')
    assert config_files.find(f'{tmp_path}/tuned/config.json').run_name == 'tuned'


def test_the_last_file_counts(file):
    other = file.with_name('other.py')
    other.write_text(CONFIG.replace('per_class=5', 'per_class=6'))
    given = train.parser().read([f'--config={file}', f'--config={other}'])
    experiment, name = config_files.experiment(given.config)
    assert (experiment.per_class, name) == (6, 'other')


@pytest.mark.parametrize(
    ('path', 'near', 'fields'),
    [
        ('epoch', 'epochs', ('batch_size', 'seed')),
        ('bacth_size', 'batch_size', ('epochs', 'seed')),
        ('optimizer.learning_rat', 'optimizer.learning_rate', ('momentum', 'weight_decay')),
        ('optimiser.learning_rate', 'optimizer', ('strategy', 'epochs')),
        ('augmentations[1].probabilty', 'augmentations[1].probability', ()),
        ('preprocessing.meen[0]', 'preprocessing.mean', ('std', 'size_px')),
    ],
)
def test_a_typo_is_answered_with_the_nearest_field_and_all_there_are(path, near, fields, file):
    found = error(f'--config={file}', f'--config.{path}=1')
    assert found.startswith(f'--config.{path}: ')
    assert f'did you mean --config.{near}?' in found
    assert all(name in found for name in fields)


def test_every_typo_is_reported_at_once(file):
    with pytest.raises(command_line.UsageError) as caught:
        parse(f'--config={file}', '--config.epoch=1', '--config.seed=1', '--config.optimizer.lr=1')
    first, second = str(caught.value).splitlines()
    assert 'config.epoch:' in first
    assert 'config.optimizer.lr:' in second


@pytest.mark.parametrize(
    ('word', 'reason'),
    [
        ('augmentations[2].probability=1', 'config.augmentations has 2 entries'),
        ('augmentations[first].probability=1', 'config.augmentations'),
        ('seed.value=1', 'config.seed is 0 and has no fields'),
        ('optimizer..momentum=1', 'not a path'),
    ],
)
def test_a_path_that_leads_nowhere_is_named(word, reason, file):
    found = error(f'--config={file}', f'--config.{word}')
    assert found.startswith(f'--config.{word.split("=")[0]}: ')
    assert reason in found


@pytest.mark.parametrize(
    ('path', 'word', 'wanted'),
    [
        ('epochs', 'many', 'float'),
        ('epochs', '', 'float'),
        ('batch_size', '3.5', 'int'),
        ('optimizer.nesterov', 'maybe', 'bool'),
        ('optimizer.learning_rate', 'fast', 'float'),
        ('clip_norm', 'x', 'float or none'),
        ('per_class', '2.5', 'int or none'),
        ('augmentations[0].rotate_degrees', 'ten', 'float'),
        ('preprocessing.interpolation', 'cubic', 'one of bilinear, bicubic'),
        ('preprocessing.mean[0]', 'x', 'float'),
    ],
)
def test_a_value_of_another_type_is_answered_with_what_is_wanted(path, word, wanted, file):
    found = error(f'--config={file}', f'--config.{path}={word}')
    assert found == f'--config.{path}={word}: wanted {wanted}'


@pytest.mark.parametrize('path', ['epochs', 'optimizer.learning_rate'])
def test_a_value_of_another_type_is_found_in_a_word_of_its_own(path, file):
    found = error(f'--config={file}', f'--config.{path}', 'many')
    assert found.startswith(f'--config.{path}')
    assert 'many' in found
    assert found.endswith('wanted float')


@pytest.mark.parametrize(
    ('words', 'parts'),
    [
        (['--workdri=x'], ['workdri', 'workdir']),
        (['--foo'], ['foo']),
        (['--workdir'], ['--workdir']),
        (['--config.epochs'], ['--config.epochs']),
        (['--dry_run=maybe'], ['--dry_run=maybe']),
        (['--noconfig.epochs'], ['config.epochs']),
        (['stray'], ['stray', '--name=value']),
        (['config.epochs=3'], ['config.epochs=3', '--name=value']),
    ],
)
def test_any_other_word_that_cannot_be_used_is_named(words, parts, file):
    found = error(f'--config={file}', *words)
    assert all(part in found for part in parts)


@pytest.mark.parametrize('words', [(), ('--config',), ('--config=',), ('--workdir=x',)])
def test_without_a_config_file_one_is_suggested(words):
    found = error(*words)
    assert '--config=NAME_OR_FILE is missing' in found
    assert '--config=quickstart' in found


def test_a_file_that_is_not_there_is_answered_with_the_nearest(file):
    found = error(f'--config={file.with_name("prob.py")}')
    assert 'prob.py: there is no such file' in found
    assert found.endswith(f'did you mean {file}?')


def test_a_folder_is_answered_with_a_file_in_it(file):
    assert str(file) in error(f'--config={file.parent}')


def test_a_shipped_config_elsewhere_is_answered_with_its_name():
    assert 'did you mean quickstart ' in error('--config=nowhere/quickstart.py')


@pytest.mark.parametrize(
    ('old', 'new', 'place', 'reason'),
    [
        (
            'SGD()',
            'SGD(learnin_rate=1)',
            15,
            "no field 'learnin_rate'; did you mean learning_rate?",
        ),
        ('SGD()', 'SDG()', 15, "name 'SDG' is not defined"),
        ('import SGD', 'import SDG', 5, "no name 'SDG'; did you mean tljax.SGD?"),
        ("stage='stage2'", '', 14, "'stage'"),
        ('data=Digits(),', 'data=Digits(', 12, 'SyntaxError'),
        ('int(seed)', 'int("x")', 21, "invalid literal for int() with base 10: 'x'"),
        ('int(seed)', '{}["key"]', 21, "KeyError: 'key'"),
        ('int(seed)', 'open("gone.txt").read()', 21, 'gone.txt'),
    ],
)
def test_an_error_in_the_file_is_given_with_its_line(old, new, place, reason, file):
    file.write_text(CONFIG.replace(old, new))
    found = error(f'--config={file}')
    assert found.startswith(f'{file}:')
    assert reason in found
    if 'SyntaxError' not in found:  # which line that is depends on the version of Python
        assert f'{file}:{place}: ' in found
    else:
        assert found.removeprefix(f'{file}:').split(':')[0].isdigit()


def test_of_an_error_in_the_file_the_last_one_raised_is_given(file):
    handled = 'try:\n    {}["a"]\nexcept KeyError:\n    raise RuntimeError("what helps")\n'
    file.write_text(handled + CONFIG)
    assert error(f'--config={file}').endswith('RuntimeError: what helps')


def test_an_error_of_several_lines_is_given_in_one(file):
    file.write_text('raise ValueError("one\\ntwo")\n')
    assert 'one' in error(f'--config={file}')


def test_a_get_config_without_its_return_is_named(file):
    file.write_text('def get_config():\n    pass\n')
    found = error(f'--config={file}')
    assert found.startswith(str(file))
    assert 'None' in found


def test_a_file_is_read_without_what_was_in_the_one_before(file):
    parse(f'--config={file}')
    file.with_name('empty.py').write_text('')
    assert 'get_config' in error(f'--config={file.with_name("empty.py")}')


@pytest.mark.parametrize('text', ['', 'config = 1\n'])
def test_a_file_without_get_config_is_named(text, file):
    file.write_text(text)
    found = error(f'--config={file}')
    assert found.startswith(str(file))
    assert 'get_config' in found


def main(*words, python=(), **environment) -> subprocess.CompletedProcess:
    """`python -m tljax.main ...` as a user runs it."""
    command = [sys.executable, *python, '-m', 'tljax.main', *map(str, words)]
    environment = {**os.environ, **environment}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_wrong_field_exits_with_2_before_anything_is_compiled(tmp_path):
    words = ('--config=configs/quickstart.py', '--config.optimizer.learning_rat=1')
    done = main(
        *words, f'--workdir={tmp_path}/run', JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'compiled')
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: --config.optimizer.learning_rat: ')
    assert list(tmp_path.iterdir()) == []


def test_help_is_printed_without_importing_jax():
    done = main('--help', python=('-X', 'importtime'))
    imported = {line.split('|')[-1].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert '--config=NAME_OR_FILE' in done.stdout
    assert 'tljax.commands.command_line' in imported
    assert not imported & {'jax', 'jaxlib', 'flax', 'optax', 'tensorflow'}


@pytest.mark.parametrize('name', ['train', 'advise', 'sweep', 'frontier', 'merge'])
@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('az://bucket/run', 'wanted a local path'),
        ('https://host/run', 'wanted a local path'),
        ('gs://', 'wanted a local path'),
        ('~nobody-has-this-name/run', 'home directory'),
        ('a\0b', 'a path has no NUL character'),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_answered_in_a_line(name, path, words, capsys):
    flag = '--out' if name in ('frontier', 'merge') else '--workdir'
    assert names.module(name).main([f'{flag}={path}', '--config=quickstart']) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
