"""Real networks on real images give the figures that are stated for them."""

import pytest

from benchmarks import real_networks


@pytest.mark.parametrize(
    'case', real_networks.CASES, ids=lambda case: f'{case.file}-{case.images}'.replace('/', '-')
)
def test_a_ported_network_scores_what_its_original_does(case, real_data):
    error, accuracy, _ = real_networks.measure(case, real_data)
    assert error < 1e-4
    assert accuracy == pytest.approx(case.stated, abs=0.11)  # one image of a thousand
