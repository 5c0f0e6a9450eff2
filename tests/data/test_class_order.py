"""The order of class names."""

import pytest

from tljax.data.class_order import ordered


@pytest.mark.parametrize(
    'wanted',
    [
        ['0', '1', '2', '10', '11'],
        ['fold2', 'fold10', 'fold10b'],
        ['01', '1', '2'],
        ['2', '10', 'cat'],
        ['Bear', 'ape', 'cat', 'zebra'],
        ['n01440764', 'n01443537', 'n02102040'],
        ['-1', '0'],
        [],
    ],
)
def test_numbers_in_names_count_as_numbers(wanted):
    assert ordered(reversed(wanted)) == wanted
