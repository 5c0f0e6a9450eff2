"""Scores of unfamiliar images and how they are measured, against scikit-learn and plain NumPy."""

import functools
import json
import pathlib

import numpy as np
import pytest

from tests.metrics.out_of_distribution_inputs import inputs
from tljax.metrics import detection, out_of_distribution
from tljax.metrics.out_of_distribution import SCORES, Scorer
from tljax.types import InputError

REFERENCE = json.loads(
    pathlib.Path(__file__).with_name('out_of_distribution_reference.json').read_text()
)


@functools.cache
def scores():
    """The scores of `inputs`, by set and name."""
    x, labels, kernel, bias = inputs()
    logits = {name: values @ kernel + bias for name, values in x.items()}
    linear = {'kernel': kernel, 'bias': bias}
    scorer = Scorer.fit(x['train'], logits['train'], labels, linear)
    return {
        split: {name: scorer.score(name, logits[split], x[split]) for name in SCORES}
        for split in ('familiar', 'unfamiliar')
    }


@pytest.mark.parametrize('name', SCORES)
def test_a_score_equals_its_independent_form(name):
    for split, wanted in REFERENCE['scores'].items():
        np.testing.assert_allclose(scores()[split][name], wanted[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize('name', SCORES)
def test_the_measures_of_a_score_equal_those_of_scikit_learn(name):
    measured = detection.detection(*(scores()[s][name] for s in ('familiar', 'unfamiliar')))
    for measure, wanted in REFERENCE['detection'][name].items():
        assert getattr(measured, measure) == pytest.approx(wanted, abs=1e-6)
    assert measured.auroc_low < measured.auroc <= measured.auroc_high


def test_equal_scores_are_measured_as_scikit_learn_does():
    tied = (np.round(scores()[s]['energy']) for s in ('familiar', 'unfamiliar'))
    measured = detection.detection(*tied)
    for measure, wanted in REFERENCE['tied'].items():
        assert getattr(measured, measure) == pytest.approx(wanted, abs=1e-6)


def test_the_interval_of_a_perfect_score_stays_within_one():
    perfect = detection.detection(np.arange(20) + 50.0, np.arange(30))
    assert (perfect.auroc, perfect.auroc_high, perfect.fpr95) == (1, 1, 0)
    assert 0.8 < perfect.auroc_low < 1


def test_the_threshold_accepts_95_percent_and_no_smaller_share():
    values = np.random.default_rng(0).permutation(200).astype(float)
    assert (values >= detection.threshold(values)).mean() == 0.95
    assert detection.threshold(np.array([3.0])) == 3.0


def test_a_network_without_training_images_has_the_scores_of_logits():
    scorer = Scorer()
    assert scorer.names == out_of_distribution.OF_LOGITS
    with pytest.raises(InputError, match="no score 'vim', wanted one of max_softmax, energy"):
        scorer.score('vim', np.zeros((2, 3)), np.zeros((2, 4)))


def test_scores_that_are_missing_are_an_error():
    with pytest.raises(InputError, match='scores are empty or have NaN'):
        detection.detection(np.array([1.0, np.nan]), np.zeros(2))
