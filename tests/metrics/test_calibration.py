"""Calibration measures, temperature and likely label errors, against plain and other forms."""

import json
import pathlib

import numpy as np
import pytest

from tljax.metrics import calibration, label_errors, scaling
from tljax.types import InputError

REFERENCE = json.loads(pathlib.Path(__file__).with_name('calibration_reference.json').read_text())
LOGITS, LABELS = np.array(REFERENCE['logits']), np.array(REFERENCE['labels'])
P = calibration.probabilities(LOGITS)
SIGMOIDS = calibration.probabilities(LOGITS, multi_label=True)
SETS = (np.random.default_rng(3).random((300, 4)) < SIGMOIDS**0.3 / 1.3).astype(int)


@pytest.mark.parametrize(
    ('value', 'reference'),
    [
        (calibration.expected_calibration_error(P, LABELS), 'torchmetrics_ece'),
        (calibration.expected_calibration_error(P, LABELS), 'netcal_ece'),
        (
            calibration.expected_calibration_error(P, LABELS, equal_mass=True),
            'netcal_ece_equal_mass',
        ),
        (calibration.class_wise_calibration_error(P, LABELS), 'netcal_ece_class_wise'),
        (calibration.brier_score(P, LABELS), 'torch_brier'),
        (calibration.negative_log_likelihood(LOGITS, LABELS), 'torch_nll'),
        (scaling.fit_temperature(LOGITS, LABELS), 'torch_temperature'),
    ],
)
def test_values_are_those_of_other_libraries(value, reference):
    assert value == pytest.approx(REFERENCE[reference], abs=1e-6)


def plain_error(values, right, bins):
    """The calibration error over lists of places."""
    gaps = [abs(right[x].mean() - values[x].mean()) * len(x) for x in bins if len(x)]
    return sum(gaps) / len(values)


def widths(values, count=15):
    """The places of the values in each bin (low, high], one value at a time."""
    bins = [[] for _ in range(count)]
    for place, value in enumerate(values):
        index = next(i for i in range(count) if value <= (i + 1) / count or i == count - 1)
        bins[index].append(place)
    return [np.array(members, int) for members in bins]


def masses(values, count=15):
    """The places of the values in bins of 20 each."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    size = len(values) // count
    return [np.array(order[i : i + size]) for i in range(0, len(values), size)]


def test_errors_are_those_of_a_plain_form():
    confidence, right = P.max(1), P.argmax(1) == LABELS
    summary = calibration.summary(LOGITS, LABELS)
    assert summary['ece'] == pytest.approx(plain_error(confidence, right, widths(confidence)))
    equal = plain_error(confidence, right, masses(confidence))
    assert summary['ece_equal_mass'] == pytest.approx(equal)
    each = [plain_error(P[:, k], k == LABELS, masses(P[:, k])) for k in range(4)]
    assert summary['ece_adaptive'] == pytest.approx(np.mean(each))  # bins of one size


def test_several_labels_are_decisions_of_one_class_each():
    summary = calibration.summary(LOGITS, SETS)
    flat, present = SIGMOIDS.ravel(), SETS.ravel()
    confidence, right = np.maximum(flat, 1 - flat), (flat > 0.5) == present
    assert summary['ece'] == pytest.approx(plain_error(confidence, right, widths(confidence)))
    assert summary['brier'] == pytest.approx(np.mean((flat - present) ** 2))
    logs = np.where(present, np.log(flat), np.log(1 - flat))
    assert summary['negative_log_likelihood'] == pytest.approx(-logs.mean())


def test_a_value_on_an_edge_is_in_the_lower_bin():
    diagram = calibration.reliability([[0.8, 0.2], [0.81, 0.19]], [0, 0], bins=5, resamples=10)
    assert diagram.images.tolist() == [0, 0, 0, 1, 1]


def test_the_bands_of_a_reliability_diagram_are_those_of_resampled_images():
    diagram = calibration.reliability(P, LABELS, bins=5)
    confidence, right = P.max(1), P.argmax(1) == LABELS
    rng, accuracies = np.random.default_rng(1), []
    members = widths(confidence, 5)[4]
    for _ in range(1000):
        rows = rng.integers(0, 300, 300)
        accuracies.append(right[rows][np.isin(rows, members)].mean())
    np.testing.assert_allclose(
        [diagram.low[4], diagram.high[4]], np.quantile(accuracies, (0.025, 0.975)), atol=0.02
    )
    assert diagram.low[4] < diagram.accuracy[4] == right[members].mean() < diagram.high[4]
    assert np.isnan([diagram.accuracy[0], diagram.low[0]]).all()


@pytest.mark.parametrize('several', [False, True])
@pytest.mark.parametrize('margin', [0.1, 3.0, 20.0])
def test_images_that_are_all_classified_right_have_no_temperature(margin, several):
    """Sharper probabilities always fit them better, also where 1 - p rounds to 0."""
    labels = np.arange(20) % 4
    sets = np.eye(4, dtype=bool)[labels]
    noise = np.random.default_rng(0).uniform(0, margin, (20, 4))
    logits = np.where(sets, margin + noise, -noise - 0.01)
    # A softmax stays the same if all its logits rise.
    assert scaling.fit_temperature(*((logits, sets) if several else (logits + 30, labels))) == 1.0


@pytest.mark.parametrize('labels', [LABELS, SETS], ids=['labels', 'sets'])
def test_a_temperature_has_the_least_likelihood_and_scaling_a_lower_one(labels):
    best = scaling.fit_temperature(LOGITS, labels)
    value = calibration.negative_log_likelihood(LOGITS, labels, best)
    for other in (best * 0.99, best * 1.01):
        assert value < calibration.negative_log_likelihood(LOGITS, labels, other)
    scaled = scaling.fit_vector_scaling(LOGITS, labels).apply(LOGITS)
    assert calibration.negative_log_likelihood(scaled, labels) < value


def test_a_temperature_without_a_maximum_is_one():
    assert scaling.fit_temperature(10 * np.eye(3), np.arange(3)) == 1.0
    assert scaling.fit_temperature([[np.inf, 0.0]], [0]) == 1.0


@pytest.mark.parametrize(
    ('p', 'labels', 'message'),
    [
        ([[0.5, 0.5]], [2], 'wanted integers from 0 to 1'),
        ([[0.5, 1.5]], [0], r'not all in \[0, 1\]'),
        (np.zeros((0, 2)), np.zeros(0, int), 'wanted'),
        ([[0.5, 0.5]], [0, 1], 'wanted'),
    ],
)
def test_bad_input_is_refused(p, labels, message):
    with pytest.raises(InputError, match=message):
        calibration.expected_calibration_error(p, labels)


def test_the_confident_joint_and_likely_errors_are_cleanlabs():
    joint = label_errors.confident_joint(P, LABELS)
    np.testing.assert_array_equal(joint, REFERENCE['cleanlab_joint'])
    errors = label_errors.likely_errors(P, LABELS)
    assert errors.places.tolist() == REFERENCE['cleanlab_issues']
    np.testing.assert_array_equal(errors.suggested != LABELS[errors.places], True)


def test_an_improbable_label_is_listed_although_no_other_class_reaches_its_threshold():
    p = np.tile([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]], (4, 1))
    labels = np.tile([0, 1, 2], 4)
    p[0], p[1] = [0.01, 0.59, 0.4], [0.2, 0.3, 0.5]
    p[2] = [0.9, 0.06, 0.04]  # reaches the threshold of class 0, so one image is counted
    errors = label_errors.likely_errors(p, labels)
    assert (errors.places.tolist(), errors.suggested.tolist()) == ([0], [1])


def test_a_class_without_images_gets_no_likely_errors():
    errors = label_errors.likely_errors([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1]], [0, 1])
    assert not len(errors.places)
