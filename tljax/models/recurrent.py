"""LSTM layers with the dropout of AWD-LSTM (Merity et al. 2017), and rows with marks of padding.

Stages of a text network pass `[B, T, F + 1]`: the last feature marks tokens by 1 and padding by 0.
"""

from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax.models import layers
from tljax.types import PADDING, InputError, TextPreprocessing

EMBEDDING = 'embedding'  # the leaf of `Embed`
CARRIED = 'carried'  # the variable of an `LSTM` that continues from the window before
CHUNK = 32  # tokens; a chunk without a token in any row is not computed
State = tuple[jax.Array, jax.Array]  # the output and the cell of a layer, [B, hidden] each


def marked(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Features [B, T, F] of tokens with their marks [B, T] as the last feature."""
    return jnp.concatenate([values, mask.astype(values.dtype)[..., None]], -1)


def unmarked(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse of `marked`: features [B, T, F], and bool [B, T], False for padding."""
    return x[..., :-1], x[..., -1] > 0.5


def locked_dropout(rate: float, deterministic: bool) -> Callable[[jax.Array], jax.Array]:
    """Dropout of [B, T, F] with one mask for all tokens of a row.

    Source: Gal & Ghahramani 2016, "variational" dropout; fastai's `RNNDropout`.
    """
    return nn.Dropout(rate, broadcast_dims=(1,), deterministic=deterministic)


def concat_pool(x: jax.Array) -> jax.Array:
    """[B, T, F + 1] to [B, 3 F]: the last token's features, the maxima and the means over tokens.

    Source: Howard & Ruder 2018, section 3.3; the order of fastai's `masked_concat_pool`.
    """
    values, mask = unmarked(x)
    steps = jnp.arange(mask.shape[1], dtype=jnp.int32).reshape(1, -1)
    last = jnp.where(mask, steps, 0).max(1)
    tokens = mask[..., None]
    count = jnp.maximum(tokens.sum(1), 1).astype(values.dtype)
    largest = jnp.where(tokens, values, -jnp.inf).max(1)
    return jnp.concatenate(
        [
            jnp.take_along_axis(values, last[:, None, None], 1)[:, 0],
            jnp.where(tokens.any(1), largest, 0),
            jnp.where(tokens, values, 0).sum(1) / count,
        ],
        -1,
    )


class Embed(nn.Module):
    """The embedding of tokens, with dropout of complete words.

    Attributes:
        vocabulary: V.
        features: of an embedding.
        padding: the number of the padding token.
        dropout: the rate at which a word is 0 everywhere in a batch; the others are divided by one
            minus the rate.
    """

    vocabulary: int
    features: int
    padding: int
    dropout: float

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T] integers to [B, T, features + 1]."""
        # fastai: from -0.1 to 0.1 with 400 features. So small a range with few features would keep
        # the outputs of the layers close to 0 for hundreds of steps.
        reach = 2 * self.features**-0.5
        initial = nn.initializers.uniform(2 * reach)
        shape = (self.vocabulary, self.features)
        table = self.param(EMBEDDING, lambda *how: initial(*how) - reach, shape)
        values = jnp.asarray(table)[x]
        if self.dropout and not deterministic:
            kept = jnp.ones((self.vocabulary, 1), table.dtype)
            values = values * nn.Dropout(self.dropout, deterministic=False)(kept)[x]
        return marked(values, x != self.padding)


def check(stages: Mapping[str, nn.Module], preprocessing: TextPreprocessing) -> None:
    """Checks that a vocabulary fits the embedding; an unknown one is not checked.

    Raises:
        InputError: the embedding has another number of rows or another padding token.
    """
    embed, count = next(iter(stages.values())), len(preprocessing.vocabulary)
    if not count or not isinstance(embed, Embed):
        return
    if embed.vocabulary != count:
        raise InputError(
            f'the embedding has {embed.vocabulary} rows and the vocabulary {count} tokens, wanted '
            'as many'
        )
    if embed.padding != preprocessing.padding:
        raise InputError(
            f'the padding of the network is token {embed.padding}, and the vocabulary has '
            f'{PADDING} as token {preprocessing.padding}: wanted the same'
        )


class LinearLeaves(nn.Module):
    """The kernel and the bias of a linear map; without a bias, zeros."""

    features: int
    reach: float
    use_bias: bool = True

    @nn.compact
    def __call__(self, inputs: int, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
        """The kernel [inputs, features] and the bias [features]."""
        uniform = nn.initializers.uniform(2 * self.reach)
        centred = lambda *how: uniform(*how) - self.reach  # noqa: E731
        kernel = self.param('kernel', centred, (inputs, self.features))
        if not self.use_bias:
            return kernel, jnp.zeros((self.features,), dtype)
        return kernel, self.param('bias', centred, (self.features,))


class LSTM(nn.Module):
    """One LSTM layer, with dropout of its input and of its hidden-to-hidden weights.

    The gates are in the order of torch and Keras: input, forget, cell, output. At padding the state
    does not change, so that no output of a token depends on the padding of its row.

    Attributes:
        hidden: features of the output.
        input_dropout: the rate of `locked_dropout` of the input.
        weight_dropout: the rate of DropConnect; one mask for all tokens of a batch.
        two_biases: whether input and hidden state have a bias each, as in torch; otherwise there is
            one, as in Keras.
    """

    hidden: int
    input_dropout: float = 0.0
    weight_dropout: float = 0.0
    two_biases: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, F + 1] to [B, T, hidden + 1].

        The state before the first token is zero. If the stage's statistics have a `CARRIED` state
        (see `models.language_model`), it is that state, without its gradient, and is replaced by
        the state after the last token.
        """
        values, mask = unmarked(x)
        values = locked_dropout(self.input_dropout, deterministic)(values)
        reach = self.hidden**-0.5  # torch.nn.LSTM
        sizes = 4 * self.hidden, reach
        kernel, bias = LinearLeaves(*sizes, name='input')(values.shape[-1], values.dtype)
        recurrent, more = LinearLeaves(*sizes, self.two_biases, name='hidden')(
            self.hidden, values.dtype
        )
        recurrent = nn.Dropout(self.weight_dropout, deterministic=deterministic)(recurrent)
        zero = jnp.zeros((len(x), self.hidden), values.dtype)
        state, carries = (zero, zero), self.has_variable('batch_stats', CARRIED)
        if carries:
            before: State = self.get_variable('batch_stats', CARRIED)
            state = before[0].astype(zero.dtype), before[1].astype(zero.dtype)
        weights = kernel, recurrent, (bias + more).reshape(1, 1, -1)
        outputs, after = recur(values, weights, mask, jax.lax.stop_gradient(state))
        if carries and self.is_mutable_collection('batch_stats'):
            self.put_variable('batch_stats', CARRIED, after)
        return marked(outputs, mask)


def recur(
    values: jax.Array,
    weights: tuple[jax.Array, jax.Array, jax.Array],
    mask: jax.Array,
    state: State,
) -> tuple[jax.Array, State]:
    """The recurrence of an LSTM.

    Chunks of `CHUNK` tokens that are padding in all rows are skipped.

    Args:
        values: the input [B, T, F].
        weights: the kernel of the input [F, 4 H], that of the hidden state [H, 4 H], and the bias
            [1, 1, 4 H].
        mask: [B, T] bool; where it is False, the state stays.
        state: before the first token.

    Returns:
        The outputs [B, T, H] and the state after the last token.

    Source: Hochreiter & Schmidhuber 1997 with forget gates; torch.nn.LSTM.
    """
    count = -(-mask.shape[1] // CHUNK)
    chunk = -(-mask.shape[1] // count)
    missing = count * chunk - mask.shape[1]
    values, tokens = (
        jnp.pad(one, [(0, 0), (0, missing), *[(0, 0)] * (one.ndim - 2)]) for one in (values, mask)
    )
    in_chunks = [
        one.reshape(len(one), count, chunk, *one.shape[2:]).swapaxes(0, 1)
        for one in (values, tokens)
    ]

    def skipped(state: State, values: jax.Array, tokens: jax.Array) -> tuple[State, jax.Array]:
        repeated = jnp.broadcast_to(state[0], (chunk, *state[0].shape))
        return state, repeated.swapaxes(0, 1)

    def computed(state: State, values: jax.Array, tokens: jax.Array) -> tuple[State, jax.Array]:
        return _of_chunk(state, values @ weights[0] + weights[2], weights[1], tokens)

    def step(state: State, part: list[jax.Array]) -> tuple[State, jax.Array]:
        return jax.lax.cond(part[1].any(), computed, skipped, state, *part)

    after, outputs = jax.lax.scan(step, state, in_chunks)
    outputs = outputs.swapaxes(0, 1).reshape(len(mask), count * chunk, -1)
    return outputs[:, : mask.shape[1]], after


def _of_chunk(
    state: State, gates: jax.Array, kernel: jax.Array, mask: jax.Array
) -> tuple[State, jax.Array]:
    """The state after some tokens and the outputs [B, T, H], from the input's gates [B, T, 4 H]."""

    def step(state: State, token: tuple[jax.Array, jax.Array]) -> tuple[State, jax.Array]:
        output, cell = state
        gates, real = token
        i, f, g, o = jnp.split(gates + output @ kernel, 4, -1)
        new_cell = nn.sigmoid(f) * cell + nn.sigmoid(i) * nn.tanh(g)
        new_output = nn.sigmoid(o) * nn.tanh(new_cell)
        output = jnp.where(real[:, None], new_output, output)
        return (output, jnp.where(real[:, None], new_cell, cell)), output

    after, outputs = jax.lax.scan(step, state, (gates.swapaxes(0, 1), mask.swapaxes(0, 1)))
    return after, outputs.swapaxes(0, 1)


class ConcatPoolHead(nn.Module):
    """Concat pooling, then twice BatchNorm, dropout and a linear layer, with ReLU in between.

    The last layer starts at zero, as in `layers.ClassifierHead`.

    Source: fastai's `PoolingLinearClassifier`; Howard & Ruder 2018.
    """

    num_classes: int
    hidden: int
    dropout: float
    hidden_dropout: float
    use_bias: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, F + 1] to [B, K] logits."""
        from_batch = {'use_running_average': use_running_average}
        x = layers.BatchNorm(name='norm1')(concat_pool(x), **from_batch)
        x = nn.Dropout(self.dropout, deterministic=deterministic)(x)
        first = {'kernel_init': layers.he_normal, 'name': 'hidden1', 'use_bias': self.use_bias}
        x = nn.relu(nn.Dense(self.hidden, **first)(x))
        x = layers.BatchNorm(name='norm2')(x, **from_batch)
        x = nn.Dropout(self.hidden_dropout, deterministic=deterministic)(x)
        last = {'kernel_init': nn.initializers.zeros, 'name': 'linear', 'use_bias': self.use_bias}
        return nn.Dense(self.num_classes, **last)(x)


class Decoder(nn.Module):
    """The next token: dropout and a linear layer, whose kernel can be that of the embedding.

    Attributes:
        vocabulary: V.
        dropout: of the input.
        tie: whether the kernel is the embedding (Press & Wolf 2016; Inan et al. 2016).
    """

    vocabulary: int
    dropout: float
    tie: bool = True

    @property
    def tied(self) -> dict[str, str]:
        """See `stages.tied`."""
        return {EMBEDDING: f'embed/{EMBEDDING}'} if self.tie else {}

    @nn.compact
    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array:
        """[B, T, F + 1] to [B, T, V] logits."""
        x, _ = unmarked(x)
        x = locked_dropout(self.dropout, deterministic)(x)
        if not self.tie:
            return nn.Dense(self.vocabulary, name='linear')(x)
        shape = (self.vocabulary, x.shape[-1])
        table = self.param(EMBEDDING, nn.initializers.zeros, shape)
        logits = x @ table.T
        return logits + Bias(name='linear')(logits).reshape(1, 1, -1)


class Bias(nn.Module):
    """A bias of the last axis."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., F] to [F]."""
        return self.param('bias', nn.initializers.zeros, (x.shape[-1],))
