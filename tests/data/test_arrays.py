"""Images in arrays."""

import numpy as np
import pytest

from tljax.data import arrays, bit_depth, decoded_images
from tljax.data.arrays import Arrays, ArraysError, InMemory
from tljax.metrics.tasks import choice
from tljax.metrics.tasks.classes import Classes
from tljax.types import Preprocessing

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 5, 4, 3), np.uint8)
LABELS = np.arange(12) % 3


def content(**changes):
    usual = {
        'train_images': IMAGES[:9],
        'train_labels': LABELS[:9],
        'test_images': IMAGES[9:],
        'test_labels': LABELS[9:],
    }
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def saved(folder, values, **options):
    np.savez(folder / 'arrays.npz', **values)
    return Arrays(path=str(folder / 'arrays.npz'), **options)


def refusal(folder, **changes):
    with pytest.raises(ArraysError) as caught:
        saved(folder, content(**changes)).splits()
    return str(caught.value)


def loaded(split):
    return np.stack([split.load(i) for i in range(len(split))])


def test_images_and_labels_are_those_of_the_file(tmp_path):
    splits = saved(tmp_path, content(val_images=IMAGES[:2], val_labels=LABELS[:2])).splits()
    assert list(splits) == ['train', 'val', 'test']
    np.testing.assert_array_equal(loaded(splits['train']), IMAGES[:9])
    np.testing.assert_array_equal(splits['test'].labels, LABELS[9:])
    assert splits['train'].class_names == ('0', '1', '2')


def test_classes_may_be_named(tmp_path):
    names = np.array(['ape', 'bee', 'cat'])
    assert saved(tmp_path, content(class_names=names)).splits()['test'].class_names == tuple(names)


def test_without_splits_a_share_of_each_class_is_the_test_split(tmp_path):
    values = {'images': IMAGES, 'labels': LABELS}
    splits = saved(tmp_path, values, test_fraction=0.25).splits()
    assert np.bincount(splits['test'].labels).tolist() == [1, 1, 1]
    both = np.concatenate([loaded(splits['train']), loaded(splits['test'])])
    assert {image.tobytes() for image in both} == {image.tobytes() for image in IMAGES}


def test_arrays_of_train_alone_give_a_share_of_each_class_to_test(tmp_path):
    values = {'train_images': IMAGES, 'train_labels': LABELS}
    splits = saved(tmp_path, values, test_fraction=0.25).splits()
    assert np.bincount(splits['test'].labels).tolist() == [1, 1, 1]


def test_arrays_that_hold_out_validation_alone_have_no_test_split(tmp_path):
    values = content(test_images=None, test_labels=None, val_images=IMAGES, val_labels=LABELS)
    assert set(saved(tmp_path, values).splits()) == {'train', 'val'}


def test_arrays_in_memory_need_no_test_split():
    assert set(arrays.keep(train=(IMAGES, LABELS)).splits()) == {'train'}


SETS = RNG.integers(0, 2, (12, 3), np.uint8)
SETS[0] = 1


@pytest.mark.parametrize('dtype', [np.uint8, bool, np.int64, np.float32])
def test_several_labels_are_multi_hot(dtype, tmp_path):
    values = content(train_labels=SETS[:9].astype(dtype), test_labels=SETS[9:].astype(dtype))
    splits = saved(tmp_path, values).splits()
    assert splits['test'].labels.dtype == np.uint8
    np.testing.assert_array_equal(splits['train'].labels, SETS[:9])
    assert splits['train'].class_names == ('0', '1', '2')


def test_a_test_split_is_drawn_of_several_labels(tmp_path):
    splits = saved(tmp_path, {'images': IMAGES, 'labels': SETS}, test_fraction=0.25).splits()
    assert len(splits['test']) == 3
    assert splits['train'].labels.any(0).all()


ONE_MISSING = SETS[:9] * np.array([1, 0, 1], np.uint8)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'train_labels': SETS[:9] * 2}, 'train_labels is (9, 3), wanted only 0 and 1'),
        ({'train_labels': SETS[:9] * 0.5}, 'train_labels is (9, 3), wanted only 0 and 1'),
        ({'train_labels': SETS}, 'train_labels is uint8 (12, 3), wanted (9,) integers'),
        ({'train_labels': SETS[:9, :0]}, 'train_labels is uint8 (9, 0), wanted (9,) integers'),
        ({'train_labels': ONE_MISSING}, 'train_labels has no example of the classes [1]'),
        ({'test_labels': LABELS[9:]}, "'test': (3,)}, wanted [N] in all splits or the same K"),
        ({'test_labels': SETS[9:, :2]}, "'test': (3, 2)}, wanted [N] in all splits"),
        ({'class_names': np.array(list('abcd'))}, 'class_names has 4 names, labels go up to 2'),
    ],
)
def test_several_labels_that_do_not_fit_are_named(changes, said, tmp_path):
    several = {'train_labels': SETS[:9], 'test_labels': SETS[9:]}
    assert said in refusal(tmp_path, **{**several, **changes})


GRAY = np.array([[[0, 51], [102, 255]]] * 9, np.uint8)


@pytest.mark.parametrize(
    'given',
    [
        GRAY,
        GRAY[..., None],
        GRAY.astype(np.uint16) * 257,
        (GRAY / 255).astype(np.float32),
        GRAY.astype(np.float64),
        GRAY.astype(np.float16),
    ],
    ids=['uint8', 'one channel', 'uint16', 'to 1', 'to 255', 'float16'],
)
def test_gray_of_any_depth_is_seen_in_8_bits(given, tmp_path):
    splits = saved(tmp_path, content(train_images=given, test_images=given[:3])).splits()
    wanted = np.repeat(GRAY[..., None], 3, -1)
    np.testing.assert_array_equal(loaded(splits['train']), wanted)
    assert splits['train'].load(0).dtype == np.uint8


def test_a_dark_split_is_scaled_like_the_others(tmp_path):
    """Floats up to 1 in `test` are of 255, where `train` goes up to 255."""
    values = content(
        train_images=GRAY.astype(np.float32), test_images=np.ones((3, 2, 2), np.float32)
    )
    assert loaded(saved(tmp_path, values).splits()['test']).max() == 1


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'test_images': None}, "missing ['test_images'], found"),
        ({'train_images': None}, "missing ['train_images'], found"),
        ({'train_labels': None}, "missing ['train_labels'], found"),
        ({'train_images': IMAGES}, 'train_labels is int64 (9,), wanted (12,) integers'),
        ({'train_labels': LABELS[:9] / 2}, '3 values that are not integers, the first at 1: 0.5'),
        (
            {'train_labels': LABELS[:9] - 1},
            'train_labels has 3 values below 0, the first at 0: -1; wanted 0',
        ),
        ({'train_images': IMAGES[:9, 0, 0]}, 'train_images is (9, 3), wanted [N, h, w]'),
        ({'train_images': IMAGES[:9].astype(str)}, 'train_images is <U3, wanted numbers'),
        ({'train_images': IMAGES[:9] * np.nan}, 'train_images has no finite value'),
        ({'test_labels': LABELS[9:] + 1}, 'no example of the classes [3]'),
        ({'class_names': np.array(['a', 'b'])}, 'class_names has 2 names, labels go up to 2'),
        ({'val_images': IMAGES}, 'val_labels is missing'),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes, said, tmp_path):
    assert said in refusal(tmp_path, **changes)


def test_problems_of_arrays_are_all_in_one_message(tmp_path):
    error = refusal(tmp_path, train_labels=LABELS[:9] - 1, test_images=IMAGES[9:].astype(str))
    assert 'train_labels' in error
    assert 'test_images' in error


def test_nothing_in_a_file_is_unpickled(tmp_path):
    objects = np.array([{}] * 9, object)
    with pytest.raises(ArraysError, match='Object arrays cannot be loaded'):
        saved(tmp_path, content(train_labels=objects)).splits()


@pytest.mark.parametrize('bytes_', [None, b'', b'no zip file'])
def test_a_file_that_cannot_be_read_is_named(bytes_, tmp_path):
    path = tmp_path / 'arrays.npz'
    if bytes_ is not None:
        path.write_bytes(bytes_)
    with pytest.raises(ArraysError, match=str(path)):
        Arrays(path=str(path)).splits()


def test_arrays_in_memory_are_a_source():
    source = arrays.keep(train=(IMAGES[:9], LABELS[:9]), test=(IMAGES[9:], LABELS[9:]))
    splits = InMemory(digest=source.digest).splits()
    np.testing.assert_array_equal(loaded(splits['train']), IMAGES[:9])
    np.testing.assert_array_equal(loaded(splits['test']), IMAGES[9:])


def test_the_digest_of_arrays_follows_their_content():
    def digest(images):
        return arrays.keep(train=(images, LABELS), test=(images, LABELS)).digest

    changed = IMAGES.copy()
    changed[3, 1, 2, 0] ^= 1
    assert digest(IMAGES) == digest(IMAGES.copy()) != digest(changed)


def test_arrays_that_are_not_in_memory_are_asked_for():
    with pytest.raises(ArraysError, match=r'pass the same arrays to tljax\.data\.arrays\.keep'):
        InMemory(digest='of another process').splits()


NAMED = np.array(['cat', 'dog ', 'eel\u00a0'])[LABELS]


@pytest.mark.parametrize(
    'labels',
    [NAMED, np.char.encode(NAMED, 'utf-8'), NAMED[:, None]],
    ids=['strings', 'bytes', 'a column'],
)
def test_strings_are_classes(labels, tmp_path):
    values = content(train_labels=labels[:9], test_labels=labels[9:])
    splits = saved(tmp_path, values).splits()
    assert splits['train'].class_names == ('cat', 'dog', 'eel')
    np.testing.assert_array_equal(splits['test'].labels, LABELS[9:])


def test_strings_are_placed_in_the_order_of_class_names(tmp_path):
    values = content(train_labels=NAMED[:9], test_labels=NAMED[9:])
    values['class_names'] = np.array(['eel', 'dog', 'cat'])
    splits = saved(tmp_path, values).splits()
    assert splits['train'].class_names == ('eel', 'dog', 'cat')
    np.testing.assert_array_equal(splits['test'].labels, 2 - LABELS[9:])


@pytest.mark.parametrize('classes', [2, 3])
@pytest.mark.parametrize('dtype', [np.uint8, np.int64, np.float32])
def test_a_column_of_labels_is_one_label_an_image(classes, dtype, tmp_path):
    labels = (LABELS % classes).astype(dtype)[:, None]
    splits = saved(tmp_path, content(train_labels=labels[:9], test_labels=labels[9:])).splits()
    assert choice.of(splits['train']) == Classes()
    np.testing.assert_array_equal(splits['test'].labels, LABELS[9:] % classes)


@pytest.mark.parametrize(
    ('labels', 'said'),
    [
        (
            np.where(np.arange(12) > 9, -1, LABELS),
            'labels has 2 values below 0, the first at 10: -1',
        ),
        (
            np.where(np.arange(12) > 9, np.nan, LABELS),
            'has 2 values that are not integers, the first',
        ),
        (np.where(np.arange(12) > 9, '', NAMED), 'labels has 2 empty labels, the first at 10'),
        (LABELS + 0.5, 'has 12 values that are not integers, the first at 0: 0.5'),
    ],
)
def test_invalid_labels_are_counted_in_one_line(labels, said, tmp_path):
    with pytest.raises(ArraysError) as caught:
        saved(tmp_path, {'images': IMAGES, 'labels': labels}).splits()
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_strings_of_another_class_are_named(tmp_path):
    values = content(train_labels=NAMED[:9], test_labels=np.array(['cat', 'fox', 'cat']))
    with pytest.raises(ArraysError, match="test_labels has 1 of other classes, .* 1: 'fox'"):
        saved(tmp_path, values).splits()


RAMP = np.tile(np.linspace(0, 1, 4096).reshape(1, 64, 64), (9, 1, 1))


@pytest.mark.parametrize(
    'given',
    [
        np.round(RAMP * 4095).astype(np.uint16),
        np.round(RAMP * 65535).astype(np.int64),
        RAMP * 2 - 1,
        RAMP * 1000,
        np.round(RAMP * 4095 - 1024).astype(np.int16),
    ],
    ids=['12 bits', 'int64', 'from -1', 'to 1000', 'Hounsfield units'],
)
def test_deep_arrays_keep_256_levels_by_the_range_of_train(given, tmp_path):
    splits = saved(tmp_path, content(train_images=given, test_images=given[:3, :8])).splits()
    wanted = np.repeat((RAMP * 255)[..., None], 3, -1)
    np.testing.assert_allclose(loaded(splits['train']), wanted, atol=0.54)
    np.testing.assert_array_equal(splits['test'].load(0), splits['train'].load(0)[:8])


def test_one_split_is_seen_by_the_range_of_the_network():
    values = {'images': RAMP * 1000, 'labels': LABELS[:9]}
    examples, _ = arrays.one_split(values, None, 'file')
    with pytest.raises(bit_depth.RangeError, match='pass --gray_range=LOW,HIGH'):
        examples.load(0)
    shown = decoded_images.wrap({'': examples}, Preprocessing(gray_range=(0, 2000)), 0)['']
    assert shown.load(0).max() == 128
