"""`tljax COMMAND`: every command by its name, shipped configs by theirs, and how commands end."""

import json
import signal
import subprocess

import pytest

from tljax import __main__
from tljax.commands import command_line, completion, config, config_files, exit, names, train
from tljax.config import config_json
from tljax.config.experiment import Experiment
from tljax.config.resolved import attribute_texts
from tljax.training.nonfinite import NotFiniteError
from tljax.training.signals import Interrupted
from tljax.types import InputError


def test_without_a_command_each_is_listed_in_a_line(capsys):
    assert __main__.main([]) == 0
    printed = capsys.readouterr().out.splitlines()
    for name, what in names.COMMANDS.items():
        assert [line for line in printed if line.split() == [name, *what.split()]]


@pytest.mark.parametrize('name', names.COMMANDS)
def test_the_help_of_a_command_names_all_its_flags(name, capsys):
    assert __main__.main([name, '--help']) == 0
    printed = capsys.readouterr().out
    flags = set(names.module(name).parser().flags()) - {'--sheet'}
    assert not [flag for flag in flags if flag not in printed]
    assert all(len(line) <= 100 for line in printed.splitlines())


def test_an_unknown_command_is_answered_with_the_nearest(capsys):
    assert __main__.main(['trian']) == 2
    assert 'did you mean tljax train?' in capsys.readouterr().err


@pytest.mark.parametrize('flag', ['--dry_run', '--dry-run', '--dry-run=true'])
def test_flags_take_underscores_and_hyphens(flag):
    assert train.parser().read(['--config=quickstart', flag]).dry_run


def test_an_unknown_flag_is_answered_with_the_nearest():
    with pytest.raises(command_line.UsageError, match='did you mean --workdir'):
        train.parser().read(['--config=quickstart', '--workdri=x'])


def test_words_and_flags_may_be_mixed():
    given = names.module('evaluate').parser().read(['RUN', '--split=val', 'DIR'])
    assert (given.network, given.path, given.split) == ('RUN', 'DIR', 'val')


def ended_with(error):
    """The exit code of a command that raises an error."""

    def run(given):
        raise error

    return exit.run(command_line.Parser('test', ''), run, [])


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (InputError('bad'), 2),
        (command_line.UsageError('bad'), 2),
        (FileNotFoundError(2, 'no such file'), 2),
        (OSError(28, 'No space left on device'), 1),
        (NotFiniteError('the loss'), 1),
        (Interrupted(signal.SIGTERM, 7), 75),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_known_end_is_a_line_and_an_exit_code(error, code, capsys):
    assert ended_with(error) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_no_command_foresees_is_raised():
    with pytest.raises(ZeroDivisionError):
        ended_with(ZeroDivisionError())


def test_a_shipped_config_is_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = command_line.ConfigArguments(spec='quickstart_adapters:lora')
    assert config_files.load(words)[1] == 'quickstart_adapters-lora'


def test_a_file_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'quickstart').write_text('')
    assert not config_files.find('quickstart').shipped


def test_a_config_runs_from_the_record_of_a_run(tmp_path):
    loaded, _ = config_files.load(command_line.ConfigArguments(spec='quickstart'))
    (tmp_path / 'config.json').write_text(config_json.to_json(loaded))
    given = train.parser().read([f'--config={tmp_path}/config.json', '--config.seed=7'])
    again, name = config_files.experiment(given.config)
    loaded.seed = 7
    assert (again, name) == (loaded, tmp_path.name)


def test_config_says_what_set_each_field(capsys):
    assert config.main(['--config=quickstart', '--config.seed=7', '--json']) == 0
    rows = {row['field']: row for row in json.loads(capsys.readouterr().out)['fields']}
    assert (rows['seed']['value'], rows['seed']['default']) == (7, 0)
    found = {name: rows[name]['set_by'] for name in ('seed', 'backbone', 'clip_norm')}
    assert found == {'seed': 'command line', 'backbone': 'config', 'clip_norm': 'default'}


def test_the_table_of_config_fits_100_columns(capsys):
    assert config.main(['--config=quickstart']) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_every_field_of_an_experiment_is_described():
    assert list(attribute_texts(Experiment)) == list(Experiment.__dataclass_fields__)


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'fish'])
def test_completion_names_commands_configs_and_flags(shell, capsys):
    assert completion.main([shell]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in (*names.COMMANDS, 'quickstart', 'budget_minutes'))


def test_bash_completes_the_name_of_a_config():
    line = 'tljax train --config=quicks'
    words = 'tljax train --config = quicks'
    ask = f'COMP_LINE="{line}" COMP_POINT={len(line)} COMP_WORDS=({words}) COMP_CWORD=4; _tljax'
    script = f'{completion.bash()}\n{ask} 2>/dev/null\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(['bash', '-c', script], capture_output=True, text=True)
    assert done.stdout.split() == ['quickstart', 'quickstart_adapters']


def test_a_device_that_jax_did_not_find_ends_the_command_at_once(capsys):
    assert train.main(['--config=quickstart', '--require_device=tpu']) == 2
    error = capsys.readouterr().err
    assert '--require_device=tpu: JAX found 4 device(s) of kind cpu' in error
    assert len(error.splitlines()) == 1
