"""Batches: which examples, in which order, whatever reads them."""

import dataclasses
import io
import time

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tljax.data import decode, pipeline
from tljax.types import BadFiles, Examples, Findings, Preprocessing

PREPROCESSING = Preprocessing(size_px=4, resize_px=4)


def examples(count):
    """Example i is of the colour i, its label i % 3 and its id 100 + i."""
    return Examples(
        load=lambda i: np.full((4, 4, 3), i, np.uint8),
        labels=(np.arange(count) % 3).astype(np.int32),
        ids=100 + np.arange(count),
        class_names=('a', 'b', 'c'),
    )


def stream(count=10, batch_size=4, steps=6, **options):
    options = {'seed': 3, 'threads': 0, **options}
    given_examples = examples(count)
    return iter(
        pipeline.train_batches(
            given_examples, PREPROCESSING, batch_size=batch_size, steps=steps, **options
        )
    )


def ids(batches):
    return [batch['id'].tolist() for batch in batches]


def uneven(counts=(20, 6, 4)):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return dataclasses.replace(examples(len(labels)), labels=labels)


def evaluation(count, batch_size, **options):
    return list(
        pipeline.eval_batches(
            examples(count), PREPROCESSING, batch_size=batch_size, **{'threads': 0, **options}
        )
    )


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize(
    'batches', [stream, lambda: iter(evaluation(10, 4))], ids=['train', 'eval']
)
def test_a_batch_is_of_the_types_that_are_promised(batches):
    found = {name: (value.shape, value.dtype) for name, value in next(batches()).items()}
    assert found == {
        'input': ((4, 4, 4, 3), np.uint8),
        'label': ((4,), np.int32),
        'id': ((4,), np.int64),
        'mask': ((4,), bool),
    }


def test_image_and_label_are_those_of_the_id():
    for batch in stream():
        np.testing.assert_array_equal(batch['input'][:, 0, 0, 0], batch['id'] - 100)
        np.testing.assert_array_equal(batch['label'], (batch['id'] - 100) % 3)


def test_no_row_of_training_is_padding():
    assert all(batch['mask'].all() for batch in stream())


@pytest.mark.parametrize('threads', [1, 4])
def test_the_stream_is_the_same_for_any_number_of_threads(threads):
    assert_equal(list(stream(threads=threads)), list(stream(threads=0)))


@pytest.mark.parametrize('count', [8, 10, 3])
def test_an_epoch_shows_every_example_once(count):
    """Also where an epoch is no whole number of batches, or less than one."""
    shown = np.concatenate(ids(stream(count, steps=8)))
    for epoch in range(3):
        seen = np.sort(shown[epoch * count : (epoch + 1) * count])
        np.testing.assert_array_equal(seen, 100 + np.arange(count))


def test_epochs_differ_in_order():
    epochs = ids(stream(12, batch_size=12, steps=5))
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_another_seed_gives_another_order():
    assert len({str(ids(stream(seed=seed))) for seed in range(3)}) == 3


def test_the_same_seed_gives_the_same_order():
    assert ids(stream()) == ids(stream())


@pytest.mark.parametrize('steps', [1, 4])
def test_the_stream_has_as_many_batches_as_steps(steps):
    assert len(ids(stream(steps=steps))) == steps


def test_a_longer_stream_begins_like_a_shorter_one():
    assert ids(stream(steps=5))[:3] == ids(stream(steps=3))


def test_the_parts_of_two_processes_are_the_batches_of_one():
    parts = [stream(process=(index, 2)) for index in range(2)]
    joined = [
        {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
        for batch in zip(*parts, strict=True)
    ]
    assert_equal(joined, list(stream()))


@pytest.mark.parametrize('threads', [0, 4])
@pytest.mark.parametrize('done', [0, 1, 4, 6])
def test_a_stream_resumes_where_its_state_was_taken(done, threads):
    whole = stream(threads=threads)
    before = [next(whole) for _ in range(done)]
    state = whole.get_state()
    resumed = stream(threads=threads)
    resumed.set_state(state)
    assert_equal(before + list(resumed), list(stream()))


def test_taking_the_state_does_not_move_the_stream():
    watched, states, seen = stream(threads=4), [], []
    for batch in watched:
        seen.append(batch)
        states.append(watched.get_state())
    assert_equal(seen, list(stream()))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 30), st.integers(1, 12))
def test_evaluation_shows_every_example_once(count, batch_size):
    shown = [batch['id'][batch['mask']] for batch in evaluation(count, batch_size)]
    assert np.concatenate([[], *shown]).tolist() == list(range(100, 100 + count))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 30), st.integers(1, 12))
def test_batches_of_evaluation_are_full_and_no_more_than_needed(count, batch_size):
    batches = evaluation(count, batch_size)
    assert {len(batch['mask']) for batch in batches} == {batch_size}
    assert (len(batches) - 1) * batch_size < count <= len(batches) * batch_size


@pytest.mark.parametrize('threads', [1, 4])
def test_evaluation_is_the_same_for_any_number_of_threads(threads):
    assert_equal(evaluation(11, 4, threads=threads), evaluation(11, 4))


@pytest.mark.parametrize('count', [1, 11, 12])
def test_two_processes_evaluate_the_batches_of_one(count):
    parts = [evaluation(count, 4, process=(index, 2)) for index in range(2)]
    joined = [
        {name: np.concatenate([part[name] for part in batch]) for name in batch[0]}
        for batch in zip(*parts, strict=True)
    ]
    assert_equal(joined, evaluation(count, 4))


def test_an_error_of_a_loader_thread_reaches_the_loop():
    def load(index):
        raise OSError('the disk is gone')

    broken = Examples(load=load, labels=np.zeros(3, np.int32), ids=np.arange(3), class_names=('a',))
    with pytest.raises(OSError, match='the disk is gone'):
        list(
            pipeline.train_batches(broken, PREPROCESSING, batch_size=2, steps=1, seed=0, threads=4)
        )


class Image:
    """Image i of a data set in files, the third of which has vanished."""

    def __init__(self, index):
        self.index = index

    def __str__(self):
        return f'image {self.index}'

    def read(self):
        if self.index == 3:
            raise FileNotFoundError(2, 'No such file')
        buffer = io.BytesIO()
        PIL.Image.new('RGB', (4, 4), (self.index,) * 3).save(buffer, 'png')
        return buffer.getvalue()

    def stamp(self):
        return str(self)


def examples_in_files(policy):
    encoded = [Image(i) for i in range(5)]
    return dataclasses.replace(
        examples(5),
        load=decode.loader(encoded),
        encoded=encoded,
        findings=Findings(policy=policy),
    )


def test_a_file_that_vanishes_while_bad_ones_are_skipped_is_masked_and_listed():
    given_examples = examples_in_files(BadFiles.SKIP)
    stream = pipeline.train_batches(given_examples, PREPROCESSING, batch_size=5, steps=2, seed=0)
    for batch in stream:
        np.testing.assert_array_equal(batch['mask'], batch['id'] != 103)
        np.testing.assert_array_equal(
            batch['input'][:, 0, 0, 0], (batch['id'] - 100) * batch['mask']
        )
    assert list(given_examples.findings.bad) == ['image 3']


def test_a_file_that_disappears_is_not_counted_in_evaluation():
    batches = pipeline.eval_batches(examples_in_files(BadFiles.SKIP), PREPROCESSING, batch_size=4)
    shown = np.concatenate([batch['id'][batch['mask']] for batch in batches])
    assert shown.tolist() == [100, 101, 102, 104]


def test_a_file_that_vanishes_ends_a_run_that_did_not_ask_to_skip():
    stream = pipeline.train_batches(
        examples_in_files(BadFiles.ERROR), PREPROCESSING, batch_size=5, steps=1, seed=0
    )
    with pytest.raises(decode.ImageError, match='image 3'):
        list(stream)


def balanced_epochs(count, **options):
    """The ids and labels of some epochs of 30 examples, in classes of 20, 6 and 4."""
    options = {'seed': 3, 'threads': 0, **options}
    batches = pipeline.train_batches(
        uneven(), PREPROCESSING, batch_size=30, steps=count, balanced=True, **options
    )
    return [(batch['id'], batch['label']) for batch in batches]


def test_balanced_sampling_shows_every_class_as_often():
    for _, labels in balanced_epochs(3):
        assert np.bincount(labels).tolist() == [10, 10, 10]


def test_balanced_sampling_shows_the_examples_of_a_class_evenly():
    for ids_, labels in balanced_epochs(3):
        for label, (least, most) in enumerate([(1, 1), (1, 2), (2, 3)]):
            shown = np.unique(ids_[labels == label], return_counts=True)[1]
            assert least <= shown.min() <= shown.max() <= most


def test_over_epochs_balanced_sampling_shows_every_example():
    shown = np.concatenate([ids_ for ids_, _ in balanced_epochs(20)])
    assert len(set(shown.tolist())) == 30


def test_epochs_of_balanced_sampling_differ():
    assert len({tuple(ids_) for ids_, _ in balanced_epochs(5)}) == 5


@pytest.mark.parametrize('threads', [0, 4])
def test_balanced_sampling_is_the_same_for_any_threads_and_processes(threads):
    parts = [balanced_epochs(3, threads=threads, process=(index, 2)) for index in range(2)]
    for step, (wanted, _) in enumerate(balanced_epochs(3)):
        np.testing.assert_array_equal(np.concatenate([part[step][0] for part in parts]), wanted)


@pytest.mark.parametrize('batches', ['train_batches', 'eval_batches'])
def test_no_more_is_read_ahead_than_two_batches_for_each_thread(batches):
    read = []
    counted = dataclasses.replace(
        examples(200), load=lambda i: read.append(i) or np.zeros((4, 4, 3), np.uint8)
    )
    options = {'steps': 50, 'seed': 0} if batches == 'train_batches' else {}
    stream = iter(
        getattr(pipeline, batches)(counted, PREPROCESSING, batch_size=4, threads=2, **options)
    )
    next(stream)
    time.sleep(0.3)  # for threads to read on, if nothing holds them
    assert len(read) <= 4 * (1 + 2 * 2)
