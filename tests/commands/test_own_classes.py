"""Commands on runs whose network is a class of the user's own: `--config=FILE` imports it."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from tljax.commands import command_line, config_files, evaluate, export, merge, predict, weights
from tljax.records import runs
from tljax.training.run import train

FILE = """
import dataclasses
from tests import small_runs

@dataclasses.dataclass(slots=True, kw_only=True)
class Own(small_runs.Tiny):
    pass

def get_config():
    return dataclasses.replace(small_runs.short(), backbone=Own())
"""
MODULE = 'config_file'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A run, the file that defines its backbone, and an image."""
    folder = tmp_path_factory.mktemp('own')
    (folder / 'own.py').write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, MODULE, None)  # ends what the import leaves behind
        own = command_line.ConfigArguments(spec=str(folder / 'own.py'))
        train(config_files.load(own)[0], folder / 'run', show_model=False)
    shutil.copytree(folder / 'run', folder / 'run2')
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / 'image.png')
    return folder


@pytest.fixture(autouse=True)
def another_process(monkeypatch):
    """The user's file is not imported yet."""
    monkeypatch.setitem(sys.modules, MODULE, None)
    monkeypatch.delitem(sys.modules, MODULE)


def commands(folder, out):
    """A line for each command that reads a run."""
    run = str(folder / 'run')
    return {
        evaluate: [run, '--data=config', '--split=test'],
        predict: [run, str(folder / 'image.png')],
        export: [run, f'--out={out / "e.safetensors"}'],
        merge: [run, f'{run}2', f'--out={out / "m.safetensors"}', '--method=uniform'],
        weights: [run],
    }


COMMANDS = pytest.mark.parametrize(
    'command', [evaluate, predict, export, merge, weights], ids=lambda c: c.__name__
)


@COMMANDS
def test_the_file_that_the_user_names_gives_the_class(command, folder, tmp_path, capsys):
    words = [*commands(folder, tmp_path)[command], f'--config={folder / "own.py"}']
    assert command.main(words) == 0, capsys.readouterr().err


@COMMANDS
def test_without_it_one_line_names_the_class_and_the_flag(command, folder, tmp_path, capsys):
    assert command.main(commands(folder, tmp_path)[command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'config_file:Own' in line
    assert '--config=FILE' in line
    assert MODULE not in sys.modules


def test_the_argument_of_a_config_may_stand_behind_the_file(folder, tmp_path):
    words = commands(folder, tmp_path)[export]
    assert export.main([*words, f'--config={folder / "own.py"}:tune']) == 0


@pytest.mark.parametrize('text', ['1 / 0', 'class', None])
def test_a_file_that_cannot_be_imported_is_one_line(text, folder, tmp_path, capsys):
    if text is not None:
        (tmp_path / 'bad.py').write_text(text)
    words = [*commands(folder, tmp_path)[predict], f'--config={tmp_path / "bad.py"}']
    assert predict.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_another_version_of_the_file_is_told(folder, tmp_path, capsys):
    (tmp_path / 'own.py').write_text(FILE + '\n')
    words = commands(folder, tmp_path)[weights]
    assert weights.main([*words, f'--config={tmp_path / "own.py"}']) == 0
    assert 'another version of' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize('content', ['[1]', '{"config_file": 1}', '{"config_file": {}}', '{'])
def test_a_damaged_record_of_the_files_is_one_line(content, folder, tmp_path, capsys):
    run = shutil.copytree(folder / 'run', tmp_path / 'run')
    (run / runs.CLASSES_FILE).write_text(content)
    assert weights.main([str(run), f'--config={folder / "own.py"}']) == 2
    assert 'classes.json is damaged' in capsys.readouterr().err
