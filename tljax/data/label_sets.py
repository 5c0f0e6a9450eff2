"""Which examples are used where each has a set of labels: iterative stratification, nested.

Source: Sechidis, Tsoumakas & Vlahavas 2011, "On the Stratification of Multi-Label Data": examples
are given out label by label, the one with the fewest left first, each to the part that still wants
most of that label; those without any come last, and even out the sizes.
"""

from collections.abc import Sequence

import numpy as np

from tljax.types import InputError

NONE = -1  # stands for the class of examples without a label
SMALL = 8  # examples that are not worth being put in order


def carve(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Splits indices in two, of every class nearly by the same share.

    Args:
        labels: [N, K] multi-hot.
        fraction: the share that goes to the second part; a class keeps at least one example in
            the first.
        seed: which.

    Returns:
        Both parts' indices, ascending.
    """
    sets = _sets(labels)
    first, second = _parted(list(range(len(sets))), sets, fraction, np.random.default_rng(seed))
    held = {label for i in first for label in sets[i]}
    for i in sorted(second, key=lambda i: (len(sets[i]), i)):
        if not held.issuperset(sets[i]):
            second.remove(i)
            first.append(i)
            held.update(sets[i])
    return np.sort(np.array(first, int)), np.sort(np.array(second, int))


def ordered(labels: np.ndarray, seed: int) -> np.ndarray:
    """All indices in an order of which every beginning has nearly the same share of every class.

    Halves of halves: the first half is a stratified part of the whole, its first half one of it.

    Args:
        labels: [N, K] multi-hot.
        seed: which.
    """
    sets, rng = _sets(labels), np.random.default_rng(seed)

    def order(members: list[int]) -> list[int]:
        if len(members) < SMALL:
            return members
        first, second = _parted(members, sets, 0.5, rng)
        if not first or not second:  # as ties fell
            return first + second
        return order(first) + order(second)

    return np.array(order(rng.permutation(len(sets)).tolist()), int)


def of_each(labels: np.ndarray, count: int, order: np.ndarray) -> np.ndarray:
    """The indices of at least `count` examples of every class and of those without any, ascending.

    Rounds, in each of which every class that is short of the round's number gets one more, rare
    classes first: so what is chosen for 5 is among what is chosen for 10. Frequent classes come
    along with rare ones, and have more.

    Args:
        labels: [N, K] multi-hot.
        count: examples per class; of those without any label, as many as there are at the most.
        order: [N] indices; earlier ones are chosen first.

    Raises:
        InputError: a class has fewer.
    """
    sizes = labels.sum(0, dtype=int)
    short = [f'class {label} has {size}' for label, size in enumerate(sizes) if 0 < size < count]
    if short:
        raise InputError(f'{count} examples per class were asked for, but {", ".join(short)}')
    sets = [own or [NONE] for own in _sets(labels)]
    queues: dict[int, list[int]] = {}
    for i in reversed(order.tolist()):
        for label in sets[i]:
            queues.setdefault(label, []).append(i)
    have, chosen = dict.fromkeys(queues, 0), set()
    rare_first = sorted(queues, key=lambda label: (len(queues[label]), label))
    for round_ in range(count):
        for label in rare_first:
            queue = queues[label]
            while have[label] <= round_ and queue:
                i = queue.pop()
                if i not in chosen:
                    chosen.add(i)
                    for own in sets[i]:
                        have[own] += 1
    return np.array(sorted(chosen), int)


def limited(labels: np.ndarray, count: int | None, fraction: float, seed: int) -> np.ndarray:
    """The indices of a count of every class, or of a share of all with one of every class at least.

    Args:
        labels: [N, K] multi-hot.
        count: examples per class; None for all.
        fraction: of the count, or of all.
        seed: which.

    Raises:
        InputError: a class has fewer than the count.
    """
    order = ordered(labels, seed)
    if count is not None:
        of_each(labels, count, order)  # has every class as many?
        return of_each(labels, max(1, round(fraction * count)), order)
    share = order[: round(fraction * len(order))]
    return np.union1d(share, of_each(labels, 1, order))


def positive_weights(labels: np.ndarray) -> tuple[float, ...]:
    """Weights of what is there, per class, that make it count as much as what is not.

    Source: King & Zeng 2001, "Logistic Regression in Rare Events Data", section 4.2, up to a
    factor; `pos_weight` as torch.nn.BCEWithLogitsLoss documents it: negatives over positives. A
    class that all or no examples have has 1.

    Args:
        labels: [N, K] multi-hot.
    """
    positives = labels.sum(0, dtype=int)
    negatives = len(labels) - positives
    both = (positives > 0) & (negatives > 0)
    return tuple(np.where(both, negatives / np.maximum(positives, 1), 1.0).tolist())


def _sets(labels: np.ndarray) -> list[list[int]]:
    """Each example's labels."""
    return [np.flatnonzero(row).tolist() for row in labels]


def _parted(
    members: Sequence[int], sets: Sequence[Sequence[int]], share: float, rng: np.random.Generator
) -> tuple[list[int], list[int]]:
    """Members in two parts, of which the second gets a share of every label and of all."""
    coins = dict(zip(rng.permutation(members).tolist(), rng.random(len(members)), strict=True))
    holders: dict[int, list[int]] = {}
    for i in coins:
        for label in sets[i]:
            holders.setdefault(label, []).append(i)
    left = {label: len(members) for label, members in holders.items()}
    wanted = [{label: part * n for label, n in left.items()} for part in (1 - share, share)]
    room = [part * len(members) for part in (1 - share, share)]
    parts: tuple[list[int], list[int]] = ([], [])

    def place(i: int, first: float, second: float) -> None:
        """Into the part that wants it more, then the one with more room, then by the coin."""
        part = int((second, room[1], coins.pop(i)) > (first, room[0], 0.5))
        parts[part].append(i)
        room[part] -= 1
        for label in sets[i]:
            wanted[part][label] -= 1
            left[label] -= 1

    while open_ := {label: n for label, n in left.items() if n}:
        rarest = min(open_, key=lambda label: (open_[label], label))
        for i in holders[rarest]:
            if i in coins:
                place(i, wanted[0][rarest], wanted[1][rarest])
    for i in list(coins):
        place(i, 0, 0)
    return parts
