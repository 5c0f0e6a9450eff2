"""Chooses one of the networks in a file, and removes the prefix of its entries' names."""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tljax.models import port
from tljax.types import InputError
from tljax.weights import recognise

# Words in the key of a network that its authors evaluate, and of one that they do not: averages
# (EMA, SWA) are preferred to raw weights and DINO's teacher to its student, but the trained encoder
# (MoCo's `encoder_q`, BYOL's `online`) to its momentum copy.
PREFERRED = ('ema', 'averaged', 'shadow', 'swa', 'teacher')
AVOIDED = ('student', 'target', 'momentum', 'encoder_k', 'key_encoder', 'discriminator')
# The usual keys of a network in a checkpoint.
WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'net', 'network', 'params', 'weights')
PREFIXES = ('module.', '_orig_mod.', 'model.', 'backbone.', 'net.')
# Image towers of networks of images and texts, and names of the other parts that such files have.
IMAGE_TOWER = re.compile(r'(?P<before>(?:[\w]+[./])*?)(?:visual|vision_model|params/img)[./]')
IMAGE_PARTS = ('visual.', 'vision_model.', 'visual_projection.', 'classifier.', 'params/img/')
TEXT_PARTS = (
    'text.', 'text_model.', 'text_projection', 'token_embedding.', 'logit_scale', 'logit_bias',
    'params/txt/', 'params/t', 'params/b',
)  # fmt: skip
LISTED = 12  # names in a message


class ContentError(InputError):
    """A file without a network, or with several equally likely ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """The entries of one network, and a sentence for every part that was left out."""

    entries: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()


def choose(content: Any, part: str | None = None) -> Chosen:
    """Chooses a network among the contents of a file.

    Args:
        content: of the file: nested dictionaries of tensors by name.
        part: the dotted path of the network; None for the one that its authors evaluate.

    Raises:
        ContentError: there is no network, or several equally likely ones.
    """
    if isinstance(content, Mapping) and not content and part is None:
        return Chosen(entries={})
    networks = dict(_networks(content))
    if part is not None:
        key, entries, notes = part, _named(part, networks, content), []
    else:
        if not networks:
            raise ContentError(f'it has no dictionary of tensors by name; {_keys(content)}')
        key = _best(networks)
        entries, notes = networks[key], _others(key, networks)
    entries, more = _image_tower(entries)
    notes += more
    prefix = _prefix(entries, key)
    inner = _below(entries, prefix)
    others = [name for name in entries if not name.startswith(prefix)]
    if prefix and others:
        notes.append(f'Loaded the entries under {prefix!r}; left out: {_few(others)}.')
    return Chosen(entries=inner, notes=tuple(notes))


def _image_tower(entries: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The image tower of a network of images and texts, and the note on the rest.

    Text towers can have more entries than the image tower, and entries of the same names. Of other
    networks, all entries.
    """
    towers = [match['before'] for name in entries if (match := IMAGE_TOWER.match(name))]
    before = min(towers, key=len, default='')
    texts = tuple(before + part for part in TEXT_PARTS)
    if not towers or not any(name.startswith(texts) for name in entries):
        return entries, []
    images = tuple(before + part for part in IMAGE_PARTS)
    kept = {name: value for name, value in entries.items() if name.startswith(images)}
    others = [name for name in entries if name not in kept]
    return kept, [f'Loaded the image tower; left out {len(others)} others: {_few(others)}.']


def _is_array(value: Any) -> bool:
    return hasattr(value, 'shape') and hasattr(value, 'dtype')


def _networks(content: Any, path: str = '', depth: int = 0) -> Iterator[tuple[str, Any]]:
    """`(dotted path, {name: array})` of every dictionary with named arrays."""
    if not isinstance(content, Mapping) or depth > 8:
        return
    arrays = {k: v for k, v in content.items() if isinstance(k, str) and _is_array(v)}
    if arrays:
        yield path, arrays
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping):
            yield from _networks(value, f'{path}.{key}' if path else key, depth + 1)


def _named(part: str, networks: Mapping[str, Any], content: Any) -> Mapping[str, Any]:
    """The entries at a dotted path, which ends at a dictionary or at a prefix of names in one."""
    inside = [key for key in networks if key == part or key.startswith(f'{part}.')]
    if inside:
        return networks[_best({key: networks[key] for key in inside})]
    for key, entries in networks.items():
        rest = part.removeprefix(f'{key}.') if key else part
        below = _below(entries, f'{rest}.')
        if below and (not key or rest != part or len(networks) == 1):
            return below
    known = ', '.join(key or '(the file itself)' for key in networks) or _keys(content)
    prefixes = sorted({n.split('.')[0] for entries in networks.values() for n in entries})
    raise ContentError(
        f'it has no network {part!r}; it has {known}, with names that begin with {_few(prefixes)}'
    )


def _best(networks: Mapping[str, Mapping[str, Any]]) -> str:
    """The path of the network to load; much smaller dictionaries are not considered."""
    most = max(len(entries) for entries in networks.values())
    large = [key for key, entries in networks.items() if 2 * len(entries) >= most]
    least = min(map(_rank, large))
    best = [key for key in large if _rank(key) == least]
    if len(best) > 1:
        raise ContentError(
            f'it has several networks: {_few(list(map(repr, best)))}; choose one by '
            f'FILE#{best[0] or best[-1]}'
        )
    return best[0]


def _rank(path: str) -> tuple[int, int]:
    """The order of preference, lowest first."""
    wrappers = [WRAPPERS.index(key) for key in path.split('.') if key in WRAPPERS]
    return _preference(path), min(wrappers, default=len(WRAPPERS) if path else -1)


def _preference(path: str) -> int:
    """0 if the name is of a network that authors evaluate, 2 if of one that they do not, else 1."""
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
        f'Loaded {key!r} of several networks in the file; the others are '
        f'{", ".join(others)} (choose one by FILE#{others[0][1:-1]}).'
    ]


def _prefix(entries: Mapping[str, Any], key: str) -> str:
    """The prefix after which most names are those of a known network.

    Raises:
        ContentError: several prefixes match equally many names and are equally preferred.
    """
    names = list(entries)
    cut = ''
    while more := next((p for p in PREFIXES if all(n.startswith(cut + p) for n in names)), ''):
        cut += more
    if _matched(tuple(name.removeprefix(cut) for name in names)) == len(names):
        return cut
    counts = {prefix: _matched(tuple(_below(entries, prefix))) for prefix in _prefixes(names, cut)}
    most = max(counts.values(), default=0)
    best = [prefix for prefix, count in counts.items() if count == most]
    least = min(map(_preference, best), default=0)
    best = [prefix for prefix in best if _preference(prefix) == least]
    best = [one for one in best if not any(_is_worse(names, one, other) for other in best)]
    if not most:
        return cut
    if len(best) > 1:
        raise ContentError(
            f'it has several networks, under {", ".join(map(repr, best))}; choose one by '
            f'FILE#{f"{key}." if key else ""}{best[0].removesuffix(".")}'
        )
    return best[0]


def _is_worse(names: list[str], one: str, other: str) -> bool:
    """Whether two prefixes are of one network, and `other` is the better one.

    A table can have names with and without a prefix, so both match. The shorter prefix is better,
    unless it has further entries, such as those of a decoder. If these are another network, neither
    prefix is better, and the file is refused.
    """
    short, long = sorted((one, other), key=len)
    if short == long or not long.startswith(short):
        return False
    below = [name for name in names if name.startswith(short)]
    rest = tuple(name.removeprefix(short) for name in below if not name.startswith(long))
    return not _matched(rest) and one == (short if rest else long)


def _prefixes(names: list[str], cut: str) -> list[str]:
    """Every dotted prefix of at least a tenth of the names, and `cut`; the shortest first."""
    counts: dict[str, int] = {cut: len(names)}
    for name in names:
        for end in re.finditer(r'\.', name):
            if end.end() > len(cut):
                counts[name[: end.end()]] = counts.get(name[: end.end()], 0) + 1
    return sorted((p for p, n in counts.items() if 10 * n >= len(names)), key=len)


@functools.lru_cache(maxsize=64)  # called again at every load of the same names
def _matched(names: tuple[str, ...]) -> int:
    """The number of names that the best table matches; 0 if less than half."""
    best, tried = 0, []
    if port.is_own(names):
        return len(names)
    step = max(1, len(names) // recognise.SAMPLED_NAMES)
    for family in recognise.families():
        for variant in family.variants():
            for table in variant.port_tables().values():
                if any(table is before for before in tried):
                    continue
                tried.append(table)
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
    items = [f'{key!r}: {_kind(value)}' for key, value in content.items()]
    return f'its keys are {_few(items)}' if items else 'it is an empty dictionary'


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f'dictionary of {len(value)}'
    return repr(value)[:60] if type(value).__name__ == 'StandIn' else type(value).__name__


def _few(names: list[str]) -> str:
    more = f', ... ({len(names) - LISTED} more)' if len(names) > LISTED else ''
    return ', '.join(names[:LISTED]) + more
