"""Sums and counts, and what is made of them."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tljax.metrics import single_label, totals
from tljax.metrics.tasks.classes import Classes

B, K = 8, 7
examples = st.fixed_dictionaries(
    {
        'logits': arrays(np.float32, (B, K), elements=st.integers(-3, 3)),
        'labels': arrays(np.int32, B, elements=st.integers(0, K - 1)),
        'losses': arrays(np.float32, B, elements=st.integers(0, 100)),
        'mask': arrays(bool, B),
    }
)


def host(sums):
    return {name: np.asarray(value) for name, value in sums.items()}


def batch(**changes):
    """A batch in which every example is right."""
    labels = np.arange(B) % K
    right = {
        'logits': np.eye(K, dtype=np.float32)[labels],
        'labels': labels,
        'losses': np.ones(B, np.float32),
        'mask': np.ones(B, bool),
    }
    return {**right, **changes}


def ranks(logits, labels):
    """How many other classes have at least the logit of the label."""
    own = logits[np.arange(B), labels]
    return (logits >= own[:, None]).sum(-1) - 1


@settings(deadline=None, max_examples=40)
@given(examples)
def test_correct_is_a_label_that_has_the_largest_logit_alone(given_batch):
    sums = single_label.sums(**given_batch)
    rank = ranks(given_batch['logits'], given_batch['labels'])
    assert sums['correct'] == ((rank == 0) & given_batch['mask']).sum()


@settings(deadline=None, max_examples=40)
@given(examples)
def test_top5_is_a_label_with_at_most_four_as_large(given_batch):
    sums = single_label.sums(**given_batch)
    rank = ranks(given_batch['logits'], given_batch['labels'])
    assert sums['top5_correct'] == ((rank < 5) & given_batch['mask']).sum()


@settings(deadline=None, max_examples=40)
@given(examples)
def test_loss_and_count_are_of_the_rows_that_are_real(given_batch):
    sums = single_label.sums(**given_batch)
    assert sums['loss'] == given_batch['losses'][given_batch['mask']].sum()
    assert sums['count'] == given_batch['mask'].sum()


@settings(deadline=None, max_examples=40)
@given(examples)
def test_sums_over_classes_are_the_sums(given_batch):
    sums = single_label.sums(**given_batch)
    assert sums['class_correct'].sum() == sums['correct']
    assert sums['class_count'].sum() == sums['count']


@settings(deadline=None, max_examples=40)
@given(examples)
def test_an_example_counts_for_the_class_of_its_label(given_batch):
    sums = single_label.sums(**given_batch)
    wanted = np.bincount(given_batch['labels'][given_batch['mask']], minlength=K)
    np.testing.assert_array_equal(sums['class_count'], wanted)


@settings(deadline=None, max_examples=40)
@given(examples, arrays(bool, B))
def test_the_sums_of_parts_add_up_to_the_sums_of_all(given_batch, in_first):
    mask = given_batch['mask']
    parts = [
        single_label.sums(**{**given_batch, 'mask': mask & part}) for part in (in_first, ~in_first)
    ]
    whole = host(single_label.sums(**given_batch))
    np.testing.assert_equal(host(totals.add(*parts)), whole)


@settings(deadline=None, max_examples=40)
@given(examples)
def test_nothing_added_changes_nothing(given_batch):
    sums = single_label.sums(**given_batch)
    np.testing.assert_equal(host(totals.add(single_label.zeros(K), sums)), host(sums))


@settings(deadline=None, max_examples=40)
@given(examples)
def test_the_values_of_padding_do_not_matter(given_batch):
    padding = ~given_batch['mask']
    other = {name: value.copy() for name, value in given_batch.items()}
    other['logits'][padding] = np.nan
    other['losses'][padding] = np.nan
    other['labels'][padding] = 0
    wanted = host(single_label.sums(**given_batch))
    np.testing.assert_equal(host(single_label.sums(**other)), wanted)


@pytest.mark.parametrize('value', [np.nan, 0.0, np.inf, -np.inf])
@pytest.mark.parametrize('num_classes', [2, 3, 7])
def test_logits_that_are_all_the_same_are_never_right(value, num_classes):
    logits, labels = np.full((B, num_classes), value, np.float32), np.arange(B) % num_classes
    sums = single_label.sums(**batch(logits=logits, labels=labels))
    assert sums['correct'] == 0


@pytest.mark.parametrize('place', range(K))
def test_one_nan_makes_an_example_wrong(place):
    logits = batch()['logits']
    logits[0, place] = np.nan
    assert single_label.sums(**batch(logits=logits))['correct'] == B - 1


@pytest.mark.parametrize('num_classes', [3, 5, 7])
def test_nan_logits_are_not_among_the_first_five(num_classes):
    logits, labels = np.full((B, num_classes), np.nan, np.float32), np.arange(B) % num_classes
    sums = single_label.sums(**batch(logits=logits, labels=labels))
    assert sums['top5_correct'] == 0


@pytest.mark.parametrize('num_classes', [2, 5])
def test_with_five_classes_or_fewer_all_are_among_the_first_five(num_classes):
    logits = np.random.default_rng(0).normal(size=(B, num_classes)).astype(np.float32)
    sums = single_label.sums(**batch(logits=logits, labels=np.arange(B) % num_classes))
    assert sums['top5_correct'] == B


def test_counts_are_exact_beyond_what_a_float_can_count():
    many = {name: jnp.asarray(value) for name, value in single_label.zeros(K).items()}
    many['count'] = jnp.int32(2**24)
    assert totals.add(many, single_label.sums(**batch()))['count'] == 2**24 + B


def test_adding_keeps_the_earlier_bad_step():
    sums = [{**single_label.zeros(K), 'first_bad_step': jnp.int32(step)} for step in (9, 4)]
    assert totals.add(*sums)['first_bad_step'] == 4
    assert totals.add(*sums[::-1])['first_bad_step'] == 4


@pytest.mark.parametrize('order', [1, -1])
def test_sums_with_different_names_are_refused(order):
    sums = [single_label.zeros(K), totals.training_zeros(single_label.zeros(K), ('penalty_L2SP',))]
    with pytest.raises(KeyError, match='first_bad_step, penalty_L2SP'):
        totals.add(*sums[::order])


def test_sums_without_a_bad_step_have_one_after_every_step():
    assert (
        totals.training_zeros(single_label.zeros(K))['first_bad_step']
        == totals.NO_STEP
        == 2**31 - 1
    )


def test_the_summary_divides_by_the_count():
    logits = batch()['logits']
    logits[:2] = np.roll(logits[:2], 1, -1)  # two of eight are wrong
    found = totals.summary(Classes(), single_label.sums(**batch(logits=logits)))
    assert (found['loss'], found['accuracy'], found['count']) == (1.0, 0.75, B)


def test_accuracy_of_a_class_is_of_its_own_examples():
    logits = batch()['logits']
    logits[0] = np.roll(logits[0], 1)  # of class 0, which has two examples
    found = totals.summary(Classes(), single_label.sums(**batch(logits=logits)))
    assert found['class_accuracy'] == [0.5] + [1.0] * (K - 1)


def test_the_summary_of_nothing_has_no_means():
    found = totals.summary(Classes(), single_label.zeros(K))
    assert found.pop('count') == 0
    assert found.pop('class_accuracy') == [None] * K
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ('correct', 'count', 'low', 'high'),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_newcombes(correct, count, low, high):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I."""
    found = totals.wilson_interval(correct, count)
    np.testing.assert_allclose(found, (low, high), atol=5.1e-5)


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(0, 1))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(count, share):
    correct = round(share * count)
    low, high = totals.wilson_interval(correct, count)
    assert 0 <= low <= correct / count + 1e-12
    assert correct / count - 1e-12 <= high <= 1


@settings(deadline=None)
@given(st.integers(1, 10**4), st.floats(0, 1))
def test_the_interval_of_the_failures_mirrors_that_of_the_successes(count, share):
    correct = round(share * count)
    low, high = totals.wilson_interval(correct, count)
    np.testing.assert_allclose(
        totals.wilson_interval(count - correct, count), (1 - high, 1 - low), atol=1e-12
    )


def test_nothing_counted_leaves_everything_possible():
    assert totals.wilson_interval(0, 0) == (0.0, 1.0)
