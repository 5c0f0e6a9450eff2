"""Folders of images."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from tljax.data.decode import ImageError
from tljax.data.folder import SUFFIXES, Folder, FolderError


class Tree:
    """A folder in the making; every image has a colour of its own, its number."""

    def __init__(self, root: pathlib.Path):
        self.root, self.images = root, 0

    def add(self, *names: str) -> 'Tree':
        """Writes an image under each name."""
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.images += 1
            Image.new('RGB', (2, 2), (self.images, 0, 0)).save(path, 'png')
        return self

    def splits(self):
        return Folder(path=str(self.root)).splits()

    def error(self) -> str:
        """What the folder is refused with."""
        with pytest.raises(FolderError) as caught:
            self.splits()
        return str(caught.value)


@pytest.fixture
def tree(tmp_path) -> Tree:
    """Two classes of one image in `train` and in `test`; cats are 1 and 3, dogs 2 and 4."""
    names = ('train/cat/a.png', 'train/dog/a.png', 'test/cat/a.png', 'test/dog/a.png')
    return Tree(tmp_path / 'data').add(*names)


def colours(split):
    """The number that each image of a split was written with, and its class."""
    names = [split.class_names[label] for label in split.labels]
    return [(int(split.load(i)[0, 0, 0]), name) for i, name in enumerate(names)]


def test_an_image_belongs_to_its_split_and_its_class(tree):
    splits = tree.splits()
    assert colours(splits['train']) == [(1, 'cat'), (2, 'dog')]
    assert colours(splits['test']) == [(3, 'cat'), (4, 'dog')]


def test_validation_is_there_only_where_its_folder_is(tree):
    assert set(tree.splits()) == {'train', 'test'}
    tree.add('val/dog/a.png')
    assert colours(tree.splits()['val']) == [(5, 'dog')]


def test_classes_are_in_alphabetical_order(tree):
    tree.add('train/ape/a.png', 'train/zebra/a.png', 'train/Bear/a.png')
    split = tree.splits()['train']
    assert split.class_names == ('Bear', 'ape', 'cat', 'dog', 'zebra')
    assert (np.diff(split.labels) >= 0).all()


def test_ids_are_unique_across_splits(tree):
    tree.add('val/cat/a.png', 'val/cat/b.png', 'train/cat/b.png')
    ids = np.concatenate([split.ids for split in tree.splits().values()])
    assert len(set(ids.tolist())) == len(ids) == 7
    assert ids.dtype == np.int64


def test_the_same_folder_gives_the_same_order_twice(tree):
    tree.add(*(f'train/cat/{name}.png' for name in 'zyxbc'))
    assert colours(tree.splits()['train']) == colours(tree.splits()['train'])


def test_images_are_found_below_a_class_at_any_depth(tree):
    tree.add('train/cat/kittens/2020/b.png')
    assert (5, 'cat') in colours(tree.splits()['train'])


@pytest.mark.parametrize('suffix', [s for lower in SUFFIXES for s in (lower, lower.upper())])
def test_suffixes_count_in_either_case(suffix, tree):
    tree.add(f'train/cat/b{suffix}')
    assert (5, 'cat') in colours(tree.splits()['train'])


@pytest.mark.parametrize('name', ['notes.txt', 'Thumbs.db', 'README', 'list.csv', 'png'])
def test_files_that_are_no_images_are_passed_over(name, tree):
    (tree.root / 'train/cat' / name).write_text('not an image')
    (tree.root / 'train' / name).write_text('not a class')
    assert colours(tree.splits()['train']) == [(1, 'cat'), (2, 'dog')]


@pytest.mark.parametrize(
    'name',
    ['train/cat/.hidden.png', 'train/.cache/a.png', 'train/cat/.thumbnails/a.png'],
)
def test_files_and_folders_that_begin_with_a_dot_are_passed_over(name, tree):
    tree.add(name)
    assert colours(tree.splits()['train']) == [(1, 'cat'), (2, 'dog')]


def test_a_folder_named_like_an_image_is_not_one(tree):
    (tree.root / 'train/cat/old.png').mkdir()
    assert colours(tree.splits()['train']) == [(1, 'cat'), (2, 'dog')]


def test_a_loop_of_links_ends(tree):
    (tree.root / 'train/cat/again').symlink_to(tree.root / 'train', target_is_directory=True)
    assert (1, 'cat') in colours(tree.splits()['train'])


def test_a_class_may_be_a_link(tree, tmp_path):
    Tree(tmp_path).add('elsewhere/a.png')
    (tree.root / 'train/eel').symlink_to(tmp_path / 'elsewhere', target_is_directory=True)
    assert (1, 'eel') in colours(tree.splits()['train'])


def test_a_class_may_be_absent_from_test(tree):
    tree.add('train/eel/a.png')
    assert tree.splits()['test'].class_names == ('cat', 'dog', 'eel')


def test_a_home_folder_may_be_written_with_a_tilde(tree, monkeypatch):
    monkeypatch.setenv('HOME', str(tree.root.parent))
    assert len(Folder(path='~/data').splits()['train']) == 2


def test_nothing_is_written(tree):
    before = sorted(tree.root.rglob('*'))
    tree.splits()['train'].load(0)
    assert sorted(tree.root.rglob('*')) == before


def test_a_damaged_image_is_named_when_it_is_read(tree):
    (tree.root / 'train/cat/a.png').write_bytes(b'')
    with pytest.raises(ImageError, match=r'train/cat/a\.png'):
        tree.splits()['train'].load(0)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert str(tmp_path / 'data') in Tree(tmp_path / 'data').error()


@pytest.mark.parametrize('split', ['train', 'test'])
def test_a_missing_split_is_named_with_what_is_there(split, tree):
    (tree.root / split).rename(tree.root / 'other')
    error = tree.error()
    assert f"['{split}']" in error
    assert 'other' in error


def test_a_class_without_an_image_is_named(tree):
    (tree.root / 'train/eel').mkdir()
    assert f'{tree.root}/train/eel: no image' in tree.error()


def test_a_split_without_an_image_is_named(tree):
    (tree.root / 'val').mkdir()
    assert f'{tree.root}/val: no image' in tree.error()


@pytest.mark.parametrize('split', ['val', 'test'])
def test_a_class_that_is_not_in_train_is_named(split, tree):
    tree.add(f'{split}/eel/a.png')
    assert f"{tree.root}/{split}/eel: class 'eel' has no folder under train" in tree.error()


def test_a_train_folder_without_classes_is_named(tmp_path):
    tree = Tree(tmp_path).add('train/a.png', 'test/cat/a.png')
    assert f'{tmp_path}/train: no folder of a class' in tree.error()


def test_problems_of_classes_are_all_in_one_message(tree):
    (tree.root / 'train/ant').mkdir()
    tree.add('val/bee/a.png', 'test/eel/a.png')
    error = tree.error()
    assert all(name in error for name in ('train/ant', 'val/bee', 'test/eel'))


def test_a_missing_split_does_not_hide_the_other_problems(tree):
    (tree.root / 'test').rename(tree.root / 'tests')
    (tree.root / 'train/ant').mkdir()
    tree.add('val/bee/a.png')
    error = tree.error()
    assert all(name in error for name in ("['test']", 'train/ant', 'val/bee'))
