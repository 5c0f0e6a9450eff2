"""Measures of images with several labels, held against scikit-learn's."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tljax.metrics import multi_label, totals
from tljax.metrics.tasks.label_sets import LabelSets

B, K = 12, 4
batches = st.fixed_dictionaries(
    {
        'logits': arrays(np.float32, (B, K), elements=st.integers(-3, 3)),  # with many ties
        'labels': arrays(np.uint8, (B, K), elements=st.integers(0, 1)),
        'losses': arrays(np.float32, B, elements=st.integers(0, 100)),
        'mask': arrays(bool, B),
    }
)


def summary(batch, parts=1):
    """What is made of a batch, evaluated in parts of it."""
    total, rows = multi_label.zeros(K), []
    for part in np.array_split(np.arange(B), parts):
        own = {name: values[part] for name, values in batch.items()}
        total = totals.add(total, multi_label.sums(**own))
        rows.append((own['logits'][own['mask']], own['labels'][own['mask']]))
    return totals.summary(LabelSets(), total, rows)


def theirs(function, batch, **options):
    """scikit-learn's value for the rows that are real, at a threshold of 0."""
    labels, found = (batch[n][batch['mask']] for n in ('labels', 'logits'))
    return function(labels, (found > 0).astype(int), **options)


def real(batch):
    return batch['mask'].any()


@settings(deadline=None, max_examples=60)
@given(batches.filter(real), st.integers(1, 5))
def test_f1_and_subset_accuracy_are_scikit_learns(batch, parts):
    found = summary(batch, parts)
    labels, positive = (batch[n][batch['mask']] > 0 for n in ('labels', 'logits'))
    if (labels | positive).any():
        micro = theirs(sklearn.metrics.f1_score, batch, average='micro')
        assert found['micro_f1'] == pytest.approx(micro)
    each = theirs(sklearn.metrics.f1_score, batch, average=None, zero_division=np.nan)
    np.testing.assert_allclose(np.array(found['class_f1'], float), each)
    exact = theirs(sklearn.metrics.accuracy_score, batch)
    assert found['subset_accuracy'] == pytest.approx(exact)
    hamming = theirs(sklearn.metrics.hamming_loss, batch)
    assert found['label_accuracy'] == pytest.approx(1 - hamming)


def test_macro_f1_is_the_mean_over_the_classes_that_have_one():
    batch = fixed()
    batch['logits'][:, 3], batch['labels'][:, 3] = -1, 0
    wanted = sklearn.metrics.f1_score(
        batch['labels'][:, :3], batch['logits'][:, :3] > 0, average='macro'
    )
    found = summary(batch)
    assert found['macro_f1'] == pytest.approx(wanted)
    assert found['class_f1'][3] is None


@settings(deadline=None, max_examples=60)
@given(batches.filter(real), st.integers(1, 5))
def test_average_precision_of_each_class_is_scikit_learns(batch, parts):
    found = summary(batch, parts)['class_average_precision']
    logits, labels = batch['logits'][batch['mask']], batch['labels'][batch['mask']]
    for k in range(K):
        if labels[:, k].any():
            wanted = sklearn.metrics.average_precision_score(labels[:, k], logits[:, k])
            assert found[k] == pytest.approx(wanted)
        else:
            assert found[k] is None


def fixed():
    rng = np.random.default_rng(0)
    return {
        'logits': rng.normal(size=(B, K)).astype(np.float32),
        'labels': rng.integers(0, 2, (B, K), np.uint8),
        'losses': np.ones(B, np.float32),
        'mask': np.ones(B, bool),
    }


def test_the_mean_average_precision_leaves_out_classes_that_no_image_has():
    batch = fixed()
    batch['labels'][:, 1] = 0
    rest = [0, 2, 3]
    wanted = sklearn.metrics.average_precision_score(
        batch['labels'][:, rest], batch['logits'][:, rest]
    )
    assert summary(batch)['mean_average_precision'] == pytest.approx(wanted)


def test_average_precision_of_many_scores_is_scikit_learns():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=20_000).astype(np.float32)
    labels = rng.random(20_000) < 0.03
    wanted = sklearn.metrics.average_precision_score(labels, scores)
    assert multi_label.average_precision(scores, labels) == pytest.approx(wanted, rel=1e-12)


def test_scores_that_are_all_the_same_have_the_share_of_the_class():
    labels = np.arange(10) < 3
    assert multi_label.average_precision(np.zeros(10), labels) == pytest.approx(0.3)
    assert multi_label.average_precision(np.full(10, np.nan), labels) == pytest.approx(0.3)


def test_a_score_that_is_nan_comes_last():
    labels = np.array([1, 0, 0, 0])
    scores = np.array([np.nan, 3.0, 2.0, 1.0])
    assert multi_label.average_precision(scores, labels) == pytest.approx(0.25)


@settings(deadline=None, max_examples=30)
@given(batches)
def test_the_values_of_padding_do_not_matter(batch):
    other = {name: values.copy() for name, values in batch.items()}
    padding = ~batch['mask']
    other['logits'][padding], other['losses'][padding] = np.nan, np.nan
    other['labels'][padding] = 1
    assert summary(other) == summary(batch)


def test_the_loss_is_the_mean_over_the_rows_that_are_real():
    batch = fixed()
    batch['losses'], batch['mask'] = np.arange(B, dtype=np.float32), np.arange(B) < 5
    found = summary(batch)
    assert (found['loss'], found['count']) == (2.0, 5)


def test_the_sums_of_training_need_no_scores():
    sums = multi_label.sums(**{n: jnp.asarray(v) for n, v in fixed().items()})
    assert 'mean_average_precision' not in totals.summary(LabelSets(), sums)
    assert max(value.size for value in sums.values()) == K


def test_the_summary_of_nothing_has_no_means():
    found = totals.summary(LabelSets(), multi_label.zeros(K))
    assert found.pop('count') == 0
    assert found.pop('class_f1') == [None] * K
    assert set(found.values()) == {None}


def test_logits_of_0_find_nothing():
    batch = {**fixed(), 'logits': np.zeros((B, K), np.float32)}
    assert summary(batch)['micro_f1'] == 0


def test_a_checkpoint_is_ranked_by_the_mean_average_precision():
    assert totals.ranking({'mean_average_precision': 0.7, 'loss': 0.2, 'micro_f1': 0.9}) == {
        'score': 0.7,
        'loss': 0.2,
    }


def test_a_validation_split_in_which_no_image_has_a_label_ranks_by_loss_alone():
    batch = {**fixed(), 'labels': np.zeros((B, K), np.uint8)}
    assert totals.ranking(summary(batch)) == {'score': 0.0, 'loss': 1.0}
