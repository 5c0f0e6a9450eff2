"""Augmentations of a full batch, policies, and several devices."""

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

ROWS = 8
MIXES = [MixUp(), CutMix(), MixUpOrCutMix()]
each_mix = pytest.mark.parametrize('index', range(3), ids=['MixUp', 'CutMix', 'MixUpOrCutMix'])
MOVES = (Copy(views=2), RandomResizedCrop(size_px=12), HorizontalFlip(), Elastic())
POLICIES = {
    'copied': (*MOVES, Contrast()),
    'mixed': (Copy(views=2), HorizontalFlip(), MixUp(alpha=1.0)),
    'copied, with a policy': (*MOVES, TrivialAugment(), Contrast()),
    'moved and mixed': (*MOVES, MixUp(alpha=1.0)),
}


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


@functools.cache
def all_mixes():
    """A program that applies each of `MIXES` to a batch."""
    return jax.jit(lambda *batch: [augment.apply((one,), *batch) for one in MIXES])


def mixed(index, images, targets):
    """The images and the targets that one of `MIXES` returns for `ROWS` images."""
    images, targets = all_mixes()(keys(ROWS), images, targets)[index]
    return np.asarray(images), np.asarray(targets)


@each_mix
def test_an_image_and_its_target_are_mixed_in_the_same_proportion(index):
    """Image i has the value i, so a mixture's mean is the mean of i under its target."""
    images, targets = mixed(index, *levels(ROWS))
    np.testing.assert_allclose(images.mean((1, 2, 3)), targets @ np.arange(8), atol=1e-4)
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)


@each_mix
def test_the_partner_is_half_a_batch_away(index):
    _, targets = mixed(index, *levels(ROWS))
    for row, target in enumerate(targets):
        assert set(np.flatnonzero(target)) <= {row, (row + 4) % 8}


# A share from Beta(1, 1) compiles ten times faster than one from another Beta distribution.
@pytest.mark.parametrize(
    'one',
    [
        MixUp(alpha=1.0),
        CutMix(),
        pytest.param(MixUp(), marks=pytest.mark.slow),
        pytest.param(MixUpOrCutMix(), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_batch_of_one_has_no_partner(one):
    images, targets = run((one,), noise(1), jnp.ones((1, 3)) / 3)
    np.testing.assert_allclose(images, noise(1), rtol=1e-5)
    np.testing.assert_allclose(targets, 1 / 3, rtol=1e-5)


@each_mix
def test_a_label_of_both_images_keeps_its_target(index):
    """A label of one image alone gets the image's share; a label of neither image stays 0."""
    images, _ = levels(ROWS)
    targets = jnp.zeros((ROWS, ROWS)).at[:, 0].set(1).at[::2, 1].set(1)  # as in the partner
    targets = targets.at[4:, 2].set(1)
    _, result = mixed(index, images, targets)
    np.testing.assert_allclose(result[:, :2], targets[:, :2], atol=1e-6)
    assert (result[:, 3:] == 0).all()
    shares = result[:4, 2]
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares > 0).any()


def test_mixup_blends_all_pixels_by_the_same_share():
    images, _ = mixed(0, *levels(ROWS))
    assert images.std((1, 2, 3)).max() < 1e-5
    assert np.abs(images[:, 0, 0, 0] - np.arange(ROWS)).max() > 0.5


def test_cutmix_pastes_a_rectangle_and_keeps_the_rest():
    images, _ = mixed(1, *levels(ROWS))
    pasted = images[..., 0] != np.arange(ROWS)[:, None, None]
    assert 0 < pasted.mean() < 1
    for one in pasted:
        np.testing.assert_array_equal(one, np.outer(one.any(1), one.any(0)))


def test_all_images_of_a_batch_are_mixed_in_the_same_way():
    ways = set()
    images, targets = levels(ROWS)
    one = MixUpOrCutMix(mixup_alpha=1.0, cutmix_probability=0.5, probability=0.7)
    batches = jax.jit(jax.vmap(lambda keys: augment.apply((one,), keys, images, targets)[0]))
    for batch in np.asarray(batches(jnp.stack([keys(ROWS, seed) for seed in range(12)]))):
        even = np.ptp(batch, (1, 2, 3)) < 1e-4
        changed = np.abs(batch[:, 0, 0, 0] - np.arange(ROWS)) > 1e-6
        if np.array_equal(batch, images):
            ways.add('unchanged')
        elif even.all():
            assert changed.mean() > 0.5
            ways.add('MixUp')
        else:
            ways.add('CutMix')
    assert ways == {'unchanged', 'MixUp', 'CutMix'}


def test_copies_are_adjacent_and_keep_their_targets():
    images, targets = run((Copy(views=3),), *levels(4))
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.repeat(np.arange(4), 3))
    np.testing.assert_array_equal(targets.argmax(-1), np.repeat(np.arange(4), 3))


def test_each_copy_is_augmented_differently():
    images, _ = run((Copy(views=3), Rotate(degrees=90)), noise(2), jnp.eye(2))
    assert len(np.unique(images, axis=0)) == 6


def test_copies_are_never_mixed_with_each_other():
    _, targets = run((Copy(views=4), MixUp(alpha=1.0)), *levels(2))
    assert ((targets > 0).sum(-1) == 2).all()


@functools.cache
def compiled(name, devices):
    """A program that applies one of `POLICIES` to `ROWS` images, and its sharding."""
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ('batch',))
    rows = NamedSharding(mesh, PartitionSpec('batch'))
    function = jax.jit(
        functools.partial(augment.apply, POLICIES[name]), in_shardings=rows, out_shardings=rows
    )
    return function.lower(keys(ROWS), noise(ROWS), jnp.eye(ROWS)).compile(), rows


def on_devices(name, devices, order=range(ROWS)):
    """The images and targets of one of `POLICIES` for `ROWS` images in an order."""
    function, rows = compiled(name, devices)
    order = np.asarray(order)
    batch = keys(ROWS)[order], noise(ROWS)[order], jnp.eye(ROWS)[order]
    return [np.asarray(x) for x in function(*jax.device_put(batch, rows))]


some_policies = pytest.mark.parametrize(
    'name', ['copied', pytest.param('copied, with a policy', marks=pytest.mark.slow)]
)


@some_policies
def test_a_copied_view_does_not_depend_on_its_place(name):
    order = np.asarray([2, 0, 3, 1, 7, 6, 4, 5])
    images, _ = on_devices(name, 1)
    reordered, _ = on_devices(name, 1, order)
    rows = (2 * order[:, None] + np.arange(2)).reshape(-1)
    np.testing.assert_allclose(reordered, images[rows], atol=1e-3)


@pytest.mark.parametrize(
    'name',
    ['copied', 'mixed', *(pytest.param(n, marks=pytest.mark.slow) for n in [*POLICIES][2:])],
)
def test_four_devices_give_the_same_images_as_one(name):
    one_device, four_devices = (on_devices(name, devices) for devices in (1, 4))
    # Another program rounds positions otherwise: in noise, by a few thousandths of a level.
    for one, four in zip(one_device, four_devices, strict=True):
        np.testing.assert_allclose(one, four, atol=2e-2)


@some_policies
def test_devices_exchange_nothing_for_augmentations_of_single_images(name):
    text = compiled(name, 4)[0].as_text()
    exchanges = ('all-gather', 'all-reduce', 'permute', 'all-to-all')
    assert not [word for word in exchanges if word in text]


def test_randaugment_draws_every_operation_equally_often_at_its_strength():
    drawn = jax.jit(jax.vmap(RandAugment(layers=3, magnitude=7.0).draw))(keys(500))
    counts = np.bincount(np.ravel(drawn['index']), minlength=len(policies.NAMES))
    assert counts.min() > 0.6 * 1500 / len(policies.NAMES)
    np.testing.assert_allclose(np.abs(drawn['strength']), 0.7)
    assert 0.4 < (drawn['strength'] > 0).mean() < 0.6


def test_trivialaugment_draws_strengths_from_the_full_range():
    strength = np.asarray(jax.jit(jax.vmap(TrivialAugment().draw))(keys(500))['strength'])
    assert strength.min() < -0.95 < 0.95 < strength.max()


def test_augmix_chains_are_of_one_to_three_operations_without_those_of_imagenet_c():
    index = np.asarray(jax.jit(jax.vmap(AugMix().draw))(keys(300))['index'])
    assert set(np.unique((index > 0).sum(-1))) == {1, 2, 3}
    used = {policies.NAMES[i] for i in np.unique(index)}
    assert not used & {'brightness', 'saturation', 'contrast', 'sharpness'}
    assert used >= {'rotate', 'equalize', 'posterize'}


def test_an_index_of_a_policy_is_the_operation_of_that_name():
    image, strength = noise(1)[0], jnp.float32(0.5)

    @jax.jit
    def expected(image):
        return {
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

    images = expected(image)
    shade = jax.jit(policies.shade, static_argnums=2)
    for index, name in enumerate(policies.NAMES):
        result = shade(jnp.int32(index), strength, policies.STANDARD, image)
        np.testing.assert_allclose(result, images[name], atol=1e-3, err_msg=name)


@functools.cache
def policy_matrices():
    """The matrix of each operation of the policies: [names, 3, 3]."""
    move = jax.vmap(lambda index: policies.move(index, jnp.float32(0.5), policies.STANDARD, 9, 9))
    return np.asarray(jax.jit(move)(jnp.arange(len(policies.NAMES))))


@pytest.mark.parametrize('index', range(len(policies.NAMES)), ids=policies.NAMES)
def test_only_operations_named_as_moves_move_pixels(index):
    moves = policies.NAMES[index] in policies.MOVES
    assert np.array_equal(policy_matrices()[index], np.eye(3)) != moves
