"""The inputs of a network: augmented and mixed images, and their masks."""

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
    """Images whose only value is their label; those without a mask have the value 255."""
    mask = np.asarray(mask, bool)
    values = np.where(mask, np.arange(len(mask)), 255)
    image = np.broadcast_to(values[:, None, None, None], (len(mask), 32, 32, 3)).astype(np.uint8)
    label = np.where(mask, np.arange(len(mask)), 7).astype(np.int32)
    return {'input': image, 'label': label, 'id': np.arange(len(mask)), 'mask': mask}


MIXING = {'mixup': (MixUp(alpha=1.0),), 'cutmix': (CutMix(),)}


COMPILED = {
    name: jax.jit(functools.partial(batch_inputs.augmented, MODEL, augmentations))
    for name, augmentations in MIXING.items()
}
PARTNERS = jax.jit(batch_inputs.partners)


@pytest.mark.parametrize('name', MIXING)
@pytest.mark.parametrize('mask', ['11111100', '11100000', '10101010', '01111111'])
def test_padding_is_mixed_into_no_image(name, mask):
    mask = np.array([c == '1' for c in mask])
    inputs = COMPILED[name](jax.random.key(0), jnp.int32(3), batch(mask))
    np.testing.assert_array_equal(inputs.mask, mask)
    targets = np.asarray(inputs.targets)[mask]
    assert not targets[:, ~mask].any()
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)
    assert (targets.astype(bool).sum(1) == 2).any()  # images are mixed with each other


@pytest.mark.parametrize('count', [5, 6, 8])
def test_a_full_batch_keeps_its_order_for_mixing(count):
    np.testing.assert_array_equal(PARTNERS(jnp.ones(count, bool)), np.arange(count))


@pytest.mark.parametrize('count', [5, 6, 8])
@pytest.mark.parametrize('seed', range(5))
def test_an_image_is_never_its_own_partner(count, seed):
    mask = np.random.default_rng(seed).random(count) < 0.6
    mask[:2] = True
    rows = np.asarray(PARTNERS(jnp.asarray(mask)))
    partner = np.roll(rows, -(count // 2))
    assert mask[rows].all()
    assert (partner != np.arange(count))[mask].all()


def test_an_augmentation_of_single_images_looks_for_no_partners(monkeypatch):
    monkeypatch.setattr(batch_inputs, 'partners', None)
    function = functools.partial(batch_inputs.augmented, MODEL, (HorizontalFlip(),))
    jax.eval_shape(function, jax.random.key(0), jnp.int32(0), batch([1, 1, 0, 0]))
