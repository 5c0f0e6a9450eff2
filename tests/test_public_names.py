"""`import tljax`: every class of a config has one public name, loaded when first used."""

import collections
import dataclasses
import enum
import importlib
import inspect
import json
import operator
import pathlib
import pkgutil
import re
import subprocess
import sys
import typing

import flax.linen as nn
import pytest

import tljax
from tljax import types
from tljax.config import json_form
from tljax.config.experiment import Experiment

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE_FILES = [
    module.name
    for module in pkgutil.walk_packages(tljax.__path__, 'tljax.')
    if not module.name.endswith('__main__')
]
CONTRACTS = [kind for kind in vars(types).values() if getattr(kind, '_is_protocol', False)]
WORDS = {'the', 'call', 'see', 'file'}  # in the table of contracts, in the place of methods


def classes():
    """Every class that a file of the package defines, but for private ones."""
    for name in PACKAGE_FILES:
        for value in vars(importlib.import_module(name)).values():
            own = isinstance(value, type) and value.__module__ == name
            if own and not value.__name__.startswith('_'):
                yield value


def parts(hint):
    """The classes in a type: `A` and `B` of `tuple[A, ...] | B | None`."""
    if arguments := typing.get_args(hint):
        return {part for argument in arguments for part in parts(argument)}
    return {hint} if isinstance(hint, type) and hint.__module__.startswith('tljax') else set()


def fulfils(kind, protocol):
    """Whether a class has the methods of a protocol of its own."""
    functions = {name for name, value in vars(protocol).items() if inspect.isfunction(value)}
    wanted = {name for name in functions if name == '__call__' or not name.startswith('_')}
    return bool(wanted) and wanted <= set(dir(kind))


def of_configs():
    """The dataclasses and enums that can stand in a config, by their fields' types."""
    # The command line sets fields of a config's objects, so none of their classes is frozen.
    known = [k for k in classes() if '__dataclass_fields__' in vars(k)]
    known = [k for k in known if not (k.__dataclass_params__.frozen or issubclass(k, nn.Module))]
    found = {k for k in known if hasattr(k, 'problems')}
    todo = [Experiment, *found]
    while todo:
        kind = todo.pop()
        if getattr(kind, '_is_protocol', False):
            reached = {k for k in known if fulfils(k, kind)}
        elif dataclasses.is_dataclass(kind):
            reached = set().union(*map(parts, typing.get_type_hints(kind).values()))
        else:
            continue
        todo += reached - found
        found |= reached
    return {k for k in found if dataclasses.is_dataclass(k) or issubclass(k, enum.Enum)}


CONFIG_CLASSES = sorted(of_configs(), key=lambda kind: kind.__name__)


def test_the_classes_of_configs_are_found():
    names = {kind.__name__ for kind in CONFIG_CLASSES}
    assert {'FreezeBelow', 'SGD', 'LBFGS', 'Folder', 'Norm', 'Pooling', 'TenCrop', 'Guard'} <= names


def test_a_class_of_a_config_is_public_under_its_own_name():
    assert [k for k in CONFIG_CLASSES if getattr(tljax, k.__name__, None) is not k] == []
    assert {kind.__name__ for kind in CONFIG_CLASSES} <= set(dir(tljax))


def test_the_contracts_that_users_implement_are_public():
    assert [c.__name__ for c in CONTRACTS if getattr(tljax, c.__name__, None) is not c] == []


def test_the_page_of_types_lists_each_contract_with_its_file_and_methods():
    rows = re.findall(r'^    ([A-Z]\w+) +(.*?) {2,}(\w+) {2,}(.*)$', types.__doc__, re.MULTILINE)
    rows = {name: (methods, file, field) for name, methods, file, field in rows}
    elsewhere = {'Stage', 'Recognisable', 'Encoded', 'Tracking'}
    assert rows.keys() == {contract.__name__ for contract in CONTRACTS} - elsewhere
    assert all(f'`{name}`' in types.__doc__ for name in elsewhere)
    fields = {field.name for field in dataclasses.fields(tljax.Experiment)}
    for name, (methods, file, field) in rows.items():
        contract = getattr(types, name)
        assert contract.__module__ == f'tljax.types.{file}', name
        assert field in fields or ' ' in field, name
        words = re.findall(r'[a-z_]+', methods.partition(':')[0])
        assert all(hasattr(contract, word) for word in words if word not in WORDS), name


def test_no_other_class_has_a_public_name():
    public = {n: getattr(tljax, n) for n in dir(tljax) if isinstance(getattr(tljax, n), type)}
    named = collections.Counter(k.__name__ for k in classes() if k.__name__ in public)
    assert [name for name, count in named.items() if count > 1] == []


def test_a_public_name_resolves():
    assert [name for name in dir(tljax) if getattr(tljax, name, None) is None] == []


def test_a_public_module_is_loaded_by_its_name_alone():
    """In a process of its own: here other tests have imported the modules already."""
    code = (
        'import tljax; tljax.calibration, tljax.probes; '
        'tljax.label_errors, tljax.scaling, tljax.selective, tljax.slices'
    )
    subprocess.run([sys.executable, '-c', code], cwd=ROOT, check=True)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match='NoSuch'):
        operator.attrgetter('NoSuch')(tljax)


def test_importing_tljax_imports_neither_jax_nor_the_rest_of_the_package():
    code = 'import tljax, sys, json; print(json.dumps(sorted(sys.modules)))'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, check=True)
    roots = {name for name in json.loads(done.stdout) if name.split('.')[0] in ('jax', 'tljax')}
    assert roots == {'tljax', 'tljax.environment'}


def test_config_json_has_the_public_name_of_a_class():
    expected = [f'tljax:{kind.__name__}' for kind in CONFIG_CLASSES]
    assert [json_form.name_of(kind) for kind in CONFIG_CLASSES] == expected
