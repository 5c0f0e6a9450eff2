"""A batch as a network takes it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.augment import CutMix, HorizontalFlip, MixUp
from tljax.models import stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.training import batch_inputs

MODEL = stages.build(ResNetSmall(), 8)


def batch(mask):
    """Images of one value each, their own label's; those that are masked out are of 255."""
    mask = np.asarray(mask, bool)
    values = np.where(mask, np.arange(len(mask)), 255)
    image = np.broadcast_to(values[:, None, None, None], (len(mask), 32, 32, 3)).astype(np.uint8)
    label = np.where(mask, np.arange(len(mask)), 7).astype(np.int32)
    return {'image': image, 'label': label, 'id': np.arange(len(mask)), 'mask': mask}


MIXING = {'mixup': (MixUp(alpha=1.0),), 'cutmix': (CutMix(),)}


def compiled(name):
    return jax.jit(functools.partial(batch_inputs.augmented, MODEL, MIXING[name]))


COMPILED = {name: compiled(name) for name in MIXING}


def run(function, mask):
    return function(jax.random.key(0), jnp.int32(3), batch(mask))


@pytest.mark.parametrize('name', MIXING)
@pytest.mark.parametrize('mask', ['11111100', '11100000', '10101010', '01111111'])
def test_rows_that_are_masked_out_are_mixed_into_no_other(name, mask):
    mask = np.array([c == '1' for c in mask])
    found = run(COMPILED[name], mask)
    np.testing.assert_array_equal(found.mask, mask)
    targets = np.asarray(found.targets)[mask]
    assert not targets[:, ~mask].any()
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    assert (targets.astype(bool).sum(1) == 2).any()  # and they are mixed with others


@pytest.mark.parametrize('name', MIXING)
def test_a_full_batch_is_mixed_as_without_a_mask(name, monkeypatch):
    found = run(COMPILED[name], np.ones(8, bool))
    monkeypatch.setattr(batch_inputs, 'partners', lambda mask: jnp.arange(len(mask)))
    for one, other in zip(found, run(compiled(name), np.ones(8, bool)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('count', [5, 6, 8])
@pytest.mark.parametrize('seed', range(5))
def test_a_row_with_an_image_is_never_its_own_partner(count, seed):
    mask = np.random.default_rng(seed).random(count) < 0.6
    mask[:2] = True
    rows = np.asarray(batch_inputs.partners(jnp.asarray(mask)))
    partner = np.roll(rows, -(count // 2))
    assert mask[rows].all()
    assert (partner != np.arange(count))[mask].all()


def test_what_changes_each_image_alone_exchanges_no_rows(monkeypatch):
    monkeypatch.setattr(batch_inputs, 'partners', None)
    batch_inputs.augmented(
        MODEL, (HorizontalFlip(),), jax.random.key(0), jnp.int32(0), batch([1, 1, 0, 0])
    )
