"""Delta files: the values that training changed, and a reference to the pretrained weights."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tljax import tree
from tljax.config import json_form
from tljax.models import adapters, stages
from tljax.models.stages import Model
from tljax.records.runs import Run
from tljax.types import Adapter, InputError
from tljax.weights.adapt import adapt
from tljax.weights.own_format import architecture_from, architecture_text
from tljax.weights.pretrained import Architecture, Opened, Origin, Pretrained

BASE = 'base'  # the metadata of a delta; it holds the fields of `Base` as JSON
ADAPTERS = 'adapters'


class DeltaError(InputError):
    """A delta that cannot be written or read, or that belongs to other weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """The weights that a delta changes: their spec and the SHA-256 of their file."""

    source: str
    sha256: str

    def check(self, origin: Origin) -> None:
        """Checks that weights are the base.

        Raises:
            DeltaError: the weights have another SHA-256.
        """
        if origin.sha256 != self.sha256:
            raise DeltaError(
                f'the base is {self.source!r} with SHA-256 {self.sha256}; '
                f'{origin.source!r} has {origin.sha256 or "none, because it is no file"}'
            )


def base_of_run(run: Run) -> Base:
    """The weights that a run started from.

    Raises:
        DeltaError: the run started from random weights, or from weights that are no file.
    """
    if run.weights is None:
        raise DeltaError('training started from random weights, so a delta has no base')
    source, sha256 = run.weights['source'], run.weights['sha256']
    if sha256 is None:
        raise DeltaError(
            f'weights {source!r} are no file, so they have no SHA-256 for the delta: export them '
            'to a file and train from that'
        )
    return Base(source=source, sha256=sha256)


def base_of_file(texts: Mapping[str, str]) -> Base:
    """The weights that a delta's metadata names.

    Raises:
        DeltaError: the metadata are damaged.
    """
    try:
        base = Base(**json.loads(texts[BASE]))
    except (RecursionError, TypeError, ValueError) as error:
        raise DeltaError(f'the metadata of the delta cannot be read: {error!r:.300}') from error
    if not isinstance(base.source, str) or not isinstance(base.sha256, str):
        raise DeltaError(f'the delta states the base {base!r:.200}, wanted texts')
    return base


def of_run(
    run: Run, base: Pretrained, architecture: Architecture
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The values that a run changed, as the entries and metadata of a delta.

    Args:
        run: with the values of its checkpoint.
        base: the weights that the run started from.
        architecture: of the run's network.

    Returns:
        The leaves of adapters and head and all changed parameters and statistics, by tljax's
        paths; and the metadata for `on_base`.

    Raises:
        DeltaError: `base` has other weights; or the backbone, the head or an adapter is a class
            outside tljax, which readers do not import.
    """
    if architecture_from(json.loads(architecture_text(architecture))) is None:
        raise DeltaError(
            f"a delta needs a network of tljax's own classes, and this one is {architecture}"
        )
    named = base_of_run(run)
    named.check(base.origin)
    before = _fitted(base, architecture.build(len(run.class_names), run.preprocessing))
    after = tree.flatten({'params': run.unmerged, 'batch_stats': run.stats})
    changed = {
        path: np.ascontiguousarray(leaf)
        for path, leaf in after.items()
        if path not in before or not np.array_equal(leaf, before[path])
    }
    encoded = json.dumps(json_form.encode(run.adapters))
    _decoded(encoded)
    return changed, {BASE: json.dumps(dataclasses.asdict(named)), ADAPTERS: encoded}


def on_base(delta: Opened, texts: Mapping[str, str], base: Pretrained) -> Opened:
    """The complete network of a delta, with adapters merged.

    Args:
        delta: the opened file of the delta.
        texts: the file's metadata.
        base: the weights that the delta changes.

    Raises:
        DeltaError: the delta does not fit its base.
    """
    model = network_of(delta).build(_outputs(delta) or 1, delta.preprocessing)
    added = _decoded(texts.get(ADAPTERS, '[]'))
    leaves = {**_fitted(base, model), **delta.entries}
    params, stats = stages.shapes(model)
    params = adapters.extended(added, params, jax.random.key(0))
    problems = tree.difference(leaves, tree.flatten({'params': params, 'batch_stats': stats}))
    if problems:
        raise DeltaError(
            f'{delta.origin.source!r} does not fit its base (- wanted, + found):\n  '
            + '\n  '.join(problems)
        )
    variables = tree.unflatten(leaves)
    variables['params'] = jax.tree.map(np.asarray, stages.plain(added, variables['params']))
    return dataclasses.replace(delta, entries=tree.flatten(variables))


def _outputs(delta: Opened) -> int | None:
    return stages.outputs_of_head({path: np.shape(x) for path, x in delta.entries.items()})


def network_of(delta: Opened) -> Architecture:
    """The network that a delta states.

    Raises:
        DeltaError: the delta states no network, or has no head.
    """
    if delta.architecture is None or _outputs(delta) is None:
        raise DeltaError(f'{delta.origin.source!r} is a delta that states no network')
    return delta.architecture


def _fitted(base: Pretrained, model: Model) -> dict[str, Any]:
    """The leaves at the start of training, without the head's."""
    adapted = adapt(base, model)
    return tree.flatten({'params': adapted.params, 'batch_stats': adapted.stats})


def _decoded(text: str) -> tuple[Adapter, ...]:
    """Adapters from a file; only tljax's classes are imported, because the author is unknown."""
    try:
        return json_form.decode(json.loads(text), ours_only=True)
    except Exception as error:  # the text can have any content
        raise DeltaError(f'a delta can have only adapters of tljax: {error!s:.300}') from error
