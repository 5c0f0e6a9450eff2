"""Objects on the command line: classes by their public names, with fields."""

import pytest

import tljax
from tljax.commands import config_files, train
from tljax.commands.command_line import UsageError


def parse(*words):
    """The quickstart with these overrides."""
    given = train.parser().read(['--config=quickstart', *(f'--config.{word}' for word in words)])
    return config_files.experiment(given.config)[0]


def error(*words) -> str:
    with pytest.raises(UsageError) as caught:
        parse(*words)
    return str(caught.value)


STAGE3 = tljax.FreezeBelow(stage='stage3')


@pytest.mark.parametrize(
    ('word', 'field', 'value'),
    [
        ('strategy=LinearProbe', 'strategy', tljax.LinearProbe()),
        ('strategy=LinearProbe()', 'strategy', tljax.LinearProbe()),
        ('strategy=FreezeBelow(stage=stage3)', 'strategy', STAGE3),
        ('strategy=FreezeBelow( stage = "stage3" )', 'strategy', STAGE3),
        ("strategy=FreezeBelow(stage='stage3',)", 'strategy', STAGE3),
        ('data=Manifest(path=a/b-2.csv)', 'data', tljax.Manifest(path='a/b-2.csv')),
        ("data=Manifest(path='a(1), b.csv')", 'data', tljax.Manifest(path='a(1), b.csv')),
        (
            'strategy=SolvedProbe(solver=LBFGS())',
            'strategy',
            tljax.SolvedProbe(solver=tljax.LBFGS()),
        ),
        (
            'baselines=(FromScratch,LinearProbe)',
            'baselines',
            (tljax.FromScratch(), tljax.LinearProbe()),
        ),
        (
            'baselines=FromScratch,LinearProbe',
            'baselines',
            (tljax.FromScratch(), tljax.LinearProbe()),
        ),
        ('baselines=FromScratch', 'baselines', (tljax.FromScratch(),)),
        ('baselines=()', 'baselines', ()),
        ('augmentations[0]=HorizontalFlip', 'augmentations', (tljax.HorizontalFlip(),)),
        ('head=pretrained', 'head', 'pretrained'),
    ],
)
def test_a_field_is_set_to_an_object(word, field, value):
    assert getattr(parse(word), field) == value


def test_overrides_apply_in_order():
    done = parse('strategy=FreezeBelow', 'strategy.stage=stage3', 'strategy.learning_rate_scale=2')
    assert done.strategy == tljax.FreezeBelow(stage='stage3', learning_rate_scale=2.0)


def test_a_field_that_is_still_needed_is_named_by_its_flag():
    found = error('strategy=FreezeBelow')
    assert found.startswith('--config.strategy.stage=VALUE is missing')


@pytest.mark.parametrize(
    ('word', 'parts'),
    [
        ('strategy=LinearProb', ['LinearProbe']),
        ('strategy=SGD', ['SGD does not fit', 'LinearProbe']),
        ('strategy=FreezeBelow(stge=x)', ['did you mean stage?', 'learning_rate_scale=1.0']),
        ('strategy=FreezeBelow(x)', ['FIELD=VALUE']),
        ('strategy=FreezeBelow(stage=x', ['FreezeBelow(stage=x']),
        ('strategy=FreezeBelow(learning_rate_scale=fast)', ['learning_rate_scale=fast', 'float']),
        ("strategy=__import__('os')", ['__import__']),
    ],
)
def test_what_is_no_object_for_a_field_is_answered_in_a_line(word, parts):
    found = error(word)
    assert '\n' not in found
    assert all(part in found for part in parts), found


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('lr', 'optimizer.learning_rate'),
        ('learning_rate', 'optimizer.learning_rate'),
        ('wd', 'optimizer.weight_decay'),
        ('weight_decay', 'optimizer.weight_decay'),
        ('momentum', 'optimizer.momentum'),
        ('bs', 'batch_size'),
        ('batchsize', 'batch_size'),
        ('model', 'backbone'),
        ('dataset', 'data'),
        ('num_epochs', 'epochs'),
        ('epoch', 'epochs'),
        ('stage', 'strategy.stage'),
    ],
)
def test_what_other_libraries_call_a_field_is_answered_with_its_full_name(name, meant):
    assert f'did you mean --config.{meant}?' in error(f'{name}=1')


def test_a_forgotten_path_names_the_flag():
    given = train.parser().read(['--config=resnet50_finetune'])
    with pytest.raises(UsageError, match=r'^--config\.data\.path=DIR is missing'):
        config_files.experiment(given.config)
