"""The results of a sweep: statuses, the choice by validation, and the names of variants."""

import pytest

from tests import simulated_sweeps as sim
from tljax.sweep import results, variant_names
from tljax.sweep.results import Status
from tljax.sweep.space import SweepError

RATES = sim.axis('optimizer.learning_rate', [0.1, 0.01], 'tuned')
STRATEGIES = sim.axis('strategy', ['FineTune()', 'LinearProbe()'])


def titles(folder):
    """The titles of all variants."""
    content = results.read(folder)
    names = variant_names.names_of(content)
    return [names.title(variant.settings) for variant in content.variants]


def test_the_choice_is_by_validation_where_the_test_score_would_choose_another(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(1)])
    for cell, (val, test) in zip(cells, [(0.9, 0.5), (0.6, 0.95)], strict=True):
        sim.finish(folder, cell, sim.metrics(val, 50), sim.metrics(test, 100))
    (variant,) = results.read(folder).variants
    assert variant.scores('test') == {'0': 0.5}


def test_the_loss_decides_between_equal_validation_scores(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(1)])
    for cell, loss in zip(cells, [0.7, 0.2], strict=True):
        sim.finish(folder, cell, sim.metrics(0.9, 50, loss), sim.metrics(0.5, 100))
    (variant,) = results.read(folder).variants
    assert variant.chosen[0].record.settings['optimizer.learning_rate'] == '0.01'


def test_a_loss_that_is_not_finite_is_the_worst_one(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(1)])
    for cell, loss in zip(cells, [float('nan'), 9.0], strict=True):
        sim.finish(folder, cell, sim.metrics(0.9, 50, loss), sim.metrics(0.5, 100))
    (variant,) = results.read(folder).variants
    assert variant.chosen[0].record.settings['optimizer.learning_rate'] == '0.01'


def test_without_validation_images_nothing_is_chosen_from_several_configurations(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(1)])
    for cell in cells:
        sim.finish(folder, cell, None, sim.metrics(0.9, 100))
    (variant,) = results.read(folder).variants
    assert not variant.chosen
    assert variant.seeds_text('test') == '0 of 1 (1 without validation score)'


def test_a_single_configuration_needs_no_validation_images(tmp_path):
    folder, (cell,) = sim.write_sweep(tmp_path, [sim.seeds(1)])
    sim.finish(folder, cell, None, sim.metrics(0.9, 100))
    (variant,) = results.read(folder).variants
    assert variant.scores('test') == {'0': 0.9}


def test_every_cell_has_its_status(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [sim.seeds(4)])
    done, failed, running, _ = cells
    sim.finish(folder, done, sim.metrics(0.9, 50), sim.metrics(0.9, 50))
    sim.fail(folder, failed)
    held = sim.start(folder, running)
    content = results.read(folder)
    held.release()
    assert [cell.status for cell in content.cells] == [
        Status.DONE,
        Status.FAILED,
        Status.RUNNING,
        Status.OPEN,
    ]
    assert content.variants[0].seeds_text('test') == '1 of 4 (1 failed, 1 running, 1 open)'


@pytest.mark.parametrize('text', ['{', '[1, 2]', '"text"'])
def test_a_damaged_result_is_a_failed_cell(tmp_path, text):
    folder, (cell,) = sim.write_sweep(tmp_path, [sim.seeds(1)])
    folder.workdir(cell).mkdir(parents=True)
    (folder.workdir(cell) / 'result.json').write_text(text)
    (content,) = results.read(folder).cells
    assert content.status is Status.FAILED
    assert 'result.json is damaged' in content.error


def test_a_score_that_is_not_finite_is_a_hole(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [sim.seeds(2)])
    for cell, score in zip(cells, [0.5, float('nan')], strict=True):
        sim.finish(folder, cell, sim.metrics(0.9, 50), sim.metrics(score, 100))
    (variant,) = results.read(folder).variants
    assert variant.seeds_text('test') == '1 of 2 (1 without test score)'


def test_the_budget_counts_configurations_with_a_result(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(2)])
    for cell in list(cells)[:3]:
        sim.finish(folder, cell, sim.metrics(0.9, 50), sim.metrics(0.9, 50))
    sim.fail(folder, list(cells)[3])
    (variant,) = results.read(folder).variants
    assert variant.budget_text() == '1–2 of 2'


def test_with_several_labels_the_score_is_the_mean_average_precision(tmp_path):
    folder, (cell,) = sim.write_sweep(tmp_path, [sim.seeds(1)])
    fields = {'mean_average_precision': 0.7, 'subset_accuracy': 0.2, 'loss': 1.0, 'count': 9}
    sim.finish(folder, cell, fields, fields)
    content = results.read(folder)
    assert content.variants[0].scores('test') == {'0': 0.7}
    assert content.measure == 'mAP'


def test_cells_that_the_sweep_names_twice_count_once(tmp_path):
    points = [{'optimizer.learning_rate': '0.1', 'seed': '0'}] * 2
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(1)], points)
    first, second = cells
    text = (tmp_path / 'sweep.json').read_text().replace(second, first)
    (tmp_path / 'sweep.json').write_text(text)
    (variant,) = results.read(folder).variants
    assert len(variant.seeds[0].cells) == 1


def test_a_name_has_numbers_with_their_axis_and_texts_without(tmp_path):
    axes = [STRATEGIES, sim.axis('per_class', [5, 20]), sim.seeds(2)]
    folder, _ = sim.write_sweep(tmp_path, axes)
    assert titles(folder)[0] == 'FineTune(), per_class=5'


def test_an_axis_that_follows_from_earlier_ones_is_not_in_the_name(tmp_path):
    rates = sim.axis('optimizer.learning_rate', [0.1, 0.01])
    points = [
        {'strategy': strategy, 'optimizer.learning_rate': rate}
        for strategy, rate in [('FineTune()', '0.1'), ('LinearProbe()', '0.01')]
    ]
    folder, _ = sim.write_sweep(tmp_path, [STRATEGIES, rates], points)
    assert titles(folder) == ['FineTune()', 'LinearProbe()']


def test_an_axis_with_one_value_is_not_in_the_name(tmp_path):
    folder, _ = sim.write_sweep(tmp_path, [sim.axis('epochs', [5]), STRATEGIES])
    assert titles(folder) == ['FineTune()', 'LinearProbe()']


def test_axes_with_the_same_last_part_are_named_in_full(tmp_path):
    axes = [sim.axis('optimizer.scale', [1, 2]), sim.axis('strategy.scale', [1, 2])]
    folder, _ = sim.write_sweep(tmp_path, axes)
    assert titles(folder)[0] == 'optimizer.scale=1, strategy.scale=1'


def test_a_sweep_that_does_not_exist_is_an_error(tmp_path):
    folder, _ = sim.write_sweep(tmp_path, [STRATEGIES])
    with pytest.raises(SweepError, match='no such sweep'):
        results.read(folder, 'other')
