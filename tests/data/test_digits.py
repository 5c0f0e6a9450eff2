"""The embedded digits."""

from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from tljax.data.digits import Digits


@pytest.fixture(scope='module')
def splits():
    return Digits().splits()


@pytest.fixture(scope='module')
def source() -> Any:
    """What scikit-learn ships."""
    return sklearn.datasets.load_digits()


def test_1000_images_are_for_training_and_797_for_testing(splits):
    assert {name: len(split) for name, split in splits.items()} == {'train': 1000, 'test': 797}


def test_every_digit_is_in_exactly_one_split(splits):
    ids = np.concatenate([split.ids for split in splits.values()])
    np.testing.assert_array_equal(np.sort(ids), np.arange(1797))


def test_the_splits_are_the_same_every_time(splits):
    again = Digits().splits()
    for name in splits:
        np.testing.assert_array_equal(splits[name].ids, again[name].ids)


def test_every_class_has_its_share_in_both_splits(splits):
    counts = {name: np.bincount(split.labels, minlength=10) for name, split in splits.items()}
    share = counts['train'] / (counts['train'] + counts['test'])
    np.testing.assert_allclose(share, 1000 / 1797, atol=0.005)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_an_id_names_the_digit_in_scikit_learns_order(name, splits, source):
    split = splits[name]
    for i in (0, 17, len(split) - 1):
        scaled = split.load(i)[..., 0] * (16 / 255)
        np.testing.assert_array_equal(np.round(scaled), source.images[split.ids[i]])


@pytest.mark.parametrize('name', ['train', 'test'])
def test_labels_are_those_of_the_ids(name, splits, source):
    np.testing.assert_array_equal(splits[name].labels, source.target[splits[name].ids])


def test_images_are_gray_and_use_the_full_range(splits):
    image = np.stack([splits['train'].load(i) for i in range(50)])
    assert (image.dtype, image.shape[1:]) == (np.uint8, (8, 8, 3))
    assert (image == image[..., :1]).all()
    assert (image.min(), image.max()) == (0, 255)


def test_classes_are_named_by_their_digit(splits):
    assert splits['train'].class_names == splits['test'].class_names == tuple('0123456789')
