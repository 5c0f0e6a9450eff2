"""Classes of a data set among those of a network."""

import re

import numpy as np
import pytest

from tljax.metrics import class_names
from tljax.metrics.class_names import ClassesError

NETWORK = ('cat', 'dog', 'eel')


def match(data, network=NETWORK, count=None, aliases=None):
    number = 3 if network is None else len(network)
    count = len(data) if count is None else count
    return class_names.match(network, data, count, number, aliases)


def test_classes_in_the_same_order_stay_as_they_are():
    found = match(NETWORK)
    np.testing.assert_array_equal(found.numbers, [0, 1, 2])
    assert 'in the same order' in found.note


@pytest.mark.parametrize(
    ('data', 'wanted'),
    [(('0', '1', '2'), [0, 1, 2]), (('2', '0'), [2, 0]), (('1', '2', '3'), [0, 1, 2]),
     (('1', '3'), [0, 2]), (('00', '02'), [0, 2])],
)  # fmt: skip
def test_numbers_are_the_indices_of_a_network_without_names(data, wanted):
    found = match(data, network=None)
    np.testing.assert_array_equal(found.numbers, wanted)
    assert f'counted from {int("3" in data)}' in found.note


@pytest.mark.parametrize('data', [('0', '3'), ('0', '7'), ('1', '01'), ('0', 'cat')])
def test_numbers_outside_the_outputs_of_the_network_are_refused(data):
    with pytest.raises(ClassesError, match='2 classes'):
        match(data, network=None)


def test_classes_in_another_order_are_matched_by_name_with_a_note():
    found = match(('eel', 'cat', 'dog'))
    np.testing.assert_array_equal(found.numbers, [2, 0, 1])
    assert 'in another order' in found.note


def test_fewer_classes_are_matched_by_name_with_a_note():
    found = match(('eel', 'cat'))
    np.testing.assert_array_equal(found.numbers, [2, 0])
    assert '2 of the 3 classes' in found.note


def test_a_class_that_the_network_has_not_is_an_error_with_both_sides():
    with pytest.raises(ClassesError) as caught:
        match(('cat', 'dig', 'eel'))
    assert str(caught.value).splitlines()[1:] == ['  + dig', '  - dog']


def test_of_many_classes_a_few_are_listed_and_the_others_counted():
    with pytest.raises(ClassesError) as caught:
        match(['bee', *map(str, range(25))], network=tuple(f'n{i}' for i in range(1000)))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 21 + 21
    assert (lines[21], lines[-1]) == ('  + 6 more', '  - 980 more')


def test_without_names_of_the_network_a_note_says_that_the_order_is_unchecked():
    found = match(NETWORK, network=None)
    np.testing.assert_array_equal(found.numbers, [0, 1, 2])
    assert 'network has no class names' in found.note
    assert 'could not be checked' in found.note


@pytest.mark.parametrize('data', [('cat', 'dog'), ('ant', 'bee', 'cat', 'dog')])
def test_without_names_of_the_network_the_classes_have_to_be_as_many(data):
    with pytest.raises(ClassesError, match=f'the data has {len(data)} classes .*network 3, which'):
        match(data, network=None)


@pytest.mark.parametrize('count', [2, 3])
def test_labels_that_are_numbers_are_taken_as_the_networks(count):
    found = match(None, count=count)
    np.testing.assert_array_equal(found.numbers, np.arange(count))
    assert 'data has no class names' in found.note


def test_labels_beyond_the_network_are_an_error():
    with pytest.raises(ClassesError, match='the data has 4 classes, the network 3'):
        match(None, count=4)


def test_other_names_are_taken_where_all_of_the_data_are_such():
    aliases = {'n1': 0, 'n2': 1, 'n3': 2}
    np.testing.assert_array_equal(match(('n3', 'n1'), aliases=aliases).numbers, [2, 0])
    with pytest.raises(ClassesError, match=re.escape('+ n3')):
        match(('n3', 'cat'), aliases=aliases)


def test_two_classes_of_one_name_are_distinguished_by_their_numbers():
    assert class_names.labels(('crane', 'dog', 'crane'), 3) == ('crane (0)', 'dog', 'crane (2)')


def test_classes_without_names_are_called_by_their_numbers():
    assert class_names.labels(None, 3) == ('0', '1', '2')
