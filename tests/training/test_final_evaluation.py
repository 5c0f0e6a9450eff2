"""The line on the temperature of a run."""

import pytest

from tljax.training import final_evaluation


@pytest.mark.parametrize('unsure', [False, True])
def test_only_the_line_on_an_unsure_temperature_says_how_to_ignore_it(unsure):
    errors = {'before': {'ece': 0.05}, 'after': {'ece': 0.02}}
    content = {'temperature': 0.5, 'images': 20, 'unsure': unsure, 'val': errors, 'test': errors}
    text = final_evaluation.calibration_text(content)
    assert 'test calibration error 5.0 % before, 2.0 % after' in text
    assert ('(unsure)' in text) == unsure
    assert ('; tljax predict --uncalibrated ignores it.' in text) == unsure


def test_the_line_on_a_temperature_of_1_says_that_none_fits_better():
    content = {'temperature': 1.0, 'images': 20, 'unsure': True, 'val': {}, 'test': {}}
    text = final_evaluation.calibration_text(content)
    assert 'the 20 validation images determine none' in text
