"""Layers with torch's conventions, so that ported weights give the same outputs."""

import enum
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tljax.models import convolutions

# He et al. 2015, "Delving deep into rectifiers"; fan-out as in torchvision's ResNet and VGG.
he_normal = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, as in torch.

    The batch is normalised by its biased variance and the running variance is updated with the
    unbiased one (n / (n - 1)), unlike in Flax's own layer. `stats_decay` is the share of the old
    running value that is kept, one minus torch's `momentum`.

    Source: Ioffe & Szegedy 2015; torch.nn.BatchNorm2d.
    """

    stats_decay: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: jax.Array, *, use_running_average: bool) -> jax.Array:
        """[..., C] to [..., C]; updates `batch_stats` unless running averages are used.

        Arithmetic is in float32 or wider and the result is rounded once to the dtype of `x`.
        `x * gain` and `shift` cancel where a channel's mean is much larger than its standard
        deviation, so rounding one of them alone would lose digits.

        With a bias and no scale the layer was folded into the one before (`batch_norm_folding`).
        """
        dtype, x = x.dtype, x.astype(jnp.promote_types(x.dtype, jnp.float32))
        channels = x.shape[-1]
        row = (1,) * (x.ndim - 1) + (channels,)
        if self.has_variable('params', 'bias') and not self.has_variable('params', 'scale'):
            return (x + self.get_variable('params', 'bias').reshape(row)).astype(dtype)
        scale = self.param('scale', nn.initializers.ones, (channels,))
        bias = self.param('bias', nn.initializers.zeros, (channels,))
        mean = self.variable('batch_stats', 'mean', jnp.zeros, (channels,))
        var = self.variable('batch_stats', 'var', jnp.ones, (channels,))
        if use_running_average:
            batch_mean, batch_var = mean.value, var.value
        else:
            batch_mean, batch_var = _moments(x)
            if not self.is_initializing():
                n = x.size // channels
                unbiased = batch_var * (n / max(n - 1, 1))
                keep = self.stats_decay
                mean.value = keep * mean.value + (1 - keep) * batch_mean
                var.value = keep * var.value + (1 - keep) * unbiased
        gain = scale * jax.lax.rsqrt(batch_var + self.epsilon)
        shift = bias - batch_mean * gain
        return (x * gain.reshape(row) + shift.reshape(row)).astype(dtype)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance over all axes but the last."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes, keepdims=True)
    return mean.reshape(-1), jnp.square(x - mean).mean(axes)


def conv(
    features: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    convolve: Callable[..., jax.Array] = convolutions.convolve,
    name: str | None = None,
) -> nn.Conv:
    """A square convolution with padding (kernel - 1) // 2 on each side, as in torch.

    With stride 2, Flax's `SAME` pads less before than after. `convolve` replaces
    `lax.conv_general_dilated` and has its arguments.
    """
    pad = (kernel - 1) // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=((pad, pad), (pad, pad)),
        feature_group_count=groups,
        use_bias=use_bias,
        kernel_init=he_normal,
        conv_general_dilated=convolve,
        name=name,
    )


def layer_norm(epsilon: float, name: str) -> nn.LayerNorm:
    """Layer normalisation over the last axis, with the exact variance as in torch.

    Flax's default, the mean of squares minus the squared mean, loses digits.
    """
    return nn.LayerNorm(epsilon=epsilon, use_fast_variance=False, name=name)


def dense(features: int, name: str, *, use_bias: bool = True) -> nn.Dense:
    """A linear layer with the initialisation of vision transformers.

    Source: Touvron et al. 2021, DeiT: a truncated normal with standard deviation 0.02.
    """
    initial = nn.initializers.truncated_normal(0.02)
    return nn.Dense(features, use_bias=use_bias, kernel_init=initial, name=name)


def max_pool(x: jax.Array, window: int, stride: int, pad: int = 0) -> jax.Array:
    """[B, H, W, C] to the maxima of its windows; the border is minus infinity.

    Computed as the maximum of shifted views, because the gradient of `lax.reduce_window`, XLA's
    select-and-scatter, is slow on CPU.
    """
    height, width = x.shape[1:3]
    x = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-jnp.inf)
    rows, cols = ((n + 2 * pad - window) // stride + 1 for n in (height, width))
    result = None
    for i in range(window):
        for j in range(window):
            view = x[:, i : i + stride * rows : stride, j : j + stride * cols : stride]
            view = view[:, :rows, :cols]
            result = view if result is None else jnp.maximum(result, view)
    assert result is not None
    return result


# Options with which XLA's CPU compiler keeps barriers: this pass removes them before operations are
# fused. A program with a barrier in a loop cannot be compiled so.
KEEP_BARRIERS: dict[str, str | bool] = {'xla_disable_hlo_passes': 'cse_barrier_expander'}


@jax.custom_jvp
def stored(x: jax.Array) -> jax.Array:
    """`x` itself; where a gradient is taken, `x` and its gradient are computed once and stored.

    For the sum at the end of a residual block. XLA's CPU compiler fuses such sums into everything
    that reads them, so that each block computed the sums of all blocks before and after it again.
    Barriers prevent it; on CPU they have an effect in programs that are compiled with
    `KEEP_BARRIERS`. `python -m benchmarks.residual_sums` measures it.
    """
    return x


@stored.defjvp
def _stored_tangent(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    return jax.lax.optimization_barrier(primals[0]), jax.lax.optimization_barrier(tangents[0])


def drop_path(rate: float, deterministic: bool) -> Callable[[jax.Array], jax.Array]:
    """Stochastic depth: in training, an example's branch [B, ...] is 0 with probability `rate`.

    The branches that stay are divided by 1 - `rate`, so that the mean does not change.

    Source: Huang et al. 2016, "Deep networks with stochastic depth"; timm's `DropPath`.
    """

    def dropped(x: jax.Array) -> jax.Array:
        axes = tuple(range(1, x.ndim))
        return nn.Dropout(rate, broadcast_dims=axes, deterministic=deterministic)(x)

    return dropped if rate else lambda x: x


def drop_path_rates(last: float, depth: int) -> list[float]:
    """The rate of each of `depth` blocks: linear from 0 to `last`, as in timm and torchvision."""
    return [last * index / max(depth - 1, 1) for index in range(depth)]


def adaptive_average_pool(x: jax.Array, size: int) -> jax.Array:
    """[B, H, W, C] to [B, size, size, C]; windows overlap where size does not divide H or W.

    Source: torch.nn.AdaptiveAvgPool2d: window i spans floor(i H / size) to ceil((i + 1) H / size).
    """
    if x.shape[1:3] == (size, size):
        return x
    exact = jnp.promote_types(x.dtype, jnp.float32)
    rows, cols = (_pooling_matrix(n, size, exact) for n in x.shape[1:3])
    return jnp.einsum('ih,bhwc,jw->bijc', rows, x.astype(exact), cols).astype(x.dtype)


def _pooling_matrix(n: int, size: int, dtype: jnp.dtype) -> jax.Array:
    matrix = np.zeros((size, n))
    for i in range(size):
        start, stop = i * n // size, -(-(i + 1) * n // size)
        matrix[i, start:stop] = 1 / (stop - start)
    return jnp.asarray(matrix, dtype)


class Pooling(enum.Enum):
    """How maps [B, H, W, C] or tokens [B, T, F] become vectors.

    `AVERAGE` is the mean of maps and the first token, the class token. `MEAN` is the mean of maps
    and of the tokens after the first. `CONCATENATED` is `AVERAGE` followed by the maximum of maps,
    or by the mean of the other tokens. Transformers without a class token have maps, and those that
    were trained with attention pooling have it as a stage, `transformer.AttentionPool`.
    """

    AVERAGE = 'average'
    MEAN = 'mean'
    CONCATENATED = 'concatenated'


def pool(x: jax.Array, pooling: Pooling = Pooling.AVERAGE) -> jax.Array:
    """Maps, tokens or vectors [B, F] to vectors [B, F or 2 F]; vectors are returned unchanged."""
    if x.ndim == 2:
        return x
    if pooling is Pooling.MEAN:
        return x[:, 1:].mean(1) if x.ndim == 3 else x.mean((1, 2))
    first, second = (x[:, 0], x[:, 1:].mean(1)) if x.ndim == 3 else (x.mean((1, 2)), x.max((1, 2)))
    return first if pooling is Pooling.AVERAGE else jnp.concatenate([first, second], -1)


class ClassifierHead(nn.Module):
    """Pooling, hidden layers with ReLU, dropout before each layer, and a last linear layer.

    With `kernel_std` 0 the last layer starts at zero: the first loss is log K for any features, and
    no random gradient reaches the pretrained layers below.
    """

    num_classes: int
    pooling: Pooling = Pooling.AVERAGE
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    kernel_std: float = 0.0

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C], [B, T, F] or [B, F] to [B, K] logits."""
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        x = pool(x, self.pooling)
        for index, width in enumerate(self.hidden):
            layer = nn.Dense(width, kernel_init=he_normal, name=f'hidden{index + 1}')
            x = nn.relu(layer(drop(x)))
        zeros = nn.initializers.zeros
        kernel_init = nn.initializers.normal(self.kernel_std) if self.kernel_std else zeros
        return nn.Dense(self.num_classes, kernel_init=kernel_init, name='linear')(drop(x))


class ProjectionHead(nn.Module):
    """A linear map of the class token without a bias, into a space of embeddings."""

    features: int

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, H, W, C], [B, T, F] or [B, F] to [B, features]."""
        initial = nn.initializers.normal(x.shape[-1] ** -0.5)
        return nn.Dense(self.features, use_bias=False, kernel_init=initial, name='projection')(
            pool(x)
        )
