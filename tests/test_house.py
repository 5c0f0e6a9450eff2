"""The plan of the package: its entries, who may import whom, and the names that are not used."""

import ast
import functools
import graphlib
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1] / 'tljax'
FLOORS = (
    {'types', 'version'},
    {'tree', 'devices', 'environment'},
    {'storage'},
    {'metrics'},
    {'models', 'data'},
    {'augment', 'strategies'},
    {'features'},
    {'sample_transfer'},
    {'config'},
    {'records'},
    {'weights'},
    {'training'},
    {'advise', 'sweep'},
    {'commands'},
    {'__init__', '__main__', 'main'},
)
DATA = {'__init__.pyi', 'embedded', 'py.typed', '__pycache__'}
# Words that only their authors understood, once names of modules.
NOT_OURS = {
    'ahead',
    'anchor',
    'beside',
    'canvas',
    'canvases',
    'found',
    'given',
    'ingredients',
    'live',
    'moving',
    'ordering',
    'penalised',
    'readout',
    'sourced',
    'touched',
    'whole',
    'words',
    'written',
    'utils',
    'helpers',
    'misc',
}
FILES = sorted(ROOT.rglob('*.py'))


def entry_of(path):
    """`models` of `tljax/models/backbones/resnet.py`, `tree` of `tljax/tree.py`."""
    return path.relative_to(ROOT).with_suffix('').parts[0]


def floor_of(entry):
    """The index of the floor that holds an entry; above all others for none."""
    return next((index for index, names in enumerate(FLOORS) if entry in names), len(FLOORS))


def module_of(path):
    """`tljax.models` of `tljax/models/__init__.py`."""
    parts = ('tljax', *path.relative_to(ROOT).with_suffix('').parts)
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_of(path) for path in FILES} - {'tljax'}


@functools.cache
def imports(path, anywhere=True):
    """The dotted names that a file imports, `from a import b` as `a.b`; at its top or anywhere."""
    parsed = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(parsed) if anywhere else parsed.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}: relative import'
            names |= {f'{node.module}.{alias.name}' for alias in node.names}
    return names


def modules_used(path, anywhere=True):
    """The files of the package that a file imports."""
    names = imports(path, anywhere)
    return {n if n in MODULES else n.rpartition('.')[0] for n in names} & MODULES


def assert_none(wrong):
    """No file of the package is wrong; the failure lists what `wrong` finds in each."""
    found = {str(path.relative_to(ROOT)): wrong(path) for path in FILES}
    assert {path: problems for path, problems in found.items() if problems} == {}


def test_the_package_has_the_planned_entries_and_no_others():
    entries = {path.stem if path.suffix == '.py' else path.name for path in ROOT.iterdir()}
    assert entries - DATA <= set.union(*FLOORS)


def higher_floors(path):
    """The entries on its own or a higher floor that a file imports, except its own folder."""
    own = entry_of(path)
    used = {name.split('.')[1] for name in modules_used(path)} - {own}
    return {name for name in used if floor_of(name) >= floor_of(own)}


def test_a_file_imports_only_its_own_folder_and_lower_floors():
    assert_none(higher_floors)


def test_files_of_a_folder_import_each_other_without_circles():
    graph = {module_of(path): modules_used(path, anywhere=False) for path in FILES}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises on a circle


def test_nothing_outside_the_package_is_imported():
    outside = {'configs', 'scripts', 'tests', 'benchmarks', 'tensorflow', 'torch'}
    assert_none(lambda path: {name.split('.')[0] for name in imports(path)} & outside)


def test_no_file_imports_the_slow_parts_of_scipy_for_all_processes():
    """`import scipy` loads `scipy.stats`, which takes 0.8 s, when it is first used."""
    slow = {'scipy.stats', 'scipy.optimize', 'scipy.cluster', 'scipy.interpolate'}
    assert_none(lambda path: imports(path, anywhere=False) & slow)


def definitions(path):
    """The lines of a folder's `__init__.py` that do more than import and name."""
    if path.name != '__init__.py' or path.parent == ROOT:
        return []
    kinds = (ast.FunctionDef, ast.ClassDef, ast.For, ast.If, ast.With, ast.Try)
    return [n.lineno for n in ast.parse(path.read_text()).body if isinstance(n, kinds)]


def test_a_package_file_defines_nothing():
    assert_none(definitions)


def test_the_name_of_a_module_is_a_word_of_the_field():
    assert_none(lambda path: set(path.stem.split('_')) & NOT_OURS)


def test_the_command_line_imports_nothing_of_the_package():
    path = ROOT / 'commands/command_line.py'
    assert not {name for name in imports(path) if name.startswith('tljax')}


def test_no_command_imports_jax_before_its_words_are_read():
    code = (
        'import sys; from tljax.commands import names; '
        '[names.module(name).parser() for name in names.COMMANDS]; '
        "sys.exit(bool({'jax', 'flax', 'numpy', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT.parent).returncode == 0


TASKS = {path.stem for path in (ROOT / 'metrics' / 'tasks').glob('[!_]*.py')} - {'choice'}


def named_tasks(path):
    """Where a file of the training loop depends on a kind of task or on the form of labels."""
    relative = path.relative_to(ROOT)
    # The page of a run has a section of its own for each kind of task.
    if relative.parts[0] != 'training' or relative.parts[1] == 'report':
        return []
    kinds = [name for name in imports(path) if TASKS & set(name.split('.'))]
    return kinds + re.findall(r'labels?\.ndim|isinstance\([^)]*\btask\b', path.read_text())


def test_nothing_in_training_names_a_task():
    assert {'classes', 'label_sets'} <= TASKS
    assert_none(named_tasks)
