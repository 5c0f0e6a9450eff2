"""Selection of examples with several labels each, by iterative stratification.

Source: Sechidis, Tsoumakas & Vlahavas 2011, "On the Stratification of Multi-Label Data". Examples
are distributed label by label, beginning with the label that has the fewest examples left. Each
goes to the part that needs the most examples of this label. Examples without a label come last.
"""

from collections.abc import Sequence

import numpy as np

from tljax.types import InputError

NONE = -1  # the class of examples without a label
SMALL = 8  # a smaller set of examples is not stratified further


def carve(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices into two parts with nearly the same share of every class.

    Args:
        labels: [N, K] multi-hot.
        fraction: share of the second part; the first has at least one example of each class.
        seed: random seed.

    Returns:
        The indices of both parts, ascending.
    """
    sets = _sets(labels)
    first, second = _parted(list(range(len(sets))), sets, fraction, np.random.default_rng(seed))
    covered = {label for i in first for label in sets[i]}
    for i in sorted(second, key=lambda i: (len(sets[i]), i)):
        if not covered.issuperset(sets[i]):
            second.remove(i)
            first.append(i)
            covered.update(sets[i])
    return np.sort(np.array(first, int)), np.sort(np.array(second, int))


def ordered(labels: np.ndarray, seed: int) -> np.ndarray:
    """An order of all indices in which every prefix has nearly the same share of every class.

    The first half is a stratified part of all examples, its first half a stratified part of it, and
    so on.

    Args:
        labels: [N, K] multi-hot.
        seed: random seed.
    """
    sets, rng = _sets(labels), np.random.default_rng(seed)

    def order(members: list[int]) -> list[int]:
        if len(members) < SMALL:
            return members
        first, second = _parted(members, sets, 0.5, rng)
        if not first or not second:  # ties can put all members into one part
            return first + second
        return order(first) + order(second)

    return np.array(order(rng.permutation(len(sets)).tolist()), int)


def of_each(labels: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """The indices of at least `count` examples of every class, and of no class, ascending.

    In each round, every class with fewer examples than the number of the round gets one more, rare
    classes first. So sets are nested: the examples for 5 are among those for 10. Frequent classes
    get more examples, because these also have rare labels.

    Args:
        labels: [N, K] multi-hot.
        count: examples per class, and at most so many without a label.
        order: [N] indices; earlier ones are chosen first.

    Raises:
        InputError: a class has fewer examples.
    """
    sizes = labels.sum(0, dtype=int)
    short = [f'class {label} has {size}' for label, size in enumerate(sizes) if 0 < size < count]
    if short:
        raise InputError(f'{count} examples per class were asked for, but {", ".join(short)}')
    sets = [labels_of_one or [NONE] for labels_of_one in _sets(labels)]
    queues: dict[int, list[int]] = {}
    for i in reversed(order.tolist()):
        for label in sets[i]:
            queues.setdefault(label, []).append(i)
    counts, chosen = dict.fromkeys(queues, 0), set()
    rare_first = sorted(queues, key=lambda label: (len(queues[label]), label))
    for round_ in range(count):
        for label in rare_first:
            queue = queues[label]
            while counts[label] <= round_ and queue:
                i = queue.pop()
                if i not in chosen:
                    chosen.add(i)
                    for other in sets[i]:
                        counts[other] += 1
    return np.array(sorted(chosen), int)


def limited(labels: np.ndarray, count: int | None, fraction: float, seed: int) -> np.ndarray:
    """The indices of a number of examples per class, or of a share of all examples.

    Args:
        labels: [N, K] multi-hot.
        count: examples per class; None for all.
        fraction: share of the count, or of all examples; at least one of each class is kept.
        seed: random seed.

    Raises:
        InputError: a class has fewer examples than the count.
    """
    order = ordered(labels, seed)
    if count is not None:
        of_each(labels, count, order)  # raises if a class has fewer
        return of_each(labels, max(1, round(fraction * count)), order)
    share = order[: round(fraction * len(order))]
    return np.union1d(share, of_each(labels, 1, order))


def _sets(labels: np.ndarray) -> list[list[int]]:
    """The list of labels of each example."""
    return [np.flatnonzero(row).tolist() for row in labels]


def _parted(
    members: Sequence[int], sets: Sequence[Sequence[int]], share: float, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Two parts of the members; the second has a share of every label and of all members."""
    ties = dict(zip(rng.permutation(members).tolist(), rng.random(len(members)), strict=True))
    holders: dict[int, list[int]] = {}
    for i in ties:
        for label in sets[i]:
            holders.setdefault(label, []).append(i)
    left = {label: len(members) for label, members in holders.items()}
    needed = [{label: part * n for label, n in left.items()} for part in (1 - share, share)]
    room = [part * len(members) for part in (1 - share, share)]
    parts: tuple[list[int], list[int]] = ([], [])

    def place(i: int, first: float, second: float) -> None:
        """Adds to the part that needs it more, then the part with more room, then a random part."""
        part = int((second, room[1], ties.pop(i)) > (first, room[0], 0.5))
        parts[part].append(i)
        room[part] -= 1
        for label in sets[i]:
            needed[part][label] -= 1
            left[label] -= 1

    while open_ := {label: n for label, n in left.items() if n}:
        rarest = min(open_, key=lambda label: (open_[label], label))
        for i in holders[rarest]:
            if i in ties:
                place(i, needed[0][rarest], needed[1][rarest])
    for i in list(ties):
        place(i, 0, 0)
    return parts
