"""The plan of the house: a file imports only from lower floors, and some things from nowhere."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1] / 'tljax'
FLOORS = (
    {
        'version',
        'types',
        'tree',
        'ordering',
        'runtime',
        'store',
        'multi_label',
        'cli',
        'convolutions',
        'json_form',
        'output',
    },  # cli stands alone, so that --help is quick
    {
        'port',
        'torch_file',
        'losses',
        'metrics',
        'schedule',
        'augment',
        'layers',
        'preprocessing',
        'solver',
        'views',
        'classes',
        'confusion',
        'transferability',
        'charts',
        'merging',
    },
    # The files of a folder may import each other.
    {'backbones', 'data', 'strategies', 'heads', 'penalties', 'stochastic_norm', 'sample_transfer'},
    {'model', 'probes'},
    {'config', 'optim', 'checkpoint', 'adapters'},
    {'runs', 'report', 'agreement'},
    {'weights', 'state', 'sharding', 'fold', 'comparison'},
    {'penalised', 'inputs', 'cut'},
    {'step', 'features', 'anchor', 'reestimate'},
    {'plan', 'signals'},
    {'sourced'},
    {'sourced_step'},
    {'job', 'network', 'model_card'},
    {'evaluation', 'batches'},
    {'ahead', 'solved_head', 'phase_step'},
    {'fitting'},
    {'sourcing'},
    {'progress', 'run_folder', 'announcement', 'export', 'trial', 'ingredients'},
    {'finite'},
    {'recording'},
    {'loop'},
    {'train'},
    {'costs'},
    {'compare', 'commands', 'advise'},
    {'main', 'evaluate', 'predict', 'lr_find', 'merge', 'frontier'},
    {'__init__'},  # the front door
)
FILES = sorted(ROOT.rglob('*.py'))


def name_of(path):
    """`backbones` of `tljax/backbones/resnet.py`, `tree` of `tljax/tree.py`.

    A folder's `__main__.py` is a command, and stands where `main.py` does.
    """
    if path.name == '__main__.py':
        return 'main'
    return path.relative_to(ROOT).with_suffix('').parts[0]


def floor_of(name):
    """The index of the floor that holds a file or folder; above all others for none."""
    return next((index for index, names in enumerate(FLOORS) if name in names), len(FLOORS))


def imports(path):
    """The dotted names that a file imports anywhere, `from a import b` as `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            found |= {f'{node.module}.{alias.name}' for alias in node.names}
    return found


def file_test(function):
    """Runs a test on every file of the package."""
    return pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))(function)


@file_test
def test_every_file_stands_on_one_floor(path):
    assert sum(name_of(path) in names for names in FLOORS) == 1


@file_test
def test_a_file_imports_only_from_lower_floors(path):
    own = name_of(path)
    used = {name.split('.')[1] for name in imports(path) if name.startswith('tljax.')}
    if path.parent != ROOT:
        used -= {own}
    assert not {name for name in used if floor_of(name) >= floor_of(own)}


@file_test
def test_nothing_outside_the_package_is_leaned_on(path):
    roots = {name.split('.')[0] for name in imports(path)}
    assert not roots & {'configs', 'scripts', 'tests', 'benchmarks', 'tensorflow', 'torch'}


def test_the_command_line_knows_nothing_of_the_package():
    assert not {name for name in imports(ROOT / 'cli.py') if name.startswith('tljax')}


def test_jax_is_not_imported_before_the_environment_is_set():
    code = "import tljax, tljax.cli, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT.parent).returncode == 0
