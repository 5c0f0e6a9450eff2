"""Which examples are used where each has a set of labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tljax.data import label_sets, subsets
from tljax.types import Examples, InputError

RNG = np.random.default_rng(0)
N, SHARES = 400, np.array([0.5, 0.25, 0.1, 0.05, 0.02])
LABELS = (RNG.random((N, 5)) < SHARES).astype(np.uint8)  # a third without any
small = arrays(np.uint8, st.tuples(st.integers(1, 40), st.just(4)), elements=st.integers(0, 1))
fractions = st.floats(0, 0.99)
seeds = st.integers(0, 2**32)


@settings(deadline=None)
@given(small, fractions, seeds)
def test_two_parts_are_disjoint_ascending_and_cover_everything(labels, fraction, seed):
    first, second = subsets.carve(labels, fraction, seed)
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()
    np.testing.assert_array_equal(np.union1d(first, second), np.arange(len(labels)))
    assert len(first) + len(second) == len(labels)


@settings(deadline=None)
@given(small, fractions, seeds)
def test_a_class_keeps_an_example_in_the_first_part(labels, fraction, seed):
    first, _ = subsets.carve(labels, fraction, seed)
    np.testing.assert_array_equal(labels[first].any(0), labels.any(0))


@pytest.mark.parametrize('fraction', [0.1, 0.2, 0.5])
@pytest.mark.parametrize('seed', range(5))
def test_every_class_gives_away_its_share_and_all_together_theirs(fraction, seed):
    _, second = subsets.carve(LABELS, fraction, seed)
    away = LABELS[second]
    assert abs(away.sum(0) - fraction * LABELS.sum(0)).max() <= 1
    assert abs(len(second) - fraction * N) <= 1


def test_random_parts_would_be_further_off():
    """Or the test above would show nothing."""
    off = [
        abs(LABELS[RNG.permutation(N)[:80]].sum(0) - 0.2 * LABELS.sum(0)).max() for _ in range(20)
    ]
    assert min(off) > 1


def test_another_seed_carves_otherwise():
    assert len({tuple(subsets.carve(LABELS, 0.3, seed)[1]) for seed in range(10)}) == 10


def test_a_share_of_0_leaves_the_second_part_empty():
    assert len(subsets.carve(LABELS, 0.0, 1)[1]) == 0


@settings(deadline=None, max_examples=30)
@given(small, seeds)
def test_an_order_has_every_example_once(labels, seed):
    np.testing.assert_array_equal(np.sort(label_sets.ordered(labels, seed)), np.arange(len(labels)))


@pytest.mark.parametrize('seed', range(3))
def test_every_beginning_of_an_order_has_nearly_the_share_of_every_class(seed):
    order = label_sets.ordered(LABELS, seed)
    found = LABELS[order].cumsum(0)
    wanted = np.arange(1, N + 1)[:, None] / N * LABELS.sum(0)
    assert abs(found - wanted).max() <= 4
    at_random = LABELS[RNG.permutation(N)].cumsum(0)
    assert abs(found - wanted).mean() < 0.3 * abs(at_random - wanted).mean()


def train(labels=LABELS, count=None, seed=3, **options):
    """The training examples without a validation split."""
    return prepared(labels, count, 0.0, seed, **options)['train']


def prepared(labels, count, validation_fraction, seed, **options):
    examples = Examples(
        load=lambda i: np.full((1, 1, 3), i % 256, np.uint8),
        labels=labels,
        ids=np.arange(len(labels)),
        class_names=('a', 'b', 'c', 'd', 'e'),
    )
    subset = subsets.Subset(**options)
    return subsets.prepare({'train': examples}, count, validation_fraction, seed, subset)


@pytest.mark.parametrize('count', [1, 3, 5])
def test_every_class_has_the_count_that_was_asked_for_and_those_without_any_too(count):
    labels = train(count=count).labels
    assert (labels.sum(0) >= count).all()
    assert (~labels.any(1)).sum() == count


def test_no_more_is_taken_than_one_example_for_each_that_a_class_is_short_of():
    assert len(train(count=5)) <= 5 * (LABELS.shape[1] + 1)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 50))
def test_the_smaller_count_is_part_of_the_larger(one, other, seed):
    few, many = (set(train(count=n, seed=seed).ids) for n in sorted((one, other)))
    assert few <= many


@settings(deadline=None, max_examples=25)
@given(st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 50))
def test_the_smaller_fraction_is_part_of_the_larger(one, other, seed):
    few, many = (set(train(fraction=f, seed=seed).ids) for f in sorted((one, other)))
    assert few <= many


@pytest.mark.parametrize('fraction', [0.01, 0.1, 0.5])
def test_a_fraction_is_one_of_every_class_and_has_one_of_each(fraction):
    labels = train(fraction=fraction).labels
    assert (labels.sum(0) >= 1).all()
    assert abs(len(labels) - fraction * N) <= 5
    assert abs(labels.sum(0) - np.maximum(1, fraction * LABELS.sum(0))).max() <= 5


def test_a_fraction_of_a_count_is_taken_of_the_count():
    half = train(count=4, fraction=0.5)
    assert half.ids.tolist() == train(count=2).ids.tolist()
    assert set(half.ids) <= set(train(count=4).ids)


def test_all_classes_that_have_too_few_are_named():
    sizes = LABELS.sum(0)
    with pytest.raises(InputError) as caught:
        train(count=int(sizes[3]) + 1)
    assert str(caught.value).endswith(f'but class 3 has {sizes[3]}, class 4 has {sizes[4]}')


def test_validation_is_carved_out_of_the_labelled_examples():
    splits = prepared(LABELS, 4, 0.25, 3)
    both = np.concatenate([splits['train'].ids, splits['val'].ids])
    assert sorted(both) == train(count=4).ids.tolist()
    np.testing.assert_array_equal(splits['val'].labels, LABELS[splits['val'].ids])


def test_kept_classes_drop_the_other_labels_and_the_images_of_those_alone():
    labels = np.array(
        [[1, 0, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]],
        np.uint8,
    )
    kept = train(labels, classes=('c', 'a'))
    assert kept.ids.tolist() == [0, 2, 3, 4]  # 2 had no label before
    assert kept.labels.tolist() == [[1, 1], [0, 0], [1, 0], [1, 1]]
    assert kept.class_names == ('c', 'a')


@pytest.mark.parametrize('options', [{'imbalance': 2.0}, {'label_noise': 0.1}])
def test_options_for_one_label_per_image_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(InputError, match=f'config.subset: {name} is {value}; with several labels'):
        train(**options)
