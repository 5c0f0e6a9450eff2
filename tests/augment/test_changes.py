"""What augmentations change is known for every augmentation that moves or recolors pixels."""

import inspect

import pytest

import tljax
from tljax import augment
from tljax.augment import changes, photometric
from tljax.augment.compose import Geometric

PUBLIC = [value for value in vars(tljax.augment).values() if inspect.isclass(value)]
NEUTRAL = {'Sharpness'}  # it changes neither a position nor the mean of a channel


def names_of_moving():
    """The public operations that move pixels or change colors."""
    colors = {name for name, one in vars(photometric).items() if inspect.isclass(one)}
    moving = {one.__name__ for one in PUBLIC if issubclass(one, Geometric)}
    return (moving | colors & {one.__name__ for one in PUBLIC}) - NEUTRAL


@pytest.mark.parametrize('name', sorted(names_of_moving()))
def test_each_of_them_is_listed(name):
    assert name == 'Affine' or set(changes.CHANGES[name]) <= set(changes.KINDS)


def test_the_names_are_those_of_classes():
    assert all(hasattr(tljax, name) for name in changes.CHANGES)


def test_an_affine_map_changes_what_its_fields_say():
    assert changes.of(augment.Affine()) == ()
    assert changes.of(augment.Affine(rotate_degrees=5, shift_share=0.1)) == ('rotation', 'shift')


def test_a_class_of_the_users_own_states_its_changes():
    class Own:
        changes = ('scale',)

    assert changes.conflicts(Own(), ('scale', 'shift')) == 'scale'
    assert changes.conflicts(object(), ('scale',)) == ''
