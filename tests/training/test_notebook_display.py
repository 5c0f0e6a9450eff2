"""What a run, a network and their parts show in a notebook, and what they print elsewhere."""

import re

import numpy as np
import pytest

import tljax
from tests import small_runs
from tljax.training import fine_tuning
from tljax.types import InputError


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of 4 steps whose classes have names that could be markup."""
    experiment = small_runs.short()
    return fine_tuning.train(experiment, tmp_path_factory.mktemp('display') / '<b>run')


@pytest.fixture(scope='module')
def displayed(run):
    """Everything that a notebook shows of the run."""
    images = np.zeros((2, 20, 30, 3), np.uint8)
    parts = (run, run.show(), run.errors(), run.confusion(), run.predict(images), run.network)
    return {type(part).__name__: part for part in parts}


def test_every_output_is_small_and_complete_html(displayed):
    for name, part in displayed.items():
        html = part._repr_html_()
        assert len(html) < 80_000, name
        assert html.count('<div') == html.count('</div>') > 0, name
        assert html.startswith('<div class="tljax">')
        assert 'light-dark(' in html  # it follows the scheme of the notebook
        assert '\n\n' not in html  # Markdown would end the block there


def test_names_are_shown_as_text(displayed):
    html = displayed['Network']._repr_html_()
    assert '&lt;b&gt;run' in html
    assert '<b>run' not in html


def test_the_matrix_counts_every_test_image(run):
    matrix = run.confusion()
    assert matrix.classes == ('a', 'b', 'c')
    assert matrix.counts.sum() == run.test.count
    assert matrix.counts.trace() == round(run.test.accuracy * run.test.count)


def test_the_errors_are_the_most_confident_wrong_predictions(run):
    errors = run.errors(3)
    wrong = round((1 - run.test.accuracy) * run.test.count)
    assert errors.total == wrong > 3
    assert len(errors) == 3
    assert all(one.label != one.predicted for one in errors)
    probabilities = [one.probability for one in errors]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[0] == errors[0].probability >= max(one.probability for one in run.errors())
    assert errors._repr_html_().count('<img') == 3


def test_predictions_are_those_of_the_network_with_names(run):
    images = np.random.default_rng(0).integers(0, 255, (4, 9, 9, 3)).astype(np.uint8)
    answers = run.predict(images)
    expected = run.network.predict(images)
    np.testing.assert_array_equal(answers.probabilities, expected)
    assert answers.best == tuple('abc'[place] for place in expected.argmax(-1))


def test_what_is_shown_has_a_text_for_a_terminal(displayed):
    assert re.search(r'\d+\.\d % of 21 test images correct', repr(displayed['Shown']))
    assert 'Confusion matrix.' in repr(displayed['ConfusionMatrix'])
    assert 'predicted as' in repr(displayed['WrongPredictions'])
    assert 'most probable' in repr(displayed['PredictedClasses'])


def test_errors_of_a_run_without_one_class_for_each_image_are_refused(run, monkeypatch):
    monkeypatch.setattr(type(run.predictions.splits['test'].task), 'multi_label', True)
    with pytest.raises(InputError, match=r'not one class for each image.*report\.html'):
        run.errors()


def test_a_run_that_is_not_finished_says_so(tmp_path):
    with pytest.raises(InputError, match='the run is not finished'):
        tljax.TrainedRun(tmp_path).errors()
