"""Which examples of a split are used."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tljax.data import subsets
from tljax.types import Examples, InputError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [12, 20, 33, 50]))
labelled = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)
seeds = st.integers(0, 2**32)


def examples(labels, first_id=0):
    return Examples(
        load=lambda i: np.full((1, 1, 3), i, np.uint8),
        labels=labels,
        ids=first_id + np.arange(len(labels)),
        class_names=('a', 'b', 'c', 'd'),
    )


def prepared(**splits):
    given_splits = {'train': examples(LABELS), 'test': examples(LABELS[:9], 1000), **splits}
    return subsets.prepare(given_splits, 10, 0.2, seed=3)


@settings(deadline=None)
@given(st.integers(1, 12), seeds)
def test_every_class_has_the_count_that_was_asked_for(count, seed):
    chosen = subsets.per_class(LABELS, count, seed)
    assert np.bincount(LABELS[chosen]).tolist() == [count] * 4


@settings(deadline=None)
@given(st.integers(1, 12), seeds)
def test_an_example_is_chosen_once_and_in_order(count, seed):
    assert (np.diff(subsets.per_class(LABELS, count, seed)) > 0).all()


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), seeds)
def test_the_smaller_set_is_part_of_the_larger(one, other, seed):
    small, large = (subsets.per_class(LABELS, n, seed) for n in sorted((one, other)))
    assert set(small) <= set(large)


def test_another_seed_chooses_others():
    chosen = {tuple(subsets.per_class(LABELS, 5, seed)) for seed in range(20)}
    assert len(chosen) == 20


@settings(deadline=None)
@given(st.integers(1, 12), seeds)
def test_one_class_does_not_depend_on_the_others(count, seed):
    alone = np.where(LABELS == 2, 2, 0)
    with_others = subsets.per_class(LABELS, count, seed)
    chosen = subsets.per_class(alone, count, seed)
    assert set(with_others[LABELS[with_others] == 2]) == set(chosen[alone[chosen] == 2])


def test_all_classes_that_have_too_few_are_named():
    with pytest.raises(InputError) as caught:
        subsets.per_class(LABELS, 25, 0)
    assert str(caught.value) == (
        '25 examples per class were asked for, but class 0 has 12, class 1 has 20'
    )


@settings(deadline=None)
@given(labelled, st.floats(0, 0.99), seeds)
def test_two_parts_are_disjoint_and_cover_everything(labels, fraction, seed):
    first, second = subsets.carve(labels, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(len(labels)))


@settings(deadline=None)
@given(labelled, st.floats(0, 0.99), seeds)
def test_a_class_keeps_an_example_in_the_first_part(labels, fraction, seed):
    first, _ = subsets.carve(labels, fraction, seed)
    assert set(labels[first]) == set(labels)


@settings(deadline=None)
@given(labelled, st.floats(0, 0.99), seeds)
def test_every_class_gives_away_its_share(labels, fraction, seed):
    _, second = subsets.carve(labels, fraction, seed)
    for label in np.unique(labels):
        size, away = (labels == label).sum(), (labels[second] == label).sum()
        assert abs(away - fraction * size) <= 0.5 or away == size - 1


@settings(deadline=None)
@given(labelled, st.floats(0, 0.99), seeds)
def test_both_parts_are_ascending(labels, fraction, seed):
    assert all((np.diff(part) > 0).all() for part in subsets.carve(labels, fraction, seed))


def test_another_seed_carves_otherwise():
    assert len({tuple(subsets.carve(LABELS, 0.3, seed)[1]) for seed in range(20)}) == 20


def test_validation_is_carved_out_of_the_labelled_examples():
    splits = prepared()
    budget = LABELS[np.concatenate([splits['train'].ids, splits['val'].ids])]
    assert np.bincount(budget).tolist() == [10] * 4
    assert np.bincount(splits['val'].labels).tolist() == [2] * 4
    assert not set(splits['train'].ids) & set(splits['val'].ids)


def test_validation_of_the_source_is_taken_whole():
    splits = prepared(val=examples(LABELS[:7], 500))
    assert splits['val'].ids.tolist() == list(range(500, 507))
    assert np.bincount(splits['train'].labels).tolist() == [10] * 4


def test_the_test_split_is_left_as_it_is():
    assert prepared()['test'].ids.tolist() == list(range(1000, 1009))


def test_what_is_taken_keeps_its_images_and_labels():
    train = prepared()['train']
    assert [train.load(i)[0, 0, 0] for i in range(len(train))] == train.ids.tolist()
    np.testing.assert_array_equal(train.labels, LABELS[train.ids])
