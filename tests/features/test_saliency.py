"""Grad-CAM, attention rollout and CKA against forms that share no code with them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from tests.small_runs import Tiny
from tljax.features import saliency
from tljax.features.similarity import linear_cka
from tljax.models import stages
from tljax.models.backbones.vit import ViT

CLASSES = np.array([2, 0, 1], np.int32)


def initial(backbone):
    """A network whose head is not 0, and three images for it."""
    model = stages.build(backbone, 3)
    params, stats = stages.init(model, jax.random.key(0))
    head = jax.tree.map(
        lambda leaf: jnp.cos(jnp.arange(1.0, leaf.size + 1)).reshape(leaf.shape), params['head']
    )
    side = model.preprocessing.size_px
    images = jax.random.normal(jax.random.key(9), (3, side, side, 3))
    return model, {**params, 'head': head}, stats, images


@pytest.fixture(scope='module')
def tiny():
    return initial(Tiny())


def explained(network, stage, following):
    """The output of a stage, and its Grad-CAM."""
    model, params, stats, images = network

    @jax.jit
    def run(images, classes):
        maps, _ = stages.run(model, params, stats, images, stop=following)
        return maps, saliency.grad_cam(model, params, stats, maps, classes, stage)

    return run(images, CLASSES)


def test_grad_cam_of_the_last_map_is_its_closed_form(tiny):
    _, params, _, _ = tiny
    maps, heat = explained(tiny, 'high', 'head')
    # The head averages the places, so that a logit's gradient is its weights over their number.
    weights = np.asarray(params['head']['linear']['kernel'])[:, CLASSES].T / (
        maps.shape[1] * maps.shape[2]
    )
    wanted = np.maximum((np.asarray(maps) * weights[:, None, None, :]).sum(-1), 0)
    assert wanted.max() > 0
    np.testing.assert_allclose(heat, wanted, atol=1e-4 * wanted.max())


def test_grad_cam_of_an_earlier_map_is_that_of_finite_differences(tiny):
    model, params, stats, _ = tiny
    maps, heat = explained(tiny, 'low', 'high')
    after = jax.jit(lambda x: stages.run(model, params, stats, x, start='high')[0])

    def logits(x):
        return np.asarray(after(x))[np.arange(3), CLASSES]

    step, places = 1e-3, maps.shape[1] * maps.shape[2]
    weights = np.stack(
        [
            (logits(maps.at[..., c].add(step)) - logits(maps.at[..., c].add(-step))) / (2 * step)
            for c in range(maps.shape[-1])
        ],
        -1,
    )
    wanted = np.maximum((np.asarray(maps) * weights[:, None, None] / places).sum(-1), 0)
    np.testing.assert_allclose(heat, wanted, atol=0.02 * wanted.max())


def norm(x, leaves):
    """A layer norm in float64."""
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * leaves['scale'] + leaves['bias']


def dense(x, leaves):
    return x @ leaves['kernel'] + leaves['bias']


def plain_rollout(params, images, patch, head_width):
    """A ViT in NumPy loops, which keeps the attention of each block: [B, patches]."""
    leaves = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    embed, side = leaves['embed'], images.shape[1] // patch
    results = []
    for image in np.asarray(images, np.float64):
        tokens = [embed['class_token'][0, 0]]
        for row in range(side):
            for column in range(side):
                part = image[row * patch :, column * patch :][:patch, :patch]
                kernel = embed['patch']['kernel']
                tokens.append((part[..., None] * kernel).sum((0, 1, 2)) + embed['patch']['bias'])
        x = np.stack(tokens) + embed['position_embedding'][0]
        flow = np.eye(len(x))
        for name in (name for name in leaves if name.startswith('block')):
            block = leaves[name]
            q, k, v = np.split(dense(norm(x, block['norm1']), block['qkv']), 3, -1)
            heads, outputs = [], []
            for at in range(0, q.shape[1], head_width):
                head = slice(at, at + head_width)
                scores = q[:, head] @ k[:, head].T / np.sqrt(head_width)
                heads.append(scipy.special.softmax(scores, -1))
                outputs.append(heads[-1] @ v[:, head])
            x = x + dense(np.concatenate(outputs, -1), block['out'])
            inner = dense(norm(x, block['norm2']), block['fc1'])
            inner = inner * (1 + scipy.special.erf(inner / np.sqrt(2))) / 2
            x = x + dense(inner, block['fc2'])
            flow = 0.5 * (np.mean(heads, 0) + np.eye(len(x))) @ flow
        results.append(flow[0, 1:].reshape(side, side))
    return np.stack(results)


def test_attention_rollout_is_that_of_a_vit_in_numpy():
    backbone = ViT(width=12, depth=2, patch_px=4, size_px=12, head_width=6)
    model, params, stats, images = initial(backbone)
    params = jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    rollout = jax.jit(functools.partial(saliency.attention_rollout, model))(params, stats, images)
    wanted = plain_rollout(params, images, 4, 6)
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(rollout, wanted, atol=1e-4)


def test_a_network_without_maps_has_no_stage_for_grad_cam():
    backbone = ViT(width=8, depth=1, patch_px=4, size_px=8, head_width=4)
    model = stages.build(backbone, 3)
    assert saliency.map_stage(model) is None
    assert saliency.has_attention(model)


def test_cka_is_the_ratio_of_squared_cross_covariances():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 5)), rng.normal(size=(30, 7))
    a, b = x - x.mean(0), y - y.mean(0)
    wanted = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert linear_cka(x, y) == pytest.approx(wanted, rel=1e-9)


def test_cka_is_1_for_rotated_and_scaled_features_and_nan_for_constant_ones():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, 4))
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    assert linear_cka(x, 3 * x @ rotation + 1) == pytest.approx(1)
    assert np.isnan(linear_cka(x, np.ones((20, 2))))
