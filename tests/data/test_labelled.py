"""One split of labelled images, to evaluate on."""

import numpy as np
import pytest
from PIL import Image

from tljax.data import labelled
from tljax.types import BadFiles, InputError


def save(path, red=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (6, 5), (red, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path):
    """`dog`, `cat` and, in `test` only, `eel`; nothing of `bee`."""
    for split, names in (('train', ('cat', 'dog')), ('test', ('cat', 'dog', 'eel'))):
        for name in names:
            for i in range(2):
                save(tmp_path / 'data' / split / name / f'{i}.png')
    (tmp_path / 'data/test/bee').mkdir()
    return tmp_path / 'data'


def read(path, *args):
    return labelled.read(str(path), *args)


def test_the_test_split_of_a_folder_is_read_by_default(folder):
    found = read(folder)
    assert (found.split, found.examples.class_names) == ('test', ('cat', 'dog', 'eel'))
    np.testing.assert_array_equal(found.examples.labels, [0, 0, 1, 1, 2, 2])
    assert read(folder, 'train').examples.class_names == ('cat', 'dog')


def test_a_class_folder_without_images_is_noted(folder):
    assert read(folder).examples.findings.notes == ['no image of bee']


def test_all_images_of_a_folder_without_splits_are_read(folder):
    found = read(folder / 'test')
    assert (found.split, len(found.examples), found.count) == (None, 6, 3)


def test_one_class_is_enough(folder):
    for name in ('cat', 'dog'):
        for path in (folder / 'test' / name).iterdir():
            path.unlink()
    assert read(folder).examples.class_names == ('eel',)


@pytest.mark.parametrize(
    ('split', 'reason'),
    [('val', 'no split val: --split is one of train, test'), (None, 'neither test nor val')],
)
def test_a_missing_split_is_refused_with_the_existing_ones(split, reason, folder):
    if split is None:
        (folder / 'test').rename(folder.parent / 'test')
    with pytest.raises(InputError, match=reason):
        read(folder, split)


def test_a_split_of_a_folder_without_splits_is_refused(folder):
    with pytest.raises(InputError, match='has no splits: leave out --split=val'):
        read(folder / 'test', 'val')


def test_a_folder_without_class_images_is_refused_with_the_wanted_layout(tmp_path):
    save(tmp_path / 'loose.png')
    with pytest.raises(InputError, match='no image of a class in it, wanted .*<class>'):
        read(tmp_path)


def test_a_missing_path_is_refused(tmp_path):
    with pytest.raises(InputError, match='no such folder or file'):
        read(tmp_path / 'nowhere')


def test_bad_files_are_an_error_with_the_flag_that_skips_them(folder):
    (folder / 'test/cat/0.png').write_bytes(b'<html>')
    with pytest.raises(InputError, match='(?s)skip them with --bad_files=skip.*cat/0.png'):
        read(folder)


def test_bad_files_can_be_skipped(folder):
    (folder / 'test/cat/0.png').write_bytes(b'<html>')
    found = read(folder, None, BadFiles.SKIP)
    assert len(found.examples) == 5
    assert list(found.examples.findings.bad) == [str(folder / 'test/cat/0.png')]


def test_only_the_split_that_is_asked_for_is_looked_at(folder):
    (folder / 'train/cat/0.png').write_bytes(b'<html>')
    assert len(read(folder).examples) == 6


@pytest.fixture
def listed(folder):
    path = folder.parent / 'list.csv'
    rows = ['path,label,split', 'data/test/eel/0.png,eel,test', 'data/test/cat/0.png,cat,test']
    path.write_text('\n'.join([*rows, 'data/train/dog/0.png,dog,train']))
    return path


def test_a_list_gives_the_rows_of_a_split_and_their_classes(listed):
    found = read(listed)
    assert (found.split, found.examples.class_names) == ('test', ('cat', 'eel'))
    assert [str(image) for image in found.examples.encoded] == [
        str(listed.parent / f'data/test/{name}/0.png') for name in ('eel', 'cat')
    ]
    np.testing.assert_array_equal(found.examples.labels, [1, 0])


def test_all_images_of_a_list_without_splits_are_read(listed):
    listed.write_text('path,label\ndata/test/eel/0.png,eel\n')
    assert (read(listed).split, read(listed).examples.class_names) == (None, ('eel',))


def test_a_file_that_is_listed_twice_is_an_error(listed):
    listed.write_text(listed.read_text() + '\ndata/test/eel/0.png,cat,test')
    with pytest.raises(InputError, match='listed several times: data/test/eel/0.png'):
        read(listed)


def arrays(path, **changes):
    images = np.zeros((3, 5, 6, 3), np.uint8)
    np.savez(path, **{'images': images, 'labels': np.array([0, 2, 2]), **changes})
    return path


def test_arrays_without_names_have_numbers_for_classes(tmp_path):
    found = read(arrays(tmp_path / 'data.npz'))
    assert (found.named, found.count, found.split) == (False, 3, None)
    np.testing.assert_array_equal(found.examples.labels, [0, 2, 2])


def test_arrays_may_name_their_classes(tmp_path):
    found = read(arrays(tmp_path / 'data.npz', class_names=np.array(['c', 'b', 'a', 'd'])))
    assert (found.named, found.count) == (True, 4)
    assert found.examples.class_names == ('c', 'b', 'a', 'd')


def test_a_split_of_arrays_needs_no_other(tmp_path):
    np.savez(
        tmp_path / 'data.npz',
        val_images=np.full((2, 4, 4), 9, np.uint8),
        val_labels=np.array([1, 0]),
    )
    found = read(tmp_path / 'data.npz')
    assert (found.split, found.examples.load(0).tolist()[0][0]) == ('val', [9, 9, 9])


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'labels': np.array([0, 1])}, r'  labels is int64 \(2,\), wanted \(3,\) integers'),
        ({'images': np.zeros((3, 5), np.uint8)}, r'  images is \(3, 5\), wanted'),
        ({'class_names': np.array(['a'])}, 'class_names has 1 names, labels go up to 2'),
    ],
)
def test_arrays_that_do_not_fit_together_are_named_as_in_the_file(changes, reason, tmp_path):
    with pytest.raises(InputError, match=reason):
        read(arrays(tmp_path / 'data.npz', **changes))
