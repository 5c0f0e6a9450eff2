"""`tljax.run_sweep` and the object that it returns."""

import re

import pytest

import tljax
from tests import small_runs
from tests.sweep import tiny_sweep
from tljax.sweep import worker
from tljax.types import InputError

pytestmark = pytest.mark.slow  # a sweep of six cells


@pytest.fixture(scope='module')
def sweep(tmp_path_factory):
    """The results of six cells."""
    with small_runs.shared_programs():
        folder = tmp_path_factory.mktemp('sweep')
        return tljax.run_sweep(tiny_sweep.get_config(), tiny_sweep.sweep(), folder)


def test_the_sweep_shows_its_table_and_prints_its_text(sweep):
    html = sweep._repr_html_()
    assert len(html) < 20_000
    for name in ('FineTune', 'LinearProbe'):
        assert re.search(rf'<td class="text">{name}</td>\n<td>\d+\.\d</td>', html), html
    assert '6 cells: 6 done' in repr(sweep)


def test_show_has_the_differences_and_a_figure(sweep):
    shown = sweep.show()
    assert 'FineTune' in repr(shown)
    assert '<svg' in shown._repr_html_()
    assert sweep.show(baseline='LinearProbe')._repr_html_() != shown._repr_html_()


def test_a_figure_is_found_by_its_name(sweep):
    assert '<svg' in sweep.figure('results')._repr_html_()
    with pytest.raises(KeyError, match='wanted one of results'):
        sweep.figure('no such')


def test_the_folder_can_be_read_later(sweep):
    assert repr(tljax.Sweep(str(sweep.workdir))) == repr(sweep)


def test_the_same_call_runs_nothing_again(sweep, monkeypatch):
    monkeypatch.setattr(worker, 'work', None)
    again = tljax.run_sweep(tiny_sweep.get_config(), tiny_sweep.sweep(), sweep.workdir)
    assert repr(again) == repr(sweep)


def test_a_wrong_axis_is_refused_before_anything_runs(tmp_path):
    axes = tljax.Product(tljax.Axis('optimizer.lr', [0.1]), tljax.Seeds(2))
    with pytest.raises(InputError, match='learning_rate'):
        tljax.run_sweep(tiny_sweep.get_config(), axes, tmp_path)
