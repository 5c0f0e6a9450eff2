"""What a sweep says: tables, paired differences, figures, and sweeps with holes."""

import csv
import io
import math
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from tests import simulated_sweeps as sim
from tljax.metrics import paired_seeds, seed_intervals
from tljax.records.figures import pdf
from tljax.records.pages import table_texts
from tljax.sweep import report
from tljax.sweep.report import (
    axis_figures,
    content,
    costs,
    differences,
    main_table,
    outputs,
    search,
    shares,
    tuned,
)
from tljax.sweep.space import SweepError

STRATEGIES = sim.axis('strategy', ['LinearProbe()', 'FineTune()'])
RATES = sim.axis('optimizer.learning_rate', [0.1, 0.03, 0.01], 'tuned')
SIZES = sim.axis('per_class', [5, 20, 100])
HOSTILE = '<script>alert(1)</script>|_%&#{}$\\~^`*[x](y)\x1b[31m\u202e'


def accuracy(settings):
    """Fine-tuning is better, and so are more images and the middle rate."""
    level = 0.6 + 0.1 * (settings.get('strategy') == 'FineTune()')
    level += 0.05 * math.log(float(settings.get('per_class', 5)) / 5, 4)
    return level - 0.04 * abs(math.log10(float(settings.get(RATES.name, 0.03)) / 0.03))


@pytest.fixture(scope='module')
def complete(tmp_path_factory):
    """A complete sweep with tuned rates, and its page."""
    axes = [STRATEGIES, RATES, SIZES, sim.seeds(4)]
    folder = sim.simulate(tmp_path_factory.mktemp('sweep'), axes, accuracy, images=120)
    report.write(folder)
    return folder


def plain(path, axes, scores, points=None, **fields):
    """A sweep whose cells have these test scores, without predictions."""
    folder, cells = sim.write_sweep(path, axes, points)
    for cell, score in zip(cells, scores, strict=True):
        if score is not None:
            sim.finish(folder, cell, sim.metrics(0.5, 50), sim.metrics(score, 100), **fields)
    return folder


def rows(table):
    """The rows of a table by column."""
    return [dict(zip(table.columns, row.cells, strict=True)) for row in table.rows]


def texts(section):
    """The texts of a section."""
    return ' '.join(block.text for block in section.blocks if hasattr(block, 'text'))


def test_the_row_has_the_mean_with_the_t_interval_over_seeds(tmp_path):
    folder = plain(tmp_path, [sim.seeds(3)], [0.7, 0.8, 0.9])
    (row,) = rows(main_table.table(content.read(folder)))
    interval = seed_intervals.student_t(np.array([0.7, 0.8, 0.9]))
    assert row['test accuracy, %'] == '80.0'
    assert (
        row['95 % interval'] == f'{100 * interval.low:.1f} to {min(100 * interval.high, 100):.1f}'
    )
    assert row['seeds'] == '3'


@pytest.mark.parametrize('count', [seed_intervals.BCA_LEAST - 1, seed_intervals.BCA_LEAST])
def test_the_bca_interval_is_there_from_the_least_number_of_seeds(tmp_path, count):
    scores = np.random.default_rng(0).uniform(0.6, 0.8, count)
    folder = plain(tmp_path, [sim.seeds(count)], scores.tolist())
    table = main_table.table(content.read(folder))
    assert ('BCa interval' in table.columns) == (count >= seed_intervals.BCA_LEAST)


def test_a_mean_over_fewer_seeds_is_marked_in_every_output(tmp_path):
    folder = plain(tmp_path, [sim.seeds(5)], [0.7, 0.8, 0.9, 0.6, None])
    sim.fail(folder, f'{4:012x}', 'boom')
    report.write(folder)
    mark = '4 of 5 (1 failed)'
    for name in ('report.html', 'table.md', 'table.tex'):
        assert mark in (tmp_path / name).read_text()
    assert mark in report.text(folder)
    assert 'This table has holes' in (tmp_path / 'report.html').read_text()


def test_a_failed_cell_is_listed_with_its_error(tmp_path):
    folder = plain(tmp_path, [sim.seeds(2)], [0.7, None])
    sim.fail(folder, f'{1:012x}', 'the disk is full', 'OSError')
    report.write(folder)
    page = (tmp_path / 'report.html').read_text()
    assert 'OSError: the disk is full' in page
    lines = list(csv.DictReader(io.StringIO((tmp_path / 'cells.csv').read_text())))
    assert [line['status'] for line in lines] == ['done', 'failed']
    assert lines[1]['error'] == 'OSError: the disk is full'


def test_a_page_of_a_sweep_without_any_result_can_be_written(tmp_path):
    folder, _ = sim.write_sweep(tmp_path, [STRATEGIES, RATES, SIZES, sim.seeds(2)])
    page = report.write(folder).read_text()
    assert 'No results yet' in page
    assert 'could not be made' not in page
    assert '36 cells: 36 open.' in report.text(folder)


def test_a_page_is_written_while_cells_run(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [STRATEGIES, RATES, sim.seeds(2)])
    for number, cell in enumerate(cells):
        if number % 3 == 0:
            sim.finish(folder, cell, sim.metrics(0.8, 50), sim.metrics(0.7, 100))
    held = sim.start(folder, f'{1:012x}')
    page = report.write(folder).read_text()
    held.release()
    assert '4 done, 1 running, 7 open' in page
    assert 'could not be made' not in page


def test_no_section_of_a_complete_sweep_is_missing(complete):
    page = (complete.path / 'report.html').read_text()
    assert 'could not be made' not in page
    parts = [title for title in outputs.PARTS if title != 'Failed cells']
    assert all(f'<h2>{title}</h2>' in page for title in parts)


def test_every_figure_is_written_in_all_forms(complete):
    figures = complete.path / 'figures'
    names = {path.stem for path in figures.iterdir()}
    assert {'results', 'differences', 'curves-per-class', 'budget-test', 'variance'} <= names
    for name in names:
        xml.etree.ElementTree.parse(figures / f'{name}.svg')
        assert (figures / f'{name}.png').exists()
        assert (figures / f'{name}.csv').read_text().count('\n') > 1
        assert (figures / f'{name}.pdf').read_bytes().startswith(b'%PDF')


def test_without_matplotlib_the_page_says_that_there_is_no_pdf(tmp_path, monkeypatch):
    folder = plain(tmp_path, [sim.seeds(2)], [0.7, 0.8])
    monkeypatch.setattr(pdf, 'is_available', lambda: False)
    page = report.write(folder).read_text()
    assert 'PDF is missing: pip install' in page
    assert not list((tmp_path / 'figures').glob('*.pdf'))
    assert (tmp_path / 'figures/results.svg').exists()


def test_without_a_test_split_the_validation_score_is_called_optimistic(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [sim.seeds(2)])
    for cell in cells:
        sim.finish(folder, cell, sim.metrics(0.8, 50), None)
    source = content.read(folder)
    (row,) = rows(main_table.table(source))
    assert row['validation accuracy, %'] == '80.0'
    assert 'optimistic' in texts(main_table.section(source))
    assert 'optimistic' in report.text(folder)


def test_the_baseline_is_the_first_value_of_the_first_compared_axis(tmp_path):
    folder = plain(tmp_path, [STRATEGIES, sim.seeds(2)], [0.6, 0.6, 0.8, 0.8])
    (one,) = content.read(folder).comparison.differences
    assert one.baseline.settings == {'strategy': 'LinearProbe()'}
    assert one.pair.difference == pytest.approx(0.2)


def test_the_marked_value_is_the_baseline(tmp_path):
    axes = [sim.axis('strategy', ['a', 'b', 'c'], baseline='b'), sim.seeds(2)]
    folder = plain(tmp_path, axes, [0.5] * 6)
    pairs = content.read(folder).comparison.differences
    assert [one.baseline.settings['strategy'] for one in pairs] == ['b', 'b']
    assert [one.variant.settings['strategy'] for one in pairs] == ['a', 'c']


@pytest.mark.parametrize('name', ['FineTune()', 'strategy=FineTune()'])
def test_a_named_baseline_wins(tmp_path, name):
    axes = [sim.axis('strategy', ['LinearProbe()', 'FineTune()'], baseline='LinearProbe()')]
    folder = plain(tmp_path, axes, [0.5, 0.6])
    (one,) = content.read(folder, baseline=name).comparison.differences
    assert one.baseline.settings['strategy'] == 'FineTune()'


@pytest.mark.parametrize(('name', 'message'), [('x', 'no compared axis'), ('5', 'several axes')])
def test_a_baseline_that_is_not_unique_is_an_error_of_one_line(tmp_path, name, message):
    axes = [sim.axis('epochs', [5, 6]), sim.axis('per_class', [5, 7])]
    folder = plain(tmp_path, axes, [0.5] * 4)
    with pytest.raises(SweepError, match=message) as error:
        report.write(folder, baseline=name)
    assert '\n' not in str(error.value)


def test_differences_are_within_equal_values_of_the_other_axes(complete):
    for one in content.read(complete).comparison.differences:
        assert one.variant.settings['per_class'] == one.baseline.settings['per_class']


def test_the_other_axes_of_a_zip_do_not_prevent_a_comparison(tmp_path):
    axes = [STRATEGIES, sim.axis('epochs', [5, 50])]
    points = [
        {'strategy': 'LinearProbe()', 'epochs': '5'},
        {'strategy': 'FineTune()', 'epochs': '50'},
    ]
    folder = plain(tmp_path, axes, [0.5, 0.6], points)
    assert len(content.read(folder).comparison.differences) == 1


def test_parts_of_a_chain_are_compared_with_a_baseline_that_lacks_their_axis(tmp_path):
    axes = [STRATEGIES, sim.axis('strategy.depth', [1, 2])]
    points = [
        {'strategy': 'LinearProbe()'},
        {'strategy': 'FineTune()', 'strategy.depth': '1'},
        {'strategy': 'FineTune()', 'strategy.depth': '2'},
    ]
    folder = plain(tmp_path, axes, [0.5, 0.6, 0.7], points)
    pairs = content.read(folder).comparison.differences
    assert [one.variant.settings['strategy.depth'] for one in pairs] == ['1', '2']


def test_a_variant_without_a_single_baseline_is_named(tmp_path):
    axes = [STRATEGIES, SIZES]
    points = [
        {'strategy': 'LinearProbe()', 'per_class': '5'},
        {'strategy': 'FineTune()', 'per_class': '5'},
        {'strategy': 'FineTune()', 'per_class': '20'},
    ]
    folder = plain(tmp_path, axes, [0.5, 0.6, 0.7], points)
    section = differences.section(content.read(folder))
    assert 'Not compared' in texts(section)
    assert 'FineTune(), per_class=20' in texts(section)


def test_differences_are_paired_by_seed_and_image(complete):
    source = content.read(complete)
    one = source.comparison.differences[0]
    rights = [
        [
            complete.predictions(cell.record.name).splits['test'].logits.argmax(1)
            == complete.predictions(cell.record.name).splits['test'].labels
            for cell in variant.chosen
        ]
        for variant in (one.variant, one.baseline)
    ]
    assert one.pair == paired_seeds.difference(*rights)
    assert one.pair.images == 120


def test_images_are_paired_by_id_in_any_order(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [STRATEGIES, sim.seeds(2)])
    right = np.arange(40) % 3 > 0
    for cell, order in zip(cells, [1, 1, -1, -1], strict=True):
        sim.finish(folder, cell, None, sim.metrics(float(right.mean()), 40))
        labels_fit = right if order == 1 else right[::-1]
        ids = np.arange(40)[::order] if order == 1 else 39 - np.arange(40)
        sim.predict(folder, cell, labels_fit, ids=ids, labels=ids % 2)
    (one,) = content.read(folder).comparison.differences
    assert one.pair.images == 40
    assert one.pair.differences == (0.0, 0.0)
    assert one.pair.low == one.pair.high == 0.0


@pytest.mark.parametrize('damage', ['missing', 'broken', 'other images', 'other score'])
def test_without_usable_predictions_means_are_paired_by_seed(tmp_path, damage):
    folder, cells = sim.write_sweep(tmp_path, [STRATEGIES, sim.seeds(3)])
    for index, cell in enumerate(cells):
        right = np.arange(40) % (3 + index) > 0
        sim.finish(folder, cell, None, sim.metrics(float(right.mean()), 40))
        sim.predict(folder, cell, right)
    last = folder.workdir(list(cells)[-1])
    if damage == 'missing':
        (last / 'predictions.npz').unlink()
    elif damage == 'broken':
        (last / 'predictions.npz').write_bytes(b'PK')
    elif damage == 'other images':
        sim.predict(folder, list(cells)[-1], right, ids=np.arange(40) + 100)
    else:
        sim.finish(folder, list(cells)[-1], None, sim.metrics(0.123, 40))
    (one,) = content.read(folder).comparison.differences
    assert one.pair.images == 0
    assert one.pair.seeds == 3


def test_a_difference_uses_the_seeds_that_both_have(tmp_path):
    folder = plain(tmp_path, [STRATEGIES, sim.seeds(3)], [0.5, 0.6, 0.7, None, 0.8, 0.9])
    (row,) = rows(differences.table(content.read(folder)))
    assert row['seeds'] == '2 of 3'
    assert row['difference, points'] == '+20.0'


def test_p_values_are_adjusted_over_the_whole_table(tmp_path):
    axes = [sim.axis('strategy', ['a', 'b', 'c']), sim.seeds(5)]
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(m, 0.01, 5) for m in (0.5, 0.52, 0.7)])
    folder = plain(tmp_path, axes, scores.tolist())
    pairs = content.read(folder).comparison.differences
    first, second = sorted(pairs, key=lambda one: one.pair.p_value)
    assert first.adjusted == pytest.approx(2 * first.pair.p_value)
    assert second.adjusted == pytest.approx(max(second.pair.p_value, first.adjusted))


def test_too_few_seeds_are_not_distinguishable_and_the_number_needed_is_said(tmp_path):
    folder = plain(tmp_path, [STRATEGIES, sim.seeds(5)], [0.5] * 5 + [0.9, 0.91, 0.92, 0.93, 0.9])
    source = content.read(folder)
    section = differences.section(source)
    (row,) = rows(section.blocks[0])
    assert outputs.verdict(source).startswith('5 seeds are too few to distinguish')
    assert row['result'] == 'not distinguishable'
    assert row['p'] == '0.062'
    assert 'With 5 seeds and 1 test, no adjusted p can be below 0.05' in texts(section)
    assert ': 6 seeds are needed' in texts(section)


def test_a_clear_difference_of_enough_seeds_is_distinguishable(tmp_path):
    rng = np.random.default_rng(0)
    scores = [*rng.normal(0.5, 0.01, 8), *rng.normal(0.7, 0.01, 8)]
    folder = plain(tmp_path, [STRATEGIES, sim.seeds(8)], scores)
    source = content.read(folder)
    (row,) = rows(differences.table(source))
    assert row['result'] == 'better'
    assert int(row['seeds for 1 point']) >= 8
    assert outputs.verdict(source).startswith('FineTune() is better than LinearProbe() by ')


def test_the_best_on_test_figure_is_labelled_as_optimistic(complete):
    (table,) = [
        block for block in tuned.section(content.read(complete)).blocks if hasattr(block, 'rows')
    ]
    assert 'best on test, % (optimistic)' in table.columns
    for row in rows(table):
        assert float(row['best on test, % (optimistic)']) >= float(row['test of the chosen, %'])
    assert 'is not a result' in table.caption


def test_the_table_says_how_often_each_value_was_chosen(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(3)])
    best = {'0': '0.03', '1': '0.03', '2': '0.1'}
    for cell, settings in cells.items():
        val = 0.9 if best[settings['seed']] == settings[RATES.name] else 0.5
        sim.finish(folder, cell, sim.metrics(val, 50), sim.metrics(0.5, 100))
    (row,) = rows(tuned.section(content.read(folder)).blocks[0])
    assert row['chosen learning_rate (seeds)'] == '0.03 (2); 0.1 (1)'
    assert row['configurations'] == '3'


def test_a_choice_at_the_end_of_the_range_is_said(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(2)])
    for cell, settings in cells.items():
        val = 0.5 + float(settings[RATES.name])
        sim.finish(folder, cell, sim.metrics(val, 50), sim.metrics(0.5, 100))
    section = tuned.section(content.read(folder))
    assert 'The largest value of learning_rate, 0.1, was chosen in 2 of 2 cases' in texts(section)


def test_the_expected_score_ends_at_that_of_the_best_validation(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [RATES, sim.seeds(1)])
    for cell, (val, test) in zip(cells, [(0.5, 0.9), (0.9, 0.6), (0.7, 0.7)], strict=True):
        sim.finish(folder, cell, sim.metrics(val, 50), sim.metrics(test, 100))
    (summary,) = content.read(folder).summaries
    curve = tuned.expected(summary, with_test=True)
    assert curve.validation[0] == pytest.approx(0.7)
    assert curve.test[0] == pytest.approx((0.9 + 0.6 + 0.7) / 3)
    assert curve.validation[-1] > curve.validation[0]
    assert curve.test[-1] < curve.test[0]  # validation misleads here, and the curve shows it


@pytest.mark.parametrize(
    ('numbers', 'log'),
    [([5, 20, 100], True), ([0.1, 0.01, 0.001], True), ([1, 2, 3], False), ([0, 1, 100], False)],
)
def test_an_axis_is_logarithmic_where_its_values_are(numbers, log):
    assert axis_figures.is_log(numbers) == log


def figures(section):
    """The figures of a section by name."""
    blocks = [block for block in section.blocks if hasattr(block, 'figures')]
    return {figure.name: figure for block in blocks for figure in block.figures}


def test_a_curve_over_a_numeric_axis_has_a_line_for_each_other_combination(complete):
    figure = figures(axis_figures.section(content.read(complete)))['curves-per-class']
    assert {row[0] for row in figure.rows} == {'LinearProbe()', 'FineTune()'}
    assert [row[1] for row in figure.rows] == [5.0, 20.0, 100.0] * 2


def test_a_heat_map_has_the_means_and_a_hole_where_there_is_none(tmp_path):
    folder = plain(tmp_path, [STRATEGIES, SIZES], [0.5, 0.6, 0.7, 0.8, None, 0.9])
    figure = figures(axis_figures.section(content.read(folder)))['map-strategy-per-class']
    assert figure.rows == [('LinearProbe()', 0.5, 0.6, 0.7), ('FineTune()', 0.8, None, 0.9)]


def test_axes_with_similar_names_have_figures_of_their_own(tmp_path):
    axes = [sim.axis('a-b', [1, 2]), sim.axis('a+b', [1, 2])]
    folder = plain(tmp_path, axes, [0.5, 0.6, 0.7, 0.8])
    section = axis_figures.section(content.read(folder))
    assert len(figures(section)) == 3


def test_the_pareto_front_has_the_points_that_no_cheaper_one_exceeds():
    assert costs.pareto_front([3, 1, 2, 2], [0.9, 0.5, 0.4, 0.7]) == [1, 3, 0]


def test_the_cost_table_has_recorded_operations(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [STRATEGIES, sim.seeds(1)])
    for cell, flops in zip(cells, [1e12, 5e12], strict=True):
        sim.finish(folder, cell, None, sim.metrics(flops / 1e13, 100), flops=flops)
    section = costs.section(content.read(folder))
    assert [row['FLOPs'] for row in rows(section.blocks[1])] == ['1.00e+12', '5.00e+12']
    assert [row['Pareto front'] for row in rows(section.blocks[1])] == ['FLOPs', 'FLOPs']


def test_shares_of_a_full_grid_sum_to_one(complete):
    figure = figures(shares.section(content.read(complete)))['variance']
    assert sum(share for _, share in figure.rows) == pytest.approx(1)
    assert max(figure.rows, key=lambda row: row[1])[0] == 'strategy'


def test_a_hole_leaves_out_the_shares_with_the_reason(tmp_path):
    folder = plain(tmp_path, [STRATEGIES, sim.seeds(2)], [0.5, 0.6, 0.7, None])
    section = shares.section(content.read(folder))
    assert '1 of 4 cells have no score' in texts(section)


def test_a_random_search_has_parallel_coordinates(tmp_path):
    rng = np.random.default_rng(0)
    drawn = [float(f'{10 ** rng.uniform(-4, -1):.4g}') for _ in range(10)]
    rates = sim.axis('optimizer.learning_rate', drawn, 'tuned')
    folder = sim.simulate(
        tmp_path, [STRATEGIES, rates, sim.seeds(1)], accuracy, with_predictions=False
    )
    figure = search.figure(content.read(folder))
    assert len(figure.rows) == 20
    assert figure.columns == ('strategy', 'learning_rate', 'validation')


def test_a_small_grid_has_no_parallel_coordinates(complete):
    assert search.figure(content.read(complete)) is None


def test_the_page_has_all_that_is_needed_to_repeat_the_sweep(tmp_path):
    folder = plain(tmp_path, [STRATEGIES, sim.seeds(2)], [0.5, 0.6, 0.7, None])
    sim.finish(folder, f'{3:012x}', None, sim.metrics(0.5, 100), git_revision='other')
    page = report.write(folder).read_text()
    assert 'tljax sweep --config=x.py' in page
    assert 'abc123 (3 cells); other (1 cells)' in page
    assert 'jax 0.10.2' in page
    assert '2 × cpu (cpu)' in page
    assert '&lt;b&gt;bold&lt;/b&gt;' in page  # of the config


def test_names_are_shown_as_text_in_every_output(tmp_path):
    axes = [sim.axis('strategy', [HOSTILE, '=cmd()']), sim.axis('x', ['a', 'b']), sim.seeds(1)]
    folder = plain(tmp_path, axes, [0.5, 0.6, 0.7, None])
    sim.fail(folder, f'{3:012x}', HOSTILE)
    page = report.write(folder).read_text()
    assert '<script>alert' not in page
    assert 'could not be made' not in page
    assert '<script>' not in (tmp_path / 'table.md').read_text().replace('\\<', '')
    assert '\x1b' not in report.text(folder)
    assert max(map(len, report.text(folder).splitlines())) <= 110
    lines = list(csv.reader(io.StringIO((tmp_path / 'cells.csv').read_text())))
    assert "'=cmd()" in lines[3]
    for path in (tmp_path / 'figures').glob('*.svg'):
        xml.etree.ElementTree.parse(path)


def test_every_row_of_a_markdown_table_has_all_its_cells(tmp_path):
    axes = [sim.axis('strategy', [HOSTILE, 'b|c\nd']), sim.seeds(2)]
    folder = plain(tmp_path, axes, [0.5, 0.6, 0.7, 0.8])
    table = main_table.table(content.read(folder))
    lines = table_texts.markdown(table).split('\n\n')[0].splitlines()
    counts = {len(re.findall(r'(?<!\\)\|', line.replace(r'\\', ''))) for line in lines}
    assert counts == {len(table.columns) + 1}


def test_latex_has_no_unescaped_special_characters():
    text = table_texts.latex_text(HOSTILE + '\n_%&#{}$')
    rest = re.sub(r'\\text[a-z]+\{\}|\\[{}$&#%_]', '', text).replace('{[}', '').replace('{]}', '')
    assert not set(rest) & set('\\{}$&#%_^~<>|')


def test_a_latex_table_has_as_many_cells_in_each_row_as_columns(complete):
    text = (complete.path / 'table.tex').read_text()
    for columns, body in re.findall(
        r'\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}', text, re.S
    ):
        for line in body.splitlines():
            if line.endswith(r'\\'):
                assert line.replace(r'\&', '').count('&') == len(columns) - 1
    assert text.count(r'\toprule') == text.count(r'\bottomrule') == 2


def test_cells_csv_has_one_line_for_each_cell_with_axes_and_metrics(complete):
    lines = list(csv.DictReader(io.StringIO((complete.path / 'cells.csv').read_text())))
    assert len(lines) == 2 * 3 * 3 * 4
    assert sum(int(line['chosen']) for line in lines) == 2 * 3 * 4
    assert lines[0]['strategy'] == 'LinearProbe()'
    assert float(lines[0]['test_accuracy']) <= 1
    assert float(lines[0][RATES.name]) == 0.1


def test_a_negative_number_stays_a_number_in_cells_csv(tmp_path):
    folder = plain(tmp_path, [sim.axis('x', [-1, 1])], [0.5, 0.6])
    report.write(folder)
    lines = list(csv.DictReader(io.StringIO((tmp_path / 'cells.csv').read_text())))
    assert lines[0]['x'] == '-1'


def test_one_seed_has_no_interval_and_says_that_its_test_is_over_images(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [STRATEGIES, sim.seeds(1)])
    for cell, modulus in zip(cells, [2, 5], strict=True):
        right = np.arange(100) % modulus > 0
        sim.finish(folder, cell, None, sim.metrics(float(right.mean()), 100))
        sim.predict(folder, cell, right)
    source = content.read(folder)
    assert [row['95 % interval'] for row in rows(main_table.table(source))] == ['–', '–']
    table = differences.table(source)
    assert 'With one seed, p and the interval are over images' in table.caption
    assert rows(table)[0]['images'] == '100'


def test_with_several_labels_scores_are_paired_by_seed(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [STRATEGIES, sim.seeds(3)])
    for index, cell in enumerate(cells):
        fields = {'mean_average_precision': 0.5 + 0.05 * index, 'loss': 1.0, 'count': 9}
        sim.finish(folder, cell, fields, fields)
    source = content.read(folder)
    assert rows(main_table.table(source))[0]['test mAP, %'] == '55.0'
    assert 'scores of single images are not comparable' in differences.table(source).caption


def test_a_named_sweep_is_written_into_its_own_folder(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [sim.seeds(1)], name='depth')
    sim.finish(folder, next(iter(cells)), None, sim.metrics(0.5, 100))
    assert report.write(folder, 'depth') == tmp_path / 'depth/report.html'
    assert (tmp_path / 'depth/table.tex').exists()
    assert not (tmp_path / 'report.html').exists()


def test_an_unchanged_figure_is_not_drawn_again(complete):
    path = complete.path / 'figures/results.png'
    before = path.stat().st_mtime_ns
    report.write(complete)
    assert path.stat().st_mtime_ns == before


def test_the_report_leaves_no_other_files(complete):
    names = {path.name for path in complete.path.iterdir()}
    wanted = {'sweep.json', 'cells', 'report.html', 'table.md', 'table.tex', 'cells.csv', 'figures'}
    assert names == wanted


def test_an_error_of_one_section_does_not_prevent_the_others(tmp_path, monkeypatch):
    folder = plain(tmp_path, [STRATEGIES, sim.seeds(2)], [0.5, 0.6, 0.7, 0.8])

    def broken(source):
        raise ValueError('broken')

    monkeypatch.setitem(outputs.PARTS, 'Cost', broken)
    page = report.write(folder).read_text()
    assert 'This part could not be made: ValueError: broken' in page
    assert '<h2>Results</h2>' in page


def test_comparing_reads_no_test_score_of_a_cell_that_was_not_chosen(tmp_path):
    folder, cells = sim.write_sweep(tmp_path, [STRATEGIES, RATES, sim.seeds(2)])
    for index, (cell, settings) in enumerate(cells.items()):
        best = settings[RATES.name] == '0.03'
        val, test = (0.9, 0.5) if best else (0.5, 0.99)
        sim.finish(folder, cell, sim.metrics(val, 50), sim.metrics(test + index / 1e4, 100))
    source = content.read(folder)
    assert all(summary.mean < 0.6 for summary in source.summaries)
    assert all(abs(one.pair.difference) < 0.1 for one in source.comparison.differences)


def test_the_verdict_counts_better_and_worse_variants(tmp_path):
    rng = np.random.default_rng(0)
    axes = [sim.axis('strategy', ['a', 'b', 'c', 'd']), sim.seeds(9)]
    scores = np.concatenate([rng.normal(mean, 0.005, 9) for mean in (0.5, 0.7, 0.3, 0.5)])
    verdict = outputs.verdict(content.read(plain(tmp_path, axes, scores.tolist())))
    assert verdict == '1 better and 1 worse than the baseline a, 1 not distinguishable'
