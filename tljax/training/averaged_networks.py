"""The mean prediction of several networks, such as of a text read forward and backward."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tljax.records.predictions import SplitPredictions
from tljax.types import InputError
from tljax.weights import network
from tljax.weights.network import Network


def load(first: Network, others: Sequence[str]) -> list[Network]:
    """Loads the networks whose predictions are averaged with those of the first.

    Each reads its input as its own preprocessing states.

    Raises:
        InputError: a network cannot be loaded, or predicts something else than the first.
    """
    loaded = [network.load(other) for other in others]
    for one, name in zip(loaded, others, strict=True):
        if problem := _difference(one, first):
            raise InputError(f'--with={name}: {problem}')
    return loaded


def _difference(one: Network, first: Network) -> str | None:
    """Why the predictions of two networks cannot be averaged; None if they can."""
    if type(one.preprocessing) is not type(first.preprocessing):
        return f'it reads {one.preprocessing.inputs}, wanted {first.preprocessing.inputs}'
    counts = [net.task.counted(net.model.num_classes) for net in (one, first)]
    if counts[0] != counts[1]:
        return f'it predicts {counts[0]}, wanted {counts[1]}'
    if one.class_names != first.class_names:
        return 'it predicts other classes, or the same ones in another order'
    if one.task.continues:
        return 'it is a language model, wanted classes or numbers'
    if one.task != first.task:
        return 'its numbers are standardised by another training split'
    return None


def outputs(
    networks: Sequence[Network], logits: Sequence[jax.Array], *, calibrated: bool
) -> jax.Array:
    """The outputs [B, O] of the mean prediction.

    Args:
        networks: see `load`.
        logits: the outputs [B, O] of each.
        calibrated: whether the outputs of a network are divided by its temperature first.
    """
    divisors = [(net.temperature if calibrated else None) or 1.0 for net in networks]
    parts = [one / divisor for one, divisor in zip(logits, divisors, strict=True)]
    return networks[0].task.average(jnp.stack(parts, 1))


def predictions(
    networks: Sequence[Network], splits: Sequence[SplitPredictions]
) -> SplitPredictions:
    """The mean predictions of a split, with the temperature of each network.

    Args:
        networks: see `load`.
        splits: the predictions of each network for the same examples.

    Raises:
        InputError: a network could read other examples than the first.
    """
    first = splits[0]
    if any(not np.array_equal(one.ids, first.ids) for one in splits):
        raise InputError('--with: the networks could not read the same examples')
    logits = [jnp.asarray(one.logits) for one in splits]
    mean = np.asarray(outputs(networks, logits, calibrated=True))
    return dataclasses.replace(first, logits=mean, features=None)
