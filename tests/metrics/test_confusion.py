"""What is taken for what."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tljax.metrics import confusion, single_label

LABELS = np.array([0, 0, 1, 2, 2, 2])
LOGITS = np.eye(3, dtype=np.float32)[[0, 1, 1, 0, 0, 2]]
COUNTS = confusion.count(LOGITS, LABELS)


def test_the_counts_are_scikit_learns():
    wanted = sklearn.metrics.confusion_matrix(LABELS, LOGITS.argmax(1))
    np.testing.assert_array_equal(confusion.matrix(COUNTS, range(3)), wanted)


def test_pairs_stand_in_the_order_of_their_number():
    assert confusion.confused(COUNTS) == [(2, 0, 2), (0, 1, 1)]


def test_every_image_counts_for_its_class():
    assert confusion.class_counts(COUNTS, 4) == [2, 1, 3, 0]


values = st.sampled_from([0.0, 1.0, -1.0, float('nan'), float('inf'), float('-inf')])


classification = jax.jit(single_label.sums)


@settings(deadline=None)
@given(arrays.arrays(np.float32, (4, 3), elements=values))
def test_right_predictions_are_those_of_the_accuracy(logits):
    labels = np.array([0, 1, 2, 0], np.int32)
    sums = classification(jnp.asarray(logits), jnp.asarray(labels), jnp.zeros(4), jnp.ones(4, bool))
    right = confusion.predicted(logits, labels) == labels
    assert right.sum() == sums['correct']


def test_a_matrix_can_be_of_some_classes_only():
    np.testing.assert_array_equal(confusion.matrix(COUNTS, [2, 0]), [[1, 2], [0, 1]])


def test_a_picture_is_black_where_all_of_a_class_went():
    table = np.diag([3, 0, 5])
    small = np.asarray(confusion.picture(table.repeat(40, 0).repeat(40, 1), ['x'] * 120))
    assert small[0, 0, 0] == round(255 * (1 - 1 / 40))
    assert (small[len(small) // 2] == 255).all()


@pytest.mark.parametrize('classes', [1, 3, 100, 101, 2401])
def test_a_picture_has_a_row_for_each_class_and_a_limit(classes):
    table = np.ones((classes, classes), np.int64)
    drawn = confusion.picture(table, ['name'] * classes)
    assert classes <= drawn.height <= max(confusion.SIDE_PX + 1, classes)


def test_a_long_table_has_the_classes_with_the_lowest_values():
    accuracies = [i / 50 for i in range(50)]
    table = confusion.class_table({'accuracy': accuracies}, [1] * 50, tuple(map(str, range(50))))
    assert table.row_count == confusion.CLASSES_SHOWN
    assert '40 lowest of 50' in str(table.title)


def test_counts_of_batches_add_up():
    halves = (slice(0, 3), slice(3, 6))
    parts = [confusion.count(LOGITS[half], LABELS[half]) for half in halves]
    assert sum(parts, collections.Counter()) == COUNTS
