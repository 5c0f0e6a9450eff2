"""Deltas: files that hold what training changed of pretrained weights, and name these."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tljax import tree
from tljax.config import json_form
from tljax.models import adapters, stages
from tljax.models.stages import HEAD, Model
from tljax.records.runs import Run
from tljax.types import Adapter, InputError
from tljax.weights.adapt import adapt
from tljax.weights.own_format import architecture_from, architecture_text
from tljax.weights.pretrained import Architecture, Opened, Origin, Pretrained

BASE = 'base'  # the entry of the metadata that makes a file a delta: what `Base` says
ADAPTERS = 'adapters'
HEAD_BIAS = f'params/{HEAD}/linear/bias'


class DeltaError(InputError):
    """A delta that cannot be written or read, or that is not of these weights."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """The weights that a delta changes: how they were asked for, and their file's SHA-256."""

    source: str
    sha256: str

    def check(self, origin: Origin) -> None:
        """Holds weights against it.

        Raises:
            DeltaError: they are others.
        """
        if origin.sha256 != self.sha256:
            raise DeltaError(
                f'the base is {self.source!r} with SHA-256 {self.sha256}; '
                f'{origin.source!r} has {origin.sha256 or "none, as it is no file"}'
            )


def base_of_run(run: Run) -> Base:
    """The weights that a run began with.

    Raises:
        DeltaError: there were none, or they were no file.
    """
    if run.weights is None:
        raise DeltaError('training began from random weights: there is no base to name')
    source, sha256 = run.weights['source'], run.weights['sha256']
    if sha256 is None:
        raise DeltaError(
            f'weights {source!r} are no file, and have no SHA-256 to name them by: export them to '
            'one, and begin from that'
        )
    return Base(source=source, sha256=sha256)


def base_of_file(texts: Mapping[str, str]) -> Base:
    """The weights that a delta's metadata names.

    Raises:
        DeltaError: it is damaged.
    """
    try:
        return Base(**json.loads(texts[BASE]))
    except (TypeError, ValueError) as error:
        raise DeltaError(f'what the delta says of its base cannot be read: {error!r}') from error


def of_run(
    run: Run, base: Pretrained, architecture: Architecture
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What a run changed of the weights it began with.

    Args:
        run: with the values of its checkpoint.
        base: those weights.
        architecture: of the run's network.

    Returns:
        Under our own paths the leaves that adapters added, those of the head, and all others that
        are not as they were, running statistics among them; and texts that `on_base` reads.

    Raises:
        DeltaError: the weights are others, or backbone, head or an adapter are not tljax's own,
            which no reader would import.
    """
    if architecture_from(json.loads(architecture_text(architecture))) is None:
        raise DeltaError(
            f"a delta is read for networks of tljax's own classes alone, not for {architecture}"
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
    encoded = json_form.encode(run.adapters)
    _decoded(encoded)
    return changed, {BASE: json.dumps(dataclasses.asdict(named)), ADAPTERS: json.dumps(encoded)}


def on_base(delta: Opened, texts: Mapping[str, str], base: Pretrained) -> Opened:
    """The whole network of a delta, adapters merged.

    Args:
        delta: with the file's entries alone.
        texts: the file's metadata.
        base: the weights it is of.

    Raises:
        DeltaError: the delta does not fit them.
    """
    model = network_of(delta).build(len(delta.entries[HEAD_BIAS]), delta.preprocessing)
    added = _decoded(json.loads(texts.get(ADAPTERS, '[]')))
    leaves = {**_fitted(base, model), **delta.entries}
    params, stats = stages.shapes(model)
    params = adapters.extended(added, params, jax.random.key(0))
    problems = tree.difference(leaves, tree.flatten({'params': params, 'batch_stats': stats}))
    if problems:
        raise DeltaError(
            f'{delta.origin.source!r} does not fit its base (- wanted, + found):\n  '
            + '\n  '.join(problems)
        )
    whole = tree.unflatten(leaves)
    whole['params'] = jax.tree.map(np.asarray, stages.plain(added, whole['params']))
    return dataclasses.replace(delta, entries=tree.flatten(whole))


def network_of(delta: Opened) -> Architecture:
    """Of what network it is a delta.

    Raises:
        DeltaError: it does not say.
    """
    if delta.architecture is None or HEAD_BIAS not in delta.entries:
        raise DeltaError(f'{delta.origin.source!r} does not say of what network it is a delta')
    return delta.architecture


def _fitted(base: Pretrained, model: Model) -> dict[str, Any]:
    """The leaves that training began with, but for the head's."""
    begun = adapt(base, model)
    return tree.flatten({'params': begun.params, 'batch_stats': begun.stats})


def _decoded(encoded: Any) -> tuple[Adapter, ...]:
    """Adapters from a file, which may be anybody's: no class but tljax's own is imported."""
    try:
        return json_form.decode(encoded, ours_only=True)
    except (AttributeError, ImportError, TypeError) as error:
        raise DeltaError(f'a delta holds adapters of tljax alone: {error}') from error
