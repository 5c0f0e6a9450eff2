"""Which of the networks in a file is meant, and under which prefix its entries lie."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tljax.models import port
from tljax.types import InputError
from tljax.weights import recognise

# Words in the keys of a network, from what its authors evaluate to what they do not: averages
# (EMA, SWA) before raw weights and DINO's teacher before its student, but the encoder that is
# trained (MoCo's `encoder_q`, BYOL's `online`) before its momentum copy.
PREFERRED = ('ema', 'averaged', 'shadow', 'swa', 'teacher')
AVOIDED = ('student', 'target', 'momentum', 'encoder_k', 'key_encoder', 'discriminator')
# The usual keys of a network in a checkpoint.
WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'net', 'network', 'params', 'weights')
PREFIXES = ('module.', '_orig_mod.', 'model.', 'backbone.', 'net.')
SHOWN = 12


class ContentError(InputError):
    """A file without a network, or with several between which nothing decides."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The entries of one network, and what is to be said of the choice."""

    entries: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()


def choose(content: Any, part: str | None = None) -> Chosen:
    """The network that is meant among all that a file holds.

    Args:
        content: what the file holds: dictionaries of tensors by name, in others.
        part: the dotted path of the network; None for the one that its authors evaluate.

    Raises:
        ContentError: there is none, or no way to tell which.
    """
    if isinstance(content, Mapping) and not content and part is None:
        return Chosen(entries={})
    networks = dict(_networks(content))
    if part is not None:
        key, entries, notes = part, _named(part, networks, content), []
    else:
        if not networks:
            raise ContentError(f'it holds no dictionary of tensors by name; {_keys(content)}')
        key = _best(networks)
        entries, notes = networks[key], _others(key, networks)
    prefix = _prefix(entries, key)
    inner = _below(entries, prefix)
    left = [name for name in entries if not name.startswith(prefix)]
    if prefix and left:
        notes.append(f'Taken are the entries under {prefix!r}; left out: {_few(left)}.')
    return Chosen(entries=inner, notes=tuple(notes))


def _is_array(value: Any) -> bool:
    return hasattr(value, 'shape') and hasattr(value, 'dtype')


def _networks(content: Any, path: str = '', depth: int = 0) -> Iterator[tuple[str, Any]]:
    """`(dotted path, {name: array})` of every dictionary that holds arrays under names."""
    if not isinstance(content, Mapping) or depth > 8:
        return
    arrays = {k: v for k, v in content.items() if isinstance(k, str) and _is_array(v)}
    if arrays:
        yield path, arrays
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping):
            yield from _networks(value, f'{path}.{key}' if path else key, depth + 1)


def _named(part: str, networks: Mapping[str, Any], content: Any) -> Mapping[str, Any]:
    """The entries at a dotted path: a dictionary's own, or those whose names begin with it."""
    inside = [key for key in networks if key == part or key.startswith(f'{part}.')]
    if inside:
        return networks[_best({key: networks[key] for key in inside})]
    for key, entries in networks.items():
        rest = part.removeprefix(f'{key}.') if key else part
        found = _below(entries, f'{rest}.')
        if found and (not key or rest != part or len(networks) == 1):
            return found
    there = ', '.join(key or '(the file itself)' for key in networks) or _keys(content)
    prefixes = sorted({n.split('.')[0] for entries in networks.values() for n in entries})
    raise ContentError(
        f'it holds no network {part!r}; there is {there}, with names that begin with '
        f'{_few(prefixes)}'
    )


def _best(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """The path of the network to take; much smaller dictionaries are no candidates."""
    most = max(len(entries) for entries in networks.values())
    large = [key for key, entries in networks.items() if 2 * len(entries) >= most]
    least = min(map(_rank, large))
    best = [key for key in large if _rank(key) == least]
    if len(best) > 1:
        raise ContentError(
            f'it holds several networks: {_few(list(map(repr, best)))}; choose one by '
            f'FILE#{best[0] or best[-1]}'
        )
    return best[0]


def _rank(path: str) -> tuple[int, int]:
    """Order of preference, the least first."""
    wrappers = [WRAPPERS.index(key) for key in path.split('.') if key in WRAPPERS]
    return _evaluated(path), min(wrappers, default=len(WRAPPERS) if path else -1)


def _evaluated(path: str) -> int:
    """0 for what authors evaluate by its name, 2 for what they do not, 1 where it does not say."""
    words = re.split(r'[._\-]', path.lower())
    if any(word in words for word in PREFERRED):
        return 0
    text = path.lower()
    return 2 if any(word in text for word in AVOIDED) else 1


def _others(key: str, networks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    half = len(networks[key]) / 2
    others = [repr(k) for k, e in networks.items() if k != key and k and len(e) >= half]
    if not others:
        return []
    return [
        f'Of several networks in the file {key!r} was taken; there are also '
        f'{", ".join(others)} (choose by FILE#{others[0][1:-1]}).'
    ]


def _prefix(entries: Mapping[str, Any], key: str) -> str:
    """The prefix under which a known network's names lie most completely.

    Raises:
        ContentError: several prefixes hold as much, and their names do not say which is meant.
    """
    names = list(entries)
    cut = ''
    while more := next((p for p in PREFIXES if all(n.startswith(cut + p) for n in names)), ''):
        cut += more
    if _placed(tuple(name.removeprefix(cut) for name in names)) == len(names):
        return cut
    found = {prefix: _placed(tuple(_below(entries, prefix))) for prefix in _prefixes(names, cut)}
    most = max(found.values(), default=0)
    best = [prefix for prefix, placed in found.items() if placed == most]
    least = min(map(_evaluated, best), default=0)
    best = [prefix for prefix in best if _evaluated(prefix) == least]
    if not most:
        return cut
    if len(best) > 1:
        raise ContentError(
            f'it holds several networks, under {", ".join(map(repr, best))}; choose one by '
            f'FILE#{f"{key}." if key else ""}{best[0].removesuffix(".")}'
        )
    return best[0]


def _prefixes(names: list[str], cut: str) -> list[str]:
    """Every dotted beginning of names that holds a tenth of them, and `cut`, the shortest first."""
    counts: dict[str, int] = {cut: len(names)}
    for name in names:
        for end in re.finditer(r'\.', name):
            if end.end() > len(cut):
                counts[name[: end.end()]] = counts.get(name[: end.end()], 0) + 1
    return sorted((p for p, n in counts.items() if 10 * n >= len(names)), key=len)


@functools.lru_cache(maxsize=64)  # every load of the same names asks again
def _placed(names: tuple[str, ...]) -> int:
    """How many names the table that fits best places; 0 if it is not half of them."""
    best, seen = 0, []
    if any(name.startswith(('params/', 'batch_stats/')) for name in names):
        return len(names)
    step = max(1, len(names) // recognise.SAMPLED_NAMES)
    for family in recognise.families():
        for variant in family.variants():
            for table in variant.port_tables().values():
                if any(table is before for before in seen):
                    continue
                seen.append(table)
                sample = names[::step]
                if 2 * len(port.match(sample, table).problems) <= len(sample):
                    best = max(best, len(names) - len(port.match(names, table).problems))
                if best == len(names):
                    return best
    return best if 2 * best >= len(names) else 0


def _below(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): v for n, v in entries.items() if n.startswith(prefix)}


def _keys(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f'it is {content!r:.80}' if not isinstance(content, list) else 'it is a list'
    shown = [f'{key!r}: {_kind(value)}' for key, value in content.items()]
    return f'its keys are {_few(shown)}' if shown else 'it is an empty dictionary'


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f'dictionary of {len(value)}'
    return repr(value)[:60] if type(value).__name__ == 'StandIn' else type(value).__name__


def _few(names: list[str]) -> str:
    more = f', ... ({len(names) - SHOWN} more)' if len(names) > SHOWN else ''
    return ', '.join(names[:SHOWN]) + more
