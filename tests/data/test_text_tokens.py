"""Tokens of texts by fastai's rules, vocabularies and rows."""

import numpy as np
import pytest

from tljax.data import text_rows, text_vocabulary
from tljax.data.text_tokens import SPECIAL, tokens
from tljax.types import InputError, TextPreprocessing


@pytest.mark.parametrize(
    ('text', 'wanted'),
    [
        ('It is GREAT!!!!', 'xxmaj it is xxup great xxrep 4 !'),
        ('I A b', 'i a b'),  # one letter has no mark
        ('no no no, never', 'xxwrep 3 no , never'),
        ("Don't! It's Tom#39;s", "xxmaj do n't ! xxmaj it 's xxmaj tom 's"),
        ('a<br />b nbsp;c &lt;d&gt;', 'a b c < d >'),
        ('3.5 km, 10:30; well-known a/b', '3.5 km , 10:30 ; well - known a / b'),
        ('wait... <unk> @-@ x', 'wait … xxunk - x'),
        ('', ''),
    ],
)
def test_the_tokens_are_those_of_fastais_rules(text, wanted):
    assert tokens(text) == ['xxbos', *wanted.split()]


TEXTS = [tokens(text) for text in ('the cat', 'the dog the dog', 'The bird')]


def test_a_vocabulary_has_special_tokens_then_the_frequent_ones():
    assert text_vocabulary.build(TEXTS, least_count=2) == (*SPECIAL, 'the', 'dog')
    assert text_vocabulary.build(TEXTS, least_count=1)[9:] == ('the', 'dog', 'bird', 'cat')
    assert len(text_vocabulary.build(TEXTS, least_count=1, most_tokens=10)) == 10
    assert text_vocabulary.build(reversed(TEXTS)) == text_vocabulary.build(TEXTS)


def test_tokens_outside_a_vocabulary_are_unknown():
    numbers = text_vocabulary.Numbers(text_vocabulary.build(TEXTS, least_count=2))
    np.testing.assert_array_equal(numbers(tokens('The big dog')), [2, 8, 9, 0, 10])


@pytest.mark.parametrize(
    ('vocabulary', 'problem'),
    [
        (('xxunk', 'xxpad', 'a', 'a'), 'twice'),
        (('xxpad', 'a'), 'lacks xxunk'),
        (('xxunk', 'xxpad', 'xxfake', 'xxfake'), None),
    ],
)
def test_an_invalid_vocabulary_is_a_problem(vocabulary, problem):
    problems = TextPreprocessing(vocabulary=vocabulary).problems()
    assert problems == [] if problem is None else problem in problems[0]


def test_rows_are_cut_and_padded_at_their_end():
    text = np.array([2, 5, 6, 7])
    assert text_rows.padded(text, 6, 1).tolist() == [2, 5, 6, 7, 1, 1]
    assert text_rows.padded(text, 6, 1, backward=True).tolist() == [7, 6, 5, 2, 1, 1]
    assert text_rows.padded(text, 3, 1, backward=True).tolist() == [6, 5, 2]


LENGTHS = np.random.default_rng(0).integers(1, 200, 103)


def stream_of(count, batch_size=8, seed=0):
    example_at = text_rows.sorted_stream(LENGTHS, batch_size, seed)
    return [example_at(position) for position in range(count)]


def test_every_epoch_of_the_sorted_stream_has_each_example_once():
    examples = stream_of(4 * 103)
    for epoch in range(4):
        assert sorted(examples[epoch * 103 : (epoch + 1) * 103]) == list(range(103))


def test_batches_of_the_sorted_stream_have_rows_of_similar_length_in_random_order():
    batches = LENGTHS[np.array(stream_of(5 * 96)).reshape(-1, 8)]
    alike = [batch.max() - batch.min() for batch in batches]
    assert np.median(alike) < 25  # of random batches it is over 140
    means = batches.mean(1)
    assert not (np.diff(means) < 0).all()
    assert stream_of(50) == stream_of(50)
    assert stream_of(50) != stream_of(50, seed=1)


def test_the_sorted_stream_works_with_fewer_examples_than_a_batch():
    example_at = text_rows.sorted_stream(LENGTHS[:3], 8, 0)
    assert sorted(example_at(position) for position in range(3, 6)) == [0, 1, 2]


def windows_of(**fields):
    texts = [np.arange(start, start + 10) for start in range(0, 100, 10)]
    return text_rows.Windows(texts, batch_size=4, window=5, seed=0, **fields)


def test_windows_continue_each_row_and_predict_the_next_token():
    windows = windows_of()
    assert windows.steps == 4
    steps = [windows(step) for step in range(windows.steps)]
    joined = np.concatenate([inputs for inputs, _, _ in steps], 1)
    targets = np.concatenate([targets for _, targets, _ in steps], 1)
    np.testing.assert_array_equal(joined[:, 1:], targets[:, :-1])
    assert [begins for *_, begins in steps] == [True, False, False, False]
    assert len(np.unique(joined)) == joined.size


def test_a_window_depends_on_its_step_alone():
    windows = windows_of()
    later = [windows(step)[0] for step in range(9)][8]
    np.testing.assert_array_equal(windows_of()(8)[0], later)
    assert not np.array_equal(windows(8)[0], windows(0)[0])  # epochs have other orders


def test_backward_windows_have_the_tokens_in_reverse_order():
    inputs, targets, _ = windows_of(backward=True)(0)
    assert (targets < inputs).mean() > 0.8


def test_too_few_tokens_for_a_window_are_an_error():
    with pytest.raises(InputError, match='have 3 tokens, wanted 24 or more'):
        text_rows.Windows([np.arange(3)], batch_size=4, window=5, seed=0)
