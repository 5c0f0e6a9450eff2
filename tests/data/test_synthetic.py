"""Images that are computed."""

import numpy as np
import pytest

from tljax.data.synthetic import Synthetic


def test_every_class_has_its_counts():
    splits = Synthetic(num_classes=3, train_per_class=4, test_per_class=2).splits()
    assert np.bincount(splits['train'].labels).tolist() == [4, 4, 4]
    assert np.bincount(splits['test'].labels).tolist() == [2, 2, 2]


def test_an_image_follows_from_the_seed_and_its_id():
    one, again, other = (Synthetic(seed=seed).splits()['train'].load(7) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_no_two_images_are_the_same():
    splits = Synthetic(num_classes=2, train_per_class=5, test_per_class=5).splits()
    images = {split.load(i).tobytes() for split in splits.values() for i in range(len(split))}
    assert len(images) == 20


@pytest.mark.parametrize('name', ['num_classes', 'train_per_class', 'size_px', 'noise_levels'])
def test_a_value_that_cannot_be_is_named(name):
    assert [line for line in Synthetic(**{name: -1}).problems() if line.startswith(f'{name} is -1')]
