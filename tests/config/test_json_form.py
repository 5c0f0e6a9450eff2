"""A config.json may be somebody else's: reading it runs no code but that of known classes."""

import csv
import json
import pkgutil
import subprocess
import sys

import numpy as np
import pytest

from tests.small_runs import Blobs, Tiny, short
from tljax import commands
from tljax.config import config_json, json_form
from tljax.config.experiment import ConfigError
from tljax.metrics.tasks.classes import Classes
from tljax.records import runs
from tljax.training import prediction_output, run_folder
from tljax.weights import model_card

HOSTILE = (
    'payload:X',
    'tljaxevil:X',
    'tljax.nothing.there:X',
    'tljax:environment',
    'tljax:load',
    'tljax:augment',
    'tljax:augment.Affine',
    'tljax:augment.compose.Operation',
    'tljax:InputError',
    'tljax:Backbone',
    'tljax:__class__',
    'tljax:lazy_loader',
    'tljax:',
    'tljax',
    'tljax.training.states:TrainState',
    'tljax.config.experiment:Experiment.__init__',
    'tljax.config.experiment:json.JSONDecoder',
    'tljax.config.experiment:dataclasses.Field',
    'tljax.data:os.PathLike',
    'tljax.types:enum.Enum',
    'tljax.config.experiment:validate',
    'tljax.commands.data:X',
    'enum:Enum',
    'json.decoder:JSONDecoder',
    '',
    None,
)


@pytest.mark.parametrize('name', HOSTILE)
@pytest.mark.parametrize('kind', ['class', 'enum'])
@pytest.mark.parametrize('ours_only', [False, True])
def test_no_other_class_is_taken_and_no_module_imported(
    name, kind, ours_only, tmp_path, monkeypatch
):
    for module in ('payload', 'tljaxevil'):
        (tmp_path / f'{module}.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
    monkeypatch.syspath_prepend(tmp_path)
    encoded = {kind: name, 'value': 1} if kind == 'enum' else {kind: name}
    with pytest.raises((TypeError, ImportError)):
        json_form.decode(encoded, ours_only=ours_only)
    assert not (tmp_path / 'ran').exists()
    assert not {'payload', 'tljaxevil'} & set(sys.modules)


def test_a_class_of_an_imported_module_is_taken():
    assert json_form.decode(json_form.encode(Blobs())) == Blobs()


def test_within_tljax_a_class_of_an_imported_module_is_refused():
    with pytest.raises(TypeError, match=r'tests\.small_runs:Blobs'):
        json_form.decode(json_form.encode(Blobs()), ours_only=True)


def test_foreign_modules_are_those_outside_tljax():
    assert json_form.foreign_modules(json_form.encode(short())) == ['tests.small_runs']


def test_the_files_of_own_classes_are_recorded_and_a_change_is_told(tmp_path, capsys):
    run_folder._write_files_of_classes(short(), tmp_path)
    path = tmp_path / runs.CLASSES_FILE
    recorded = json.loads(path.read_text())
    assert recorded == {'tests.small_runs': json_form.module_file(Tiny.__module__)}
    assert runs.changed_files(tmp_path) == []
    recorded['tests.small_runs']['sha256'] = '0' * 64
    path.write_text(json.dumps(recorded))
    (file,) = runs.changed_files(tmp_path)
    assert file.endswith('small_runs.py')
    assert runs.changed_files(tmp_path, ['config_file']) == []


def test_a_class_that_no_file_defines_is_refused_in_training(tmp_path, monkeypatch):
    monkeypatch.setattr(json_form, 'module_file', lambda module: None)
    with pytest.raises(ConfigError, match=r'tests\.small_runs'):
        run_folder._write_files_of_classes(short(), tmp_path)


def test_a_field_is_read_though_others_are_of_unknown_classes():
    fields = json.loads(config_json.to_json(short()))
    fields['strategy'] = {'class': 'config_file:Own'}
    del fields['cut_after']
    assert config_json.field_from(fields, 'backbone') == Tiny()
    assert config_json.field_from(fields, 'cut_after') is None
    with pytest.raises(ConfigError, match='config_file:Own'):
        config_json.field_from(fields, 'strategy')


def test_modules_of_tljax_import_without_running_a_command():
    names = ['main', *(f'commands.{m.name}' for m in pkgutil.iter_modules(commands.__path__))]
    code = ';'.join(f'import tljax.{name}' for name in names)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, check=True)
    assert done.stdout == done.stderr == b''


@pytest.mark.parametrize('start', ['=', '+', '-', '@', '\t', '\r', ' ='])
def test_a_spreadsheet_shows_a_name_that_looks_like_a_formula(start, tmp_path):
    path, name = tmp_path / 'p.csv', f'{start}HYPERLINK("x")'
    with prediction_output.writer(path, [name, 'b'], Classes()) as write:
        write(prediction_output.Prediction(f'{start}cmd|calc.jpg', np.ones(2)))
    with path.open(newline='') as file:
        _, row = csv.reader(file)
    assert row[:2] == [f"'{start}cmd|calc.jpg", f"'{name}"]


@pytest.mark.parametrize(
    ('name', 'wanted'),
    [
        ('<img src=x>', '&lt;img src=x&gt;'),
        ('b\n\n# heading', 'b \\# heading'),
        ('[x](javascript:alert(1))', '\\[x\\](javascript:alert(1))'),
        ('a|b `c` *d* e_f', 'a\\|b \\`c\\` \\*d\\* e\\_f'),
        ('http://evil', 'http:\\/\\/evil'),
        ('golden retriever', 'golden retriever'),
    ],
)
def test_a_model_card_shows_a_name_as_text(name, wanted):
    assert model_card.as_text(name) == wanted


def test_a_code_span_ends_where_its_text_does():
    assert model_card._code('a `` b\nc') == '``` a `` b c ```'
