"""What concerns a whole batch: copies, mixing, policies, and several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tljax import augment
from tljax.augment import colors, policies
from tljax.augment.crops import RandomResizedCrop
from tljax.augment.geometric import Elastic, HorizontalFlip, Rotate
from tljax.augment.mixing import Copy, CutMix, MixUp, MixUpOrCutMix
from tljax.augment.photometric import Contrast
from tljax.augment.policies import AugMix, RandAugment, TrivialAugment

MIXES = [MixUp(), CutMix(), MixUpOrCutMix()]
each_mix = pytest.mark.parametrize('one', MIXES, ids=lambda one: type(one).__name__)
LOCAL = (RandomResizedCrop(size_px=12), HorizontalFlip(), Elastic(), TrivialAugment(), Contrast())


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def levels(count, side=16):
    """[count, side, side, 3]: image i has the value i everywhere; one-hot targets."""
    images = jnp.broadcast_to(
        jnp.arange(count, dtype=jnp.float32)[:, None, None, None], (count, side, side, 3)
    )
    return images, jnp.eye(count)


def noise(count, side=16):
    return jnp.asarray(
        np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)), jnp.float32
    )


def run(policy, images, targets, seed=0):
    function = jax.jit(functools.partial(augment.apply, policy))
    return [np.asarray(x) for x in function(keys(len(images), seed), images, targets)]


@each_mix
def test_an_image_and_its_target_are_mixed_in_the_same_proportion(one):
    """The mean of image i is i, so that of a mixture is the targets' mean of i."""
    images, targets = run((one,), *levels(8))
    np.testing.assert_allclose(images.mean((1, 2, 3)), targets @ np.arange(8), atol=1e-4)
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)


@each_mix
def test_the_partner_is_half_a_batch_away(one):
    _, targets = run((one,), *levels(8))
    for row, target in enumerate(targets):
        assert set(np.flatnonzero(target)) <= {row, (row + 4) % 8}


@each_mix
def test_a_batch_of_one_has_no_partner(one):
    images, targets = run((one,), noise(1), jnp.ones((1, 3)) / 3)
    np.testing.assert_allclose(images, noise(1), rtol=1e-5)
    np.testing.assert_allclose(targets, 1 / 3, rtol=1e-5)


@each_mix
def test_of_several_labels_those_of_both_images_stay_whole(one):
    """A label's target is the mean of what both images have, weighed by their shares."""
    images, _ = levels(8)
    targets = jnp.asarray([[1, 1, 0, 0], [1, 0, 0, 0]] * 4, jnp.float32)  # partners are alike
    targets = targets.at[4:, 2].set(1)
    _, mixed = run((one,), images, targets)
    np.testing.assert_allclose(mixed[:, :2], targets[:, :2], atol=1e-6)
    assert (mixed[:, 3] == 0).all()
    shares = mixed[:4, 2]
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares > 0).any()


def test_mixup_blends_every_pixel_alike():
    images, _ = run((MixUp(alpha=1.0),), *levels(8))
    assert images.std((1, 2, 3)).max() < 1e-5
    assert np.abs(images[:, 0, 0, 0] - np.arange(8)).max() > 0.5


def test_cutmix_pastes_a_rectangle_and_keeps_the_rest():
    images, _ = run((CutMix(),), *levels(8))
    foreign = images[..., 0] != np.arange(8)[:, None, None]
    assert 0 < foreign.mean() < 1
    for one in foreign:
        np.testing.assert_array_equal(one, np.outer(one.any(1), one.any(0)))


def test_a_batch_is_mixed_one_way_as_a_whole():
    ways = set()
    for seed in range(12):
        images, _ = run((MixUpOrCutMix(cutmix_probability=0.5, probability=0.7),), *levels(8), seed)
        even = images.std((1, 2, 3)) < 1e-5
        changed = np.abs(images[:, 0, 0, 0] - np.arange(8)) > 1e-6
        if not (images != np.asarray(levels(8)[0])).any():
            ways.add('as it was')
        elif even.all():
            assert changed.mean() > 0.5
            ways.add('MixUp')
        else:
            ways.add('CutMix')
    assert ways == {'as it was', 'MixUp', 'CutMix'}


def test_copies_stand_side_by_side_with_their_targets():
    images, targets = run((Copy(views=3),), *levels(4))
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.repeat(np.arange(4), 3))
    np.testing.assert_array_equal(targets.argmax(-1), np.repeat(np.arange(4), 3))


def test_each_copy_has_a_view_of_its_own():
    images, _ = run((Copy(views=3), Rotate(degrees=90)), noise(2), jnp.eye(2))
    assert len(np.unique(images, axis=0)) == 6


def test_copies_are_never_mixed_with_each_other():
    _, targets = run((Copy(views=4), MixUp(alpha=1.0)), *levels(2))
    assert ((targets > 0).sum(-1) == 2).all()


def test_a_copied_view_does_not_depend_on_its_place():
    policy, order = (Copy(views=2), *LOCAL), np.asarray([2, 0, 3, 1])
    function = jax.jit(functools.partial(augment.apply, policy))
    images, _ = function(keys(4), noise(4), jnp.eye(4))
    moved, _ = function(keys(4)[order], noise(4)[order], jnp.eye(4))
    rows = (2 * order[:, None] + np.arange(2)).reshape(-1)
    np.testing.assert_allclose(moved, np.asarray(images)[rows], atol=1e-3)


def compiled(policy, devices):
    """A policy over devices, and its program."""
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ('batch',))
    rows = NamedSharding(mesh, PartitionSpec('batch'))
    function = jax.jit(
        functools.partial(augment.apply, policy), in_shardings=rows, out_shardings=rows
    )
    return function.lower(keys(8), noise(8), jnp.eye(8)).compile(), rows


@pytest.mark.parametrize('policy', [LOCAL, (Copy(views=2), *LOCAL[:3], MixUp(alpha=1.0))])
def test_four_devices_see_the_images_that_one_sees(policy):
    found = []
    for devices in (1, 4):
        function, rows = compiled(policy, devices)
        found.append(function(*jax.device_put((keys(8), noise(8), jnp.eye(8)), rows)))
    # Places are rounded otherwise in another program: in noise, by a few thousandths of a level.
    for one, four in zip(*found, strict=True):
        np.testing.assert_allclose(one, four, atol=2e-2)


def test_devices_exchange_nothing_for_what_concerns_single_images():
    text = compiled((Copy(views=2), *LOCAL), 4)[0].as_text()
    assert not [
        word for word in ('all-gather', 'all-reduce', 'permute', 'all-to-all') if word in text
    ]


POLICIES = [RandAugment(), TrivialAugment(), AugMix()]


def test_randaugment_draws_every_operation_alike_at_its_strength():
    drawn = jax.vmap(RandAugment(layers=3, magnitude=7.0).draw)(keys(500))
    counts = np.bincount(np.ravel(drawn['index']), minlength=len(policies.NAMES))
    assert counts.min() > 0.6 * 1500 / len(policies.NAMES)
    np.testing.assert_allclose(np.abs(drawn['strength']), 0.7)
    assert 0.4 < (drawn['strength'] > 0).mean() < 0.6


def test_trivialaugment_draws_strengths_from_the_whole_range():
    strength = np.asarray(jax.vmap(TrivialAugment().draw)(keys(500))['strength'])
    assert strength.min() < -0.95 < 0.95 < strength.max()


def test_augmix_chains_are_of_one_to_three_operations_without_those_of_imagenet_c():
    index = np.asarray(jax.jit(jax.vmap(AugMix().draw))(keys(300))['index'])
    assert set(np.unique((index > 0).sum(-1))) == {1, 2, 3}
    used = {policies.NAMES[i] for i in np.unique(index)}
    assert not used & {'brightness', 'saturation', 'contrast', 'sharpness'}
    assert used >= {'rotate', 'equalize', 'posterize'}


def test_a_policy_does_what_its_operations_do_one_by_one():
    """Each operation, drawn alone, is the function of that name."""
    image, strength = noise(1)[0], jnp.float32(0.5)
    shade = jax.jit(policies.shade, static_argnums=2)
    wanted = {
        'identity': image,
        'brightness': colors.brightness(image, 1.45),
        'saturation': colors.saturation(image, 1.45),
        'contrast': colors.contrast(image, 1.45),
        'sharpness': colors.sharpness(image, 1.45),
        'posterize': colors.posterize(image, 6.0),
        'solarize': colors.solarize(image, 128.0),
        'auto-contrast': colors.autocontrast(image),
        'equalize': colors.equalize(image),
        **dict.fromkeys(policies.MOVES, image),
    }
    for index, name in enumerate(policies.NAMES):
        found = shade(jnp.int32(index), strength, policies.STANDARD, image)
        np.testing.assert_allclose(found, wanted[name], atol=1e-3, err_msg=name)


@pytest.mark.parametrize('name', policies.NAMES)
def test_only_what_is_named_after_a_move_moves_pixels(name):
    index = jnp.int32(policies.NAMES.index(name))
    matrix = policies.move(index, jnp.float32(0.5), policies.STANDARD, 9, 9)
    assert np.array_equal(matrix, np.eye(3)) == (name not in policies.MOVES)
