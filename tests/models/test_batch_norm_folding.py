"""BatchNorm is folded only where nothing but it reads what the layer before it returns."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax import tree
from tljax.models import batch_norm_folding, layers
from tljax.models.stages import Model, run
from tljax.types import Dtype, Preprocessing

PLAIN = Preprocessing(size_px=6, resize_px=6, mean=(0.0,) * 3, std=(1.0,) * 3)


class Stage(nn.Module):
    """A stage of a user's own."""

    body: Callable[..., jax.Array]

    @nn.compact
    def __call__(self, x, *, deterministic, use_running_average):
        """See `types.Backbone`."""
        return self.body(x, conv=_conv, norm=_norm)


def _conv(name):
    return layers.conv(3, 3, name=name)


def _norm(name):
    norm = layers.BatchNorm(name=name)
    return lambda x: norm(x, use_running_average=True)


def _network(body):
    """A model of one stage, its parameters and statistics, none of which is at its start."""
    model = Model(stages={'body': Stage(body)}, preprocessing=PLAIN, num_classes=3)
    x = jnp.zeros((1, 6, 6, 3))
    shapes = jax.eval_shape(
        lambda: model.stages['body'].init(
            jax.random.key(0), x, deterministic=True, use_running_average=True
        )
    )
    draw = np.random.default_rng(0)
    values = jax.tree.map(lambda a: draw.uniform(0.5, 1.5, a.shape).astype(np.float32), shapes)
    return model, {'body': values['params']}, {'body': values['batch_stats']}


def _folded_norms(body) -> set[str]:
    """The BatchNorms that are folded, after the output was seen to stay the same."""
    model, params, stats = _network(body)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 6, 3)), jnp.float32)
    after = batch_norm_folding.folded(model, params, stats, ['body'])
    found, wanted = (np.asarray(run(model, *values, x)[0]) for values in (after, (params, stats)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    gone = tree.flatten(stats).keys() - tree.flatten(after[1]).keys()
    return {path.split('/')[1] for path in gone}


def _pre_activation(x, conv, norm):
    """He et al. 2016: the sum's branch starts with its own BatchNorm."""
    x = conv('stem')(x)
    return x + conv('second')(nn.relu(norm('between')(conv('first')(nn.relu(norm('pre')(x))))))


def _returned_too(x, conv, norm):
    y = conv('a')(x)
    return jnp.concatenate([norm('n')(y), y], -1)


def _two_norms(x, conv, norm):
    y = conv('a')(x)
    return norm('n')(y) + norm('m')(y)


def _conv_twice(x, conv, norm):
    shared = conv('a')
    return norm('n')(shared(x)) + shared(2 * x)


def _conv_twice_one_after_the_other(x, conv, norm):
    shared = conv('a')
    return norm('n')(shared(shared(x)))


def _norm_twice(x, conv, norm):
    shared = norm('n')
    return shared(conv('a')(x)) + shared(conv('b')(x))


def _kernel_read_elsewhere(x, conv, norm):
    layer = conv('a')
    y = norm('n')(layer(x))
    return y * jnp.square(layer.variables['params']['kernel']).sum()


class _Standardised(nn.Conv):
    """Qiao et al. 2019: a kernel's scale does not count."""

    def param(self, name, *rest, **options):
        """See `nn.Module`."""
        value = super().param(name, *rest, **options)
        return jnp.sign(value) if name == 'kernel' else value


def _kernel_changed(x, conv, norm):
    return norm('n')(_Standardised(3, (3, 3), name='a')(x))


class _Rectified(layers.BatchNorm):
    """Does something before it normalises."""

    @nn.compact
    def __call__(self, x, *, use_running_average):
        """See `layers.BatchNorm`."""
        return super().__call__(nn.relu(x), use_running_average=use_running_average)


def _norm_changed(x, conv, norm):
    return _Rectified(name='n')(conv('a')(x), use_running_average=True)


@pytest.mark.parametrize(
    ('body', 'wanted'),
    [
        (lambda x, conv, norm: norm('n')(conv('a')(x)), {'n'}),
        (lambda x, conv, norm: norm('n')(nn.Dropout(0.5, deterministic=True)(conv('a')(x))), {'n'}),
        (_pre_activation, {'between'}),
        (_returned_too, set()),
        (_two_norms, set()),
        (_conv_twice, set()),
        (_conv_twice_one_after_the_other, set()),
        (_norm_twice, set()),
        (_kernel_read_elsewhere, set()),
        (_kernel_changed, set()),
        (_norm_changed, set()),
    ],
)
def test_a_norm_is_folded_only_where_it_is_the_one_reader_of_a_layer(body, wanted):
    assert _folded_norms(body) == wanted


def test_a_folded_norm_adds_its_bias_in_float32_in_bfloat16_too():
    """The bias is near to minus the mean in deviations, and cancels the layer's output."""
    model, params, stats = _network(lambda x, conv, norm: norm('n')(conv('a')(x)))
    norm = stats['body']['n']
    norm['mean'], norm['var'] = 16.3 * norm['mean'], np.full(3, 1.0, np.float32)
    params, stats = batch_norm_folding.folded(model, params, stats, ['body'])
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 6, 3)), jnp.float32)
    y, _ = run(model, params, stats, x, dtype=Dtype.BFLOAT16)
    bias, zero = params['body']['n']['bias'], {'n': {'bias': jnp.zeros(3)}}
    layer, _ = run(model, {'body': {**params['body'], **zero}}, stats, x, dtype=Dtype.BFLOAT16)
    wanted = layer.astype(jnp.float32) + bias.reshape(1, 1, 1, -1)
    np.testing.assert_array_equal(y, wanted.astype(jnp.bfloat16).astype(y.dtype))
