"""`predictions.npz`: a round trip, and errors for damaged or hostile content."""

import dataclasses
import pathlib

import numpy as np
import pytest

from tljax.data.files import ImageFile
from tljax.metrics.tasks.classes import Classes
from tljax.records import predictions
from tljax.records.predictions import Predictions, SplitPredictions
from tljax.types import Examples, InputError


def split(paths=('a/1.png', ''), labels=(0, 1), **changes):
    """Two images of three classes."""
    fields = {
        'ids': np.array([5, 3]),
        'paths': predictions.text_array(paths),
        'labels': np.asarray(labels, bool if np.ndim(labels) == 2 else np.int32),
        'logits': np.arange(6, dtype=np.float32).reshape(2, 3),
    }
    return SplitPredictions(**{**fields, **changes})


def write(folder, one):
    """Writes a file with one split and returns its path."""
    path = folder / 'predictions.npz'
    predictions.write(path, Predictions(('a', '=b()', '<img onerror>'), {'val': one}))
    return path


@pytest.mark.parametrize(
    'one',
    [
        split(),
        split(labels=[[1, 0, 0], [0, 0, 0]], features=np.ones((2, 4), np.float32)),
        split(paths=('=cmd()/ü\u202e.png', "x'; --/<b>.png")),
    ],
    ids=['labels', 'sets of labels', 'hostile names'],
)
def test_predictions_are_read_as_they_were_written(one, tmp_path):
    content = predictions.read(write(tmp_path, one))
    assert content.classes == ('a', '=b()', '<img onerror>')
    for part in predictions.PARTS:
        np.testing.assert_array_equal(getattr(content.splits['val'], part), getattr(one, part))
    assert content.splits['val'].task == one.task


@dataclasses.dataclass(slots=True, kw_only=True)
class Grades(Classes):
    """A task that labels alone do not show."""

    highest: str = 'a'


def test_a_task_that_labels_do_not_show_is_recorded(tmp_path):
    assert 'task' not in np.load(write(tmp_path, split()))
    one = split(stated=Grades(highest='b'))
    content = predictions.read(write(tmp_path, one))
    assert content.splits['val'].task == Grades(highest='b')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'paths': ('../1.png', '')}, r"paths has '../1.png'"),
        ({'paths': ('/etc/passwd', '')}, r"paths has '/etc/passwd'"),
        ({'labels': (0, 3)}, 'labels are 0 to 3, wanted 0 to 2'),
        ({'logits': np.zeros((2, 2), np.float32)}, r'val_logits is \[2, 2\]'),
        ({'ids': np.zeros(3, int)}, 'val_'),
    ],
)
def test_content_that_is_no_set_of_predictions_is_refused(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        predictions.read(write(tmp_path, split(**changes)))


def test_a_damaged_or_pickled_file_is_refused(tmp_path):
    path = write(tmp_path, split())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match='is no file of predictions'):
        predictions.read(path)
    np.savez(path, classes=np.array([{}], object))
    with pytest.raises(InputError, match='is no file of predictions'):
        predictions.read(path)


def examples(*paths):
    """Examples of these files."""
    count = len(paths)
    files = [ImageFile(pathlib.Path(path)) for path in paths]
    fields = {'labels': np.zeros(count, np.int32), 'ids': np.arange(count)}
    return Examples(load=lambda i: None, class_names=('a',), encoded=files, **fields)  # type: ignore[arg-type]


def test_paths_are_relative_to_the_folder_of_the_data(tmp_path):
    one = examples(tmp_path / 'train/a/1.png', tmp_path / 'train' / 'b' / '..' / 'a' / '2.png')
    folder = predictions.data_folder({'train': one}, str(tmp_path))
    assert predictions.relative_paths(one, folder).tolist() == ['train/a/1.png', 'train/a/2.png']


def test_paths_stay_below_the_common_folder_of_files_outside_of_the_data(tmp_path):
    one = examples(tmp_path / 'list' / '..' / 'x' / '1.png', tmp_path / 'y/2.png')
    folder = predictions.data_folder({'train': one}, str(tmp_path / 'list'))
    assert predictions.relative_paths(one, folder).tolist() == ['x/1.png', 'y/2.png']
