"""Turns opened weights into a network: recognises its architecture and fills its leaves."""

import dataclasses
from typing import Any

import numpy as np

from tljax import tree
from tljax.models import port, stages
from tljax.types import Backbone, InputError, Preprocessing, TextPreprocessing
from tljax.weights import image_options, network_options, recognise
from tljax.weights.pretrained import Architecture, Opened, Pretrained
from tljax.weights.recognise import Recognised


class WeightsError(InputError):
    """Weights that are missing, unsafe or unusable; the message names them and the reason."""


def recognised(opened: Opened, backbone: Backbone | None = None) -> Recognised:
    """The network that opened weights belong to, and the leaf that each entry fills.

    Args:
        opened: the weights.
        backbone: the expected architecture; None to recognise it from the entries.

    Raises:
        UnknownNetworkError: the entries belong to no known network.
        WeightsError: the file states another architecture than `backbone`.
    """
    if backbone is not None:
        backbone = _as_stored(backbone, opened)
    if opened.architecture is not None:
        return _recognised_own(opened, opened.architecture, backbone)
    if backbone is not None:
        result = recognise.under(backbone, opened.entries)
        network_options.check(backbone, opened.options, result.naming)
        return result
    result = recognise.recognise(opened.entries)
    stated = network_options.apply(result.backbone, opened.options, result.naming)
    if stated == result.backbone:
        return result
    return recognise.rematched(result, stated, opened.entries)


def _recognised_own(
    opened: Opened, architecture: Architecture, backbone: Backbone | None
) -> Recognised:
    """A file that tljax wrote states its network, including where it was cut and its head."""
    own = architecture.backbone
    if backbone is not None and _without_weights(backbone) != _without_weights(own):
        raise WeightsError(
            f'weights {opened.origin.source!r} are of {_without_weights(own)}, '
            f'wanted {_without_weights(backbone)}'
        )
    num_classes = stages.outputs_of_head({p: np.shape(x) for p, x in opened.entries.items()})
    return Recognised(
        backbone=own,
        naming=port.OWN,
        matched=port.own(list(opened.entries)),
        num_classes=num_classes,
        model=architecture.build(num_classes or 1, opened.preprocessing),
    )


def _as_stored(backbone: Any, opened: Opened) -> Any:
    """The backbone with the kind of head and the dropout of the weights, if its family has several.

    A classifier can start from a language model, and with other rates of dropout.
    """
    if not hasattr(backbone, 'as_stored'):
        return backbone
    own = opened.architecture and opened.architecture.backbone
    return backbone.as_stored(own, tuple(opened.entries))


def _without_weights(backbone: Any) -> Any:
    return dataclasses.replace(backbone, weights=None)


def translate(opened: Opened, network: Recognised, *, allow_nonfinite: bool = False) -> Pretrained:
    """The leaves of the network in tljax's layout; every leaf must be filled exactly once.

    A head of another form than the family's is left out, and the notes report it.

    Args:
        opened: the weights.
        network: the result of `recognised`.
        allow_nonfinite: whether values may be NaN or infinite.

    Raises:
        WeightsError: entries are missing, unexpected or of another shape (all are listed), or a
            value is an integer, NaN or infinite.
    """
    network, notes = recognise.without_other_head(network)
    notes += recognise.notes_on_dropped(network)
    values = _float32(opened, _placed(opened, network))
    if not allow_nonfinite:
        _check_finite(opened, values)
    variables = tree.unflatten(values)
    usual = network.backbone.preprocessing()
    own = opened.architecture is not None
    images = opened.preprocessing
    if not own and isinstance(usual, Preprocessing) and not isinstance(images, TextPreprocessing):
        stated = image_options.apply(images or usual, opened.options)
        images = images or stated
    return Pretrained(
        architecture=opened.architecture or Architecture(backbone=network.backbone),
        params=variables['params'],
        stats=variables.get('batch_stats', {}),
        preprocessing=images or usual,
        origin=dataclasses.replace(
            opened.origin,
            naming=network.naming,
            notes=(*opened.origin.notes, *notes),
            preprocessing_is_stated=images is not None,
        ),
        assumed=()
        if own
        else network_options.assumed(network.backbone, opened.options, network.naming),
    )


def _placed(opened: Opened, network: Recognised) -> dict[str, np.ndarray]:
    try:
        return port.placed(network.matched, opened.entries, network.wanted())
    except port.PortError as error:
        raise WeightsError(
            f'weights {opened.origin.source!r} do not fit {network.backbone} with the names of '
            f'{network.naming}: {error}\n'
            "Set the backbone's fields to those of this network, or rename the entries as in "
            f'{" or ".join(network.backbone.port_tables())}; part of a network cannot be loaded.'
        ) from error


def _float32(opened: Opened, leaves: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The leaves as float32; integers are refused because their scales are not read."""
    integers = [f'{path} ({x.dtype})' for path, x in leaves.items() if x.dtype.kind in 'biu']
    if integers:
        raise WeightsError(
            f'weights {opened.origin.source!r} hold integers, wanted floats: {", ".join(integers)}'
        )
    return {path: np.asarray(leaf, np.float32) for path, leaf in leaves.items()}


def _check_finite(opened: Opened, values: dict[str, np.ndarray]) -> None:
    bad = [path for path, leaf in values.items() if not is_finite(leaf)]
    if bad:
        more = f' and {len(bad) - 5} more' if len(bad) > 5 else ''
        raise WeightsError(
            f'weights {opened.origin.source!r} hold NaN or infinite values, in '
            f'{", ".join(bad[:5])}{more} (allow_nonfinite=True of tljax.load loads them anyway)'
        )


def is_finite(leaf: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; the sum decides, unless it overflows."""
    with np.errstate(all='ignore'):
        return bool(np.isfinite(leaf.sum())) or bool(np.isfinite(leaf).all())
