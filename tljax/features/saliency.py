"""Saliency: Grad-CAM for feature maps, attention rollout, and the importance of tokens."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from tljax.models import stages
from tljax.models.recurrent import unmarked
from tljax.models.stages import HEAD, Model
from tljax.models.transformer import Block
from tljax.types import Params, Stats


def map_stage(model: Model) -> str | None:
    """The last stage before the head whose output is larger than 1 × 1; None if there is none."""
    maps = [
        name
        for name, shape, _ in stages.describe(model)
        if name != HEAD and len(shape) == 3 and shape[0] * shape[1] > 1
    ]
    return maps[-1] if maps else None


def grad_cam(
    model: Model, params: Params, stats: Stats, maps: jax.Array, classes: jax.Array, stage: str
) -> jax.Array:
    """The contribution of each position of a feature map to the logit of a class.

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2: each channel is weighted by the
    mean over positions of the gradient of the logit; negative sums become 0.

    Args:
        model: the network.
        params: its parameters, without adapters.
        stats: its running statistics.
        maps: [B, h, w, C], the output of `stage`.
        classes: [B] int, the class to explain for each image.
        stage: a stage before the head.

    Returns:
        [B, h, w] float32, at least 0.
    """
    following = model.names[model.names.index(stage) + 1]

    def logits(x: jax.Array) -> jax.Array:
        scores, _ = stages.run(model, params, stats, x, start=following)
        return jnp.take_along_axis(scores, classes[:, None], 1).sum()

    weights = jax.grad(logits)(maps).mean((1, 2), keepdims=True)
    return jax.nn.relu((weights * maps).sum(-1))


def has_attention(model: Model) -> bool:
    """Whether attention rollout applies: the network has transformer blocks."""
    return any(isinstance(stage, Block) for stage in model.stages.values())


def attention_rollout(model: Model, params: Params, stats: Stats, x: jax.Array) -> jax.Array:
    """The contribution of each patch to the class token through all blocks.

    Source: Abnar & Zuidema 2020, "Quantifying Attention Flow in Transformers", section 4: the
    product over the blocks of (A + I) / 2, where A is the mean attention over the heads.

    Args:
        model: a vision transformer.
        params: its parameters, without adapters.
        stats: its running statistics.
        x: normalised images [B, H, W, C].

    Returns:
        [B, h, w] float32, one value per patch.
    """
    flow = None
    for name, stage in model.stages.items():
        if name == HEAD:
            break
        variables = {'params': params[name], 'batch_stats': stats.get(name, {})}
        x, state = stage.apply(  # type: ignore[misc]
            variables,
            x,
            deterministic=True,
            use_running_average=True,
            mutable=['intermediates'],
            capture_intermediates=lambda module, _: module.name == 'qkv',
        )
        if isinstance(stage, Block):
            qkv: Any = state['intermediates']['qkv']['__call__'][0]  # type: ignore[index]
            step = _step(qkv, stage.head_width)
            flow = step if flow is None else step @ flow
    assert flow is not None
    patches = flow[:, 0, 1:]
    side = math.isqrt(patches.shape[1])
    return patches.reshape(len(patches), side, side)


def _step(qkv: jax.Array, head_width: int) -> jax.Array:
    """(A + I) / 2 [B, T, T] of a block with queries, keys and values [B, T, 3 width]."""
    heads = qkv.reshape(*qkv.shape[:2], -1, head_width)
    q, k, _ = jnp.split(heads, 3, axis=2)
    scores = jnp.einsum('bqhd,bkhd->bhqk', q, k) / math.sqrt(head_width)
    attention = jax.nn.softmax(scores).mean(1)
    return (attention + jnp.eye(attention.shape[-1])[None]) / 2


def token_importance(
    model: Model, params: Params, stats: Stats, tokens: jax.Array, classes: jax.Array
) -> jax.Array:
    """How much each token of a text speaks for a class: gradient times input.

    The logit of the class has a gradient with respect to the embedding of each token. Its product
    with the embedding is the change of the logit, to first order, if the embedding were there and
    not 0. Source: Denil et al. 2014, "Extraction of salient sentences"; Shrikumar et al. 2016.

    Args:
        model: a network of text.
        params: its parameters, without adapters.
        stats: its running statistics.
        tokens: [B, T] int32.
        classes: [B] int, the class to explain for each text.

    Returns:
        [B, T] float32; positive for the class, 0 at padding.
    """
    second = model.names[1]
    embedded, _ = stages.run(model, params, stats, tokens, stop=second)

    def logits(x: jax.Array) -> jax.Array:
        scores, _ = stages.run(model, params, stats, x, start=second)
        return jnp.take_along_axis(scores, classes[:, None], 1).sum()

    values, mask = unmarked(embedded)
    gradient, _ = unmarked(jax.grad(logits)(embedded))
    return jnp.where(mask, (gradient * values).sum(-1), 0.0)
