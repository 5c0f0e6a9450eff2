"""Selection of the examples of a split."""

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


def test_the_val_split_of_the_source_is_used_unchanged():
    splits = prepared(val=examples(LABELS[:7], 500))
    assert splits['val'].ids.tolist() == list(range(500, 507))
    assert np.bincount(splits['train'].labels).tolist() == [10] * 4


def test_the_test_split_is_unchanged():
    assert prepared()['test'].ids.tolist() == list(range(1000, 1009))


def test_selected_examples_keep_their_images_and_labels():
    train = prepared()['train']
    assert [train.load(i)[0, 0, 0] for i in range(len(train))] == train.ids.tolist()
    np.testing.assert_array_equal(train.labels, LABELS[train.ids])


def limited(labels=LABELS, count=None, seed=3, **options):
    """The labels and ids of the training examples, without a validation split."""
    given_splits = {'train': examples(labels), 'test': examples(LABELS[:9], 1000)}
    subset = subsets.Subset(**options)
    return subsets.prepare(given_splits, count, 0.0, seed, subset)['train']


fractions = st.floats(0.01, 1)


@settings(deadline=None, max_examples=50)
@given(fractions, seeds)
def test_a_fraction_is_one_of_every_class(fraction, seed):
    counts = np.bincount(limited(fraction=fraction, seed=seed).labels, minlength=4)
    for found, whole in zip(counts, np.bincount(LABELS), strict=True):
        assert found == max(1, round(fraction * whole))


@settings(deadline=None, max_examples=50)
@given(fractions, fractions, seeds)
def test_the_smaller_fraction_is_part_of_the_larger(one, other, seed):
    small, large = (limited(fraction=f, seed=seed) for f in sorted((one, other)))
    assert set(small.ids) <= set(large.ids)


def test_a_fraction_is_nested_with_a_count_of_each_class():
    assert set(limited(count=5).ids) <= set(limited(fraction=0.5).ids)


def test_a_fraction_of_a_count_is_taken_of_the_count():
    assert np.bincount(limited(count=10, fraction=0.5).labels).tolist() == [5] * 4


@pytest.mark.parametrize('ratio', [1.5, 4.0, 10.0])
def test_classes_fall_off_by_the_ratio_that_was_asked_for(ratio):
    labels = np.repeat(np.arange(4), 1000)
    counts = np.bincount(limited(labels, imbalance=ratio).labels)
    wanted = [round(1000 * ratio ** (-k / 3)) for k in range(4)]
    assert counts.tolist() == wanted


def test_the_ratio_holds_where_classes_were_uneven_before():
    labels = np.repeat(np.arange(4), [400, 1000, 90, 300])
    counts = np.bincount(limited(labels, imbalance=10).labels)
    assert counts[0] / counts[-1] == pytest.approx(10, rel=0.05)
    assert (counts <= [400, 1000, 90, 300]).all()
    assert counts[0] == 400  # no more is left out than need be


def test_the_longer_tail_is_part_of_the_shorter():
    labels = np.repeat(np.arange(4), 100)
    ids = [set(limited(labels, imbalance=ratio).ids) for ratio in (50.0, 10.0, 2.0, 1.0)]
    assert ids[0] < ids[1] < ids[2] < ids[3]


def test_the_rarest_class_keeps_one_example():
    labels = np.repeat(np.arange(3), 5)
    assert np.bincount(limited(labels, imbalance=1000).labels)[-1] == 1


def wrong(share, seed=3):
    """The ids whose label is wrong, and those labels."""
    train = limited(label_noise=share, seed=seed)
    changed = np.flatnonzero(train.labels != LABELS[train.ids])
    return dict(zip(train.ids[changed].tolist(), train.labels[changed].tolist(), strict=True))


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), seeds)
def test_a_share_of_the_labels_of_every_class_is_wrong(share, seed):
    counts = np.bincount(LABELS[list(wrong(share, seed))].astype(int), minlength=4)
    for found, whole in zip(counts, np.bincount(LABELS), strict=True):
        assert found == round(share * whole)


@settings(deadline=None, max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1), seeds)
def test_wrong_labels_of_little_noise_are_among_those_of_more_noise(one, other, seed):
    little, much = (wrong(share, seed) for share in sorted((one, other)))
    assert little.items() <= much.items()


def test_wrong_labels_are_of_all_other_classes():
    assert {(int(LABELS[i]), label) for i, label in wrong(1.0).items()} == {
        (a, b) for a in range(4) for b in range(4) if a != b
    }


def test_labels_are_wrong_in_training_only():
    given_splits = {'train': examples(LABELS), 'test': examples(LABELS[:9], 1000)}
    noisy = subsets.Subset(label_noise=0.5)
    splits = subsets.prepare(given_splits, None, 0.2, 3, noisy)
    np.testing.assert_array_equal(splits['val'].labels, LABELS[splits['val'].ids])
    np.testing.assert_array_equal(splits['test'].labels, LABELS[:9])


def test_selected_classes_are_renumbered_in_their_order_in_all_splits():
    given_splits = {'train': examples(LABELS), 'test': examples(LABELS[:60], 1000)}
    chosen = subsets.Subset(classes=('d', 'b'))
    splits = subsets.prepare(given_splits, None, 0.2, 3, chosen)
    for split in splits.values():
        assert split.class_names == ('d', 'b')
        original = LABELS[split.ids % 1000]
        np.testing.assert_array_equal(np.array([3, 1])[split.labels], original)
    assert len(splits['train']) + len(splits['val']) == 50 + 20


def test_an_unknown_class_is_named():
    with pytest.raises(InputError, match=r"no classes \['e'\], found \['a', 'b', 'c', 'd'\]"):
        limited(classes=('a', 'e'))


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('classes', ('a',)),
        ('classes', ('a', 'a')),
        ('fraction', 0.0),
        ('fraction', 1.1),
        ('imbalance', 0.5),
        ('imbalance', float('nan')),
        ('label_noise', -0.1),
        ('label_noise', 1.1),
    ],
)
def test_a_subset_that_cannot_be_is_named(name, value):
    (line,) = subsets.Subset(**{name: value}).problems()
    assert line.startswith(f'{name} is {value}')
