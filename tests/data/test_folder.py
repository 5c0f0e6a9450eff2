"""Folders of images."""

import os
import pathlib
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from tljax.data import decode, files
from tljax.data.decode import ImageError
from tljax.data.files import SUFFIXES, FolderError
from tljax.data.folder import Folder


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

    def splits(self, **options):
        return Folder(path=str(self.root), **options).splits()

    def error(self, **options) -> str:
        """What the folder is refused with."""
        with pytest.raises(FolderError) as caught:
            self.splits(**options)
        return str(caught.value)

    def notes(self) -> str:
        """The notes of the folder's examples on skipped files."""
        findings = self.splits()['train'].findings
        assert findings is not None
        return '\n'.join(findings.notes)


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


def test_val_exists_only_with_its_folder(tree):
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
def test_files_that_are_not_images_are_skipped(name, tree):
    (tree.root / 'train/cat' / name).write_text('not an image')
    (tree.root / 'train' / name).write_text('not a class')
    assert colours(tree.splits()['train']) == [(1, 'cat'), (2, 'dog')]


@pytest.mark.parametrize(
    'name',
    ['train/cat/.hidden.png', 'train/.cache/a.png', 'train/cat/.thumbnails/a.png'],
)
def test_hidden_files_and_folders_are_skipped(name, tree):
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


def test_an_image_that_is_damaged_later_is_named_when_it_is_read(tree):
    split = tree.splits()['train']
    (tree.root / 'train/cat/a.png').write_bytes(b'')
    with pytest.raises(ImageError, match=r'train/cat/a\.png'):
        split.load(0)


def test_a_missing_folder_is_named(tmp_path):
    assert str(tmp_path / 'data') in Tree(tmp_path / 'data').error()


def test_a_missing_train_folder_is_named_with_the_existing_folders(tree):
    (tree.root / 'train').rename(tree.root / 'other')
    error = tree.error()
    assert "['train']" in error
    assert 'other' in error


def test_a_folder_that_holds_out_validation_alone_has_no_test_split(tree):
    (tree.root / 'test').rename(tree.root / 'val')
    splits = tree.splits()
    assert set(splits) == {'train', 'val'}
    assert colours(splits['val']) == [(3, 'cat'), (4, 'dog')]
    assert tree.notes() == ''


def test_without_a_test_folder_a_noted_share_of_each_class_becomes_the_test_split(tree):
    (tree.root / 'test').rename(tree.root.parent / 'elsewhere')
    tree.add(*(f'train/{name}/{i}.png' for name in ('cat', 'dog') for i in range(9)))
    splits = tree.splits()
    assert [np.bincount(splits[s].labels).tolist() for s in ('train', 'test')] == [[8, 8], [2, 2]]
    assert tree.notes() == 'train is the only split: 20 % of each class become the test split'


def test_a_class_without_an_image_is_named(tree):
    (tree.root / 'train/eel').mkdir()
    assert f'{tree.root}/train/eel: no image' in tree.error()


def test_a_split_without_an_image_is_named(tree):
    (tree.root / 'val').mkdir()
    assert f'{tree.root}/val: no class folder' in tree.error()


@pytest.mark.parametrize('split', ['val', 'test'])
def test_a_class_that_is_not_in_train_is_named(split, tree):
    tree.add(f'{split}/eel/a.png')
    assert f"{tree.root}/{split}/eel: class 'eel' has no folder under train" in tree.error()


def test_a_train_folder_without_classes_is_named(tmp_path):
    tree = Tree(tmp_path).add('train/a.png', 'test/cat/a.png')
    assert f'{tmp_path}/train: no class folder' in tree.error()


def test_problems_of_classes_are_all_in_one_message(tree):
    (tree.root / 'train/ant').mkdir()
    tree.add('val/bee/a.png', 'test/eel/a.png')
    error = tree.error()
    assert all(name in error for name in ('train/ant', 'val/bee', 'test/eel'))


@pytest.fixture
def flat(tmp_path) -> Tree:
    """Classes of 10 and 20 images, in no split."""
    names = [f'{name}/{i:02d}.png' for name, n in (('cat', 10), ('dog', 20)) for i in range(n)]
    return Tree(tmp_path / 'flat').add(*names)


def files_of(split):
    return {str(image) for image in split.encoded}


def test_a_folder_without_splits_gives_a_share_of_each_class_to_test(flat):
    splits = flat.splits(test_fraction=0.3)
    assert np.bincount(splits['test'].labels).tolist() == [3, 6]
    assert np.bincount(splits['train'].labels).tolist() == [7, 14]
    assert splits['test'].class_names == ('cat', 'dog')


def test_the_drawn_splits_are_disjoint_and_cover_the_folder(flat):
    parts = [files_of(split) for split in flat.splits().values()]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 30


def test_the_drawn_splits_depend_on_their_seed_alone(flat):
    drawn = [files_of(flat.splits(split_seed=seed)['test']) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_images_outside_class_folders_are_reported(tmp_path):
    tree = Tree(tmp_path / 'data').add('a.png', 'b.png')
    assert 'no class folder in it, but 2 image(s)' in tree.error()


def test_a_single_class_is_refused(tmp_path):
    assert "one folder, 'cat'" in Tree(tmp_path / 'data').add('cat/a.png', 'cat/b.png').error()


def test_an_empty_class_of_a_folder_without_splits_is_named(flat):
    (flat.root / 'eel').mkdir()
    assert f'{flat.root}/eel: no image' in flat.error()


def test_a_file_instead_of_a_folder_is_refused(tmp_path):
    path = tmp_path / 'list.csv'
    path.write_text('path,label')
    with pytest.raises(FolderError, match='a list of files is a Manifest'):
        Folder(path=str(path)).splits()


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('train/cat/.hidden.png', '1 hidden file(s)'),
        ('train/.cache/a.png', '1 hidden file(s)'),
        ('train/loose.png', '1 image(s) outside the folders of classes'),
    ],
)
def test_notes_count_skipped_files_with_an_example(name, said, tree):
    tree.add(name)
    notes = tree.notes()
    assert said in notes
    assert str(tree.root / name).startswith(notes.rpartition('such as ')[2])


@pytest.mark.parametrize(('name', 'said'), [('notes.txt', '.txt'), ('README', 'suffixless')])
def test_files_that_are_not_images_are_counted_by_suffix(name, said, tree):
    (tree.root / 'train/cat' / name).write_text('not an image')
    assert f'1 {said} file(s) that are not images skipped' in tree.notes()


@pytest.mark.parametrize('name', ['b.jfif', 'b.ppm', 'b.avif', 'b.txt', 'b', 'b.JP2'])
def test_an_image_is_recognised_by_its_content_with_any_suffix(name, tree):
    tree.add(f'train/cat/{name}')
    assert (5, 'cat') in colours(tree.splits()['train'])
    assert tree.notes() == ''


SPELLINGS = [
    ('Training', 'Testing', 'Validation'),
    ('TRAIN', 'Test', 'Val'),
    ('training_set', 'test_set', 'dev_set'),
    ('seg_train/seg_train', 'seg_test/seg_test', 'seg_val/seg_val'),
    ('animalTrain', 'animalTest', 'animalValid'),
    ('train_images', 'holdout', 'eval'),
    ('data/train', 'data/test', 'data/val'),
    ('train-2024', 'tst-2024', 'validation-2024'),
]


@pytest.mark.parametrize('spelling', SPELLINGS, ids=lambda names: names[0])
def test_splits_are_recognised_by_several_names(spelling, tmp_path):
    tree = Tree(tmp_path / 'set')
    tree.add(*(f'{split}/{name}/a.png' for split in spelling for name in ('cat', 'dog')))
    splits = tree.splits()
    assert {name: colours(split) for name, split in splits.items()} == {
        'train': [(1, 'cat'), (2, 'dog')],
        'test': [(3, 'cat'), (4, 'dog')],
        'val': [(5, 'cat'), (6, 'dog')],
    }


def test_a_note_lists_the_folder_of_each_split(tree):
    (tree.root / 'test').rename(tree.root / 'Testing')
    assert 'the folder Testing is the test split' in tree.notes()


def test_an_unused_folder_is_named(tree):
    tree.add('extra/cat/a.png')
    assert '1 folder(s) not used: extra' in tree.notes()


def test_two_folders_of_one_split_are_refused(tree):
    tree.add('Training/cat/a.png')
    assert 'Training, train are all the train split' in tree.error()


def test_a_class_may_be_named_like_a_split(tmp_path):
    tree = Tree(tmp_path / 'vehicles').add(
        *(f'{n}/{i}.png' for n in ('bus', 'train') for i in 'abc')
    )
    assert tree.splits()['train'].class_names == ('bus', 'train')


def test_a_class_whose_images_lie_in_several_folders_is_refused(tmp_path):
    tree = Tree(tmp_path / 'set')
    tree.add(*(f'{a}/{b}/a.png' for a in ('one', 'two') for b in ('cat', 'dog')))
    assert f'{tree.root}/one: a class folder with its images in 2 subfolders (cat, dog' in (
        tree.error()
    )


def test_a_file_in_two_splits_is_refused(tree):
    (tree.root / 'train/cat/link.png').symlink_to(tree.root / 'test/cat/a.png')
    assert 'test/cat/a.png (test) and ' in tree.error()
    assert 'link.png (train) are the same file' in tree.error()


def test_a_link_to_the_data_set_inside_a_class_is_not_followed(tree):
    (tree.root / 'train/cat/all').symlink_to(tree.root)
    assert colours(tree.splits()['train']) == [(1, 'cat'), (2, 'dog')]
    assert '1 link(s) to a folder that contains them' in tree.notes()


def test_a_pipe_named_like_an_image_is_skipped(tree):
    os.mkfifo(tree.root / 'train/cat/pipe.jpg')
    assert '1 pipe(s), socket(s) or device(s)' in tree.notes()
    assert 'a pipe' in str(files.check_file(tree.root / 'train/cat/pipe.jpg'))
    with pytest.raises(ImageError, match='a pipe'):
        decode.read_bytes(files.ImageFile(tree.root / 'train/cat/pipe.jpg'))


def test_a_split_without_class_folders_gets_the_wanted_layout(tree):
    shutil.rmtree(tree.root / 'test')
    tree.add('test/1.png', 'test/2.png')
    wanted = f'{tree.root}/test: no class folder in it, but 2 image(s); wanted '
    assert wanted + f'{tree.root}/test/<class>/*' in tree.error()


def test_classes_that_are_numbers_are_in_their_order(tree):
    tree.add(*(f'train/{n}/a.png' for n in (10, 2, 0)))
    assert tree.splits()['train'].class_names[:3] == ('0', '2', '10')


def test_a_class_is_the_same_in_either_unicode_form(tree):
    composed, apart = (unicodedata.normalize(form, 'café') for form in ('NFC', 'NFD'))
    tree.add(f'train/{composed}/a.png', f'test/{apart}/a.png')
    assert (6, composed) in colours(tree.splits()['test'])


def test_without_skipped_files_there_are_no_notes(tree):
    assert tree.notes() == ''


def test_a_loop_of_links_is_noted(tree):
    (tree.root / 'train/cat/again').symlink_to(tree.root / 'train/cat')
    assert 'train/cat/again' in tree.notes()
    assert len(tree.splits()['train']) == 2


def test_a_link_to_a_folder_elsewhere_is_followed(tree, tmp_path):
    Tree(tmp_path).add('elsewhere/b.png')
    (tree.root / 'train/cat/more').symlink_to(tmp_path / 'elsewhere')
    assert len(tree.splits()['train']) == 3


def test_a_class_whose_name_is_not_utf8_is_refused(tree):
    tree.add('train/b\udcffd/a.png')
    assert 'class b\\udcffd is not UTF-8: rename the folder' in tree.error()
