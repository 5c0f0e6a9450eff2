"""Scores that need something of the source: its outputs, labels or features."""

import numpy as np
import pytest

from tests import plain_scores
from tljax.features import transferability
from tljax.types import InputError

RNG = np.random.default_rng(0)
LABELS = np.concatenate([np.arange(3), RNG.integers(0, 3, 57)])
SOURCE_LABELS = (LABELS + RNG.integers(0, 2, 60)) * 2 % 7
LOGITS = RNG.normal(size=(60, 5)) + np.eye(5)[LABELS]
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)


def entropy(labels):
    shares = np.bincount(labels) / len(labels)
    return -(shares * np.log(shares)).sum()


def test_leep_is_that_of_its_paper():
    wanted = plain_scores.leep(PROBABILITIES, LABELS)
    assert transferability.leep(PROBABILITIES, LABELS) == pytest.approx(wanted, rel=1e-12)


def test_nce_is_that_of_its_paper():
    wanted = plain_scores.nce(SOURCE_LABELS, LABELS)
    found = transferability.nce(source_labels=SOURCE_LABELS, target_labels=LABELS)
    assert found == pytest.approx(wanted, rel=1e-12)


def test_nce_is_the_entropy_of_the_target_given_the_source():
    """The source says all of the target, and the target not all of the source."""
    fine = np.arange(60) % 6
    assert transferability.nce(source_labels=fine, target_labels=fine // 2) == pytest.approx(
        0, abs=1e-15
    )
    other_way = transferability.nce(source_labels=fine // 2, target_labels=fine)
    assert other_way == pytest.approx(-np.log(2))


def test_leep_of_certain_outputs_is_nce():
    certain = np.eye(7)[SOURCE_LABELS]
    wanted = transferability.nce(source_labels=SOURCE_LABELS, target_labels=LABELS)
    assert transferability.leep(certain, LABELS) == pytest.approx(wanted)


def test_leep_is_at_least_nce_and_the_mean_log_confidence():
    """Nguyen et al. 2020, property 2."""
    found = transferability.nce(source_labels=PROBABILITIES.argmax(1), target_labels=LABELS)
    mean_log = np.log(PROBABILITIES.max(1)).mean()
    assert transferability.leep(PROBABILITIES, LABELS) >= found + mean_log


def test_outputs_that_say_nothing_score_the_entropy_of_the_labels():
    even = np.full((60, 5), 0.2)
    assert transferability.leep(even, LABELS) == pytest.approx(-entropy(LABELS))
    same = np.zeros(60, np.int64)
    found = transferability.nce(source_labels=same, target_labels=LABELS)
    assert found == pytest.approx(-entropy(LABELS))


def test_source_classes_that_never_come_up_change_nothing():
    wider = np.pad(PROBABILITIES, ((0, 0), (2, 3)))
    assert transferability.leep(wider, LABELS) == pytest.approx(
        transferability.leep(PROBABILITIES, LABELS)
    )


def test_float32_and_bfloat16_distributions_are_near_enough():
    rounded = PROBABILITIES.astype(np.float16)
    found = transferability.leep(rounded, LABELS)
    assert found == pytest.approx(transferability.leep(PROBABILITIES, LABELS), abs=1e-3)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((LOGITS, LABELS), r'wanted probabilities \(the softmax of logits\)'),
        ((LABELS, PROBABILITIES), r'source_probabilities is \[60\] int64'),
        ((PROBABILITIES, PROBABILITIES), r'labels is \[60, 5\] float64'),
        ((np.where(np.eye(60, 5) > 0, np.nan, PROBABILITIES), LABELS), r'\[0, 0\] is nan'),
        ((PROBABILITIES, LABELS[1:]), 'labels has 59 entries for 60'),
        ((PROBABILITIES, 0 * LABELS), 'all of one class'),
    ],
)
def test_leep_refuses_what_is_no_output_or_no_label(arguments, message):
    with pytest.raises(InputError, match=message):
        transferability.leep(*arguments)


def test_nce_takes_its_arguments_by_name_alone():
    with pytest.raises(TypeError):
        transferability.nce(SOURCE_LABELS, LABELS)  # pyright: ignore


@pytest.mark.parametrize(
    ('source', 'target', 'message'),
    [
        (PROBABILITIES, LABELS, r'source_labels is \[60, 5\] float64'),
        (SOURCE_LABELS[1:], LABELS, 'target_labels has 60 entries for 59'),
        (SOURCE_LABELS, 0 * LABELS, 'target_labels are all of one class'),
    ],
)
def test_nce_refuses_what_are_no_labels(source, target, message):
    with pytest.raises(InputError, match=message):
        transferability.nce(source_labels=source, target_labels=target)


def domains(shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(6, 6))
    return rng.normal(size=(50, 6)) @ mixing, rng.normal(size=(30, 6)) @ mixing + shift


@pytest.mark.parametrize('name', ['frechet_distance', 'proxy_a_distance'])
@pytest.mark.parametrize('shift', [0.3, 1.0])
def test_a_distance_is_that_of_its_paper(name, shift):
    wanted = getattr(plain_scores, name)(*domains(shift))
    assert getattr(transferability, name)(*domains(shift)) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize('name', ['frechet_distance', 'proxy_a_distance'])
def test_a_distance_is_the_same_both_ways_and_turned(name):
    source, target = domains(0.7)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    wanted = getattr(transferability, name)(source, target)
    assert getattr(transferability, name)(target, source) == pytest.approx(wanted)
    assert getattr(transferability, name)(source @ turn + 5, target @ turn + 5) == pytest.approx(
        wanted
    )


@pytest.mark.parametrize('name', ['frechet_distance', 'proxy_a_distance'])
def test_a_distance_grows_with_the_shift(name):
    near, middle, far = (
        getattr(transferability, name)(*domains(shift)) for shift in (0.0, 1.0, 4.0)
    )
    assert near < middle <= far


def test_frechet_distance_of_diagonal_covariances_is_known():
    one = transferability.Moments(mean=np.zeros(3), covariance=np.diag([1.0, 4.0, 0.0]))
    other = transferability.Moments(mean=np.ones(3), covariance=np.diag([9.0, 4.0, 0.25]))
    assert transferability.frechet_distance(one, other) == pytest.approx(3 + 4 + 0 + 0.25)


def test_frechet_distance_of_the_same_features_is_0_whatever_their_rank():
    source = np.random.default_rng(0).normal(size=(20, 50))
    assert transferability.frechet_distance(source, source[::-1]) < 1e-11


def test_frechet_distance_takes_no_roots_of_rounding_errors():
    """One direction of variance 4 against all directions of variance 1."""
    direction = np.random.default_rng(0).normal(size=200)
    direction /= np.linalg.norm(direction)
    one = transferability.Moments(mean=np.zeros(200), covariance=4 * np.outer(direction, direction))
    other = transferability.Moments(mean=np.zeros(200), covariance=np.eye(200))
    assert transferability.frechet_distance(one, other) == pytest.approx(4 + 200 - 2 * 2, rel=1e-12)


def test_moments_will_do_for_the_features():
    source, target = domains(0.7)
    wanted = transferability.frechet_distance(source, target)
    assert transferability.frechet_distance(
        transferability.moments(source), target
    ) == pytest.approx(wanted)


def test_proxy_a_distance_of_domains_apart_is_2_and_of_one_domain_near_0():
    assert transferability.proxy_a_distance(*domains(100.0)) == 2
    rng = np.random.default_rng(0)
    assert (
        transferability.proxy_a_distance(rng.normal(size=(900, 4)), rng.normal(size=(90, 4))) < 0.2
    )


@pytest.mark.parametrize('name', ['frechet_distance', 'proxy_a_distance'])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s, t: (s[:, 1:], t), 'source has 5 features and target 6'),
        (lambda s, t: (s, np.where(t == t[3, 2], np.inf, t)), r'target\[3, 2\] is inf'),
        (lambda s, t: (s[:1], t), r'source is \[1, 6\], wanted two rows'),
        (lambda s, t: (s.astype(int), t), r'source is \[50, 6\] int64'),
    ],
)
def test_a_distance_refuses_what_it_cannot_compare(name, change, message):
    with pytest.raises(InputError, match=message):
        getattr(transferability, name)(*change(*domains()))


@pytest.mark.parametrize(
    ('mean', 'covariance', 'message'),
    [
        (np.zeros(6), np.eye(5), r'source has a mean \[6\] and a covariance \[5, 5\]'),
        (np.zeros(6), np.full((6, 6), np.nan), 'not finite'),
        (np.zeros(6), np.triu(np.ones((6, 6))), 'not symmetric'),
    ],
)
def test_frechet_distance_refuses_moments_of_nothing(mean, covariance, message):
    with pytest.raises(InputError, match=message):
        transferability.frechet_distance(
            transferability.Moments(mean=mean, covariance=covariance), domains()[1]
        )
