"""Axes and how they are combined, and the cells that they make of an experiment."""

import dataclasses
import pathlib
import subprocess
import sys

import pytest

from tests import small_runs
from tljax.strategies.optimizers import SGD, AdamW
from tljax.strategies.strategies import FineTune, FreezeBelow, LinearProbe
from tljax.sweep import cells
from tljax.sweep.space import (
    Axis,
    Chain,
    Product,
    Range,
    Role,
    Sample,
    Seeds,
    SweepError,
    Where,
    Zip,
)
from tljax.types import Norm

RATES = Axis('optimizer.learning_rate', [0.1, 0.01], role='tuned')


def titles(part, base=None):
    """The titles of the cells of a sweep."""
    return [cell.title for cell in cells.expand(part, base or small_runs.experiment())]


def test_a_product_has_every_combination_and_its_last_part_varies_fastest():
    part = Product(Axis('epochs', [1, 2]), Axis('batch_size', [8, 12]))
    assert titles(part) == [
        'epochs=1, batch_size=8',
        'epochs=1, batch_size=12',
        'epochs=2, batch_size=8',
        'epochs=2, batch_size=12',
    ]


def test_a_zip_pairs_its_parts_and_a_chain_appends_them():
    assert titles(Zip(Axis('epochs', [1, 2]), Axis('batch_size', [8, 12]))) == [
        'epochs=1, batch_size=8',
        'epochs=2, batch_size=12',
    ]
    assert titles(Chain(Axis('epochs', [1]), Axis('batch_size', [12]))) == [
        'epochs=1',
        'batch_size=12',
    ]


def test_a_value_may_be_repeated_as_in_a_zip():
    assert titles(Zip(Axis('epochs', [1, 1]), Axis('batch_size', [8, 12]))) == [
        'epochs=1, batch_size=8',
        'epochs=1, batch_size=12',
    ]


def test_a_condition_sees_the_complete_experiment_of_a_cell():
    part = Product(
        Where(lambda e: e.epochs * e.batch_size == 24),
        Axis('epochs', [2.0, 3.0]),
        Axis('batch_size', [8, 12]),
    )
    assert titles(part) == ['epochs=2.0, batch_size=12', 'epochs=3.0, batch_size=8']


def test_a_condition_holds_for_its_own_product_only():
    low = Product(Axis('epochs', [1, 2]), Where(lambda e: e.epochs < 2))
    assert titles(Chain(low, Axis('epochs', [4]))) == ['epochs=1', 'epochs=4']


def test_a_larger_sample_keeps_the_points_of_a_smaller_one():
    axes = Axis('optimizer.learning_rate', Range(1e-4, 1e-1, log=True)), Axis('epochs', [1, 2, 3])
    assert titles(Sample(9, 0, *axes))[:4] == titles(Sample(4, 0, *axes))
    assert titles(Sample(4, 1, *axes)) != titles(Sample(4, 0, *axes))


@pytest.mark.parametrize('log', [False, True])
def test_draws_stay_within_their_range_and_a_logarithmic_one_spreads_over_its_decades(log):
    drawn = cells.expand(
        Sample(400, 0, Axis('optimizer.learning_rate', Range(1e-4, 1.0, log=log))),
        small_runs.experiment(),
    )
    rates = [cell.experiment.optimizer.learning_rate for cell in drawn]
    assert min(rates) >= 1e-4
    assert max(rates) <= 1.0
    assert (sum(rate < 1e-2 for rate in rates) > 150) == log


def test_whole_limits_draw_whole_numbers_with_both_limits():
    drawn = cells.expand(Sample(60, 0, Axis('epochs', Range(1, 3))), small_runs.experiment())
    assert {cell.experiment.epochs for cell in drawn} == {1, 2, 3}


def test_axes_are_applied_in_order_so_that_one_can_change_an_object_of_another():
    part = Product(Axis('strategy', [FreezeBelow(stage='a')]), Axis('strategy.stage', ['b', 'c']))
    made = cells.expand(part, small_runs.experiment())
    assert [cell.experiment.strategy.stage for cell in made] == ['b', 'c']


def test_cells_do_not_share_objects_with_the_config_or_each_other():
    base = small_runs.experiment(optimizer=SGD(learning_rate=0.5))
    part = Product(Axis('epochs', [1, 2]), RATES)
    first, *_, last = cells.expand(part, base)
    assert base.optimizer.learning_rate == 0.5
    assert first.experiment.optimizer.learning_rate == 0.1
    assert last.experiment.optimizer.learning_rate == 0.01


def test_values_are_named_as_typed_or_as_their_keys():
    part = Axis('strategy', [FineTune(backbone_scale=0.1), LinearProbe()])
    assert titles(part) == ['strategy=FineTune(backbone_scale=0.1)', 'strategy=LinearProbe']
    assert titles(Axis('strategy', {'all': FineTune()})) == ['strategy=all']


def test_a_text_names_the_member_of_an_enum_and_a_list_is_a_tuple():
    (cell,) = cells.expand(
        Product(Axis('norm', ['frozen']), Axis('evaluate', [['val', 'test']])),
        small_runs.experiment(),
    )
    assert cell.experiment.norm is Norm.FROZEN
    assert cell.experiment.evaluate == ('val', 'test')


@pytest.mark.parametrize(
    ('vary', 'seeds'),
    [
        ('both', [(3, None), (4, None)]),
        ('training', [(3, None), (4, 3)]),
        ('images', [(3, None), (3, 4)]),
    ],
)
def test_seeds_vary_training_and_images_or_hold_one_of_them(vary, seeds):
    made = cells.expand(Seeds(2, first=3, vary=vary), small_runs.experiment())
    assert [(cell.experiment.seed, cell.experiment.data_seed) for cell in made] == seeds
    assert {one.role for cell in made for one in cell.settings} == {Role.SEED}


def test_a_cell_has_no_baselines_and_no_page():
    base = small_runs.experiment(baselines=(LinearProbe(),), report=True)
    (cell,) = cells.expand(Axis('epochs', [1]), base)
    assert cell.experiment.baselines == ()
    assert not cell.experiment.report


@pytest.mark.parametrize(
    ('part', 'words'),
    [
        (lambda: Axis('epoch', [1]), 'has no field .epoch.; did you mean --config.epochs'),
        (lambda: Axis('optimizer.lr', [1.0]), 'did you mean --config.optimizer.learning_rate'),
        (lambda: Axis('epochs', ['many']), r"'many' \(str\), wanted float"),
        (lambda: Axis('batch_size', [8.5]), r'8.5 \(float\), wanted int'),
        (lambda: Axis('epochs', [-1]), 'config.epochs is -1, wanted more than 0'),
        (lambda: Axis('strategy', [FreezeBelow]), 'wanted one of .*FreezeBelow'),
        (lambda: Axis('epochs', []), 'it has no values'),
        (lambda: Axis('epochs', '12'), 'wanted a list'),
        (lambda: Axis('epochs', [1, '1']), 'different values are named 1'),
        (lambda: Axis('epochs', [1, 2], baseline=3), 'baseline is 3, wanted one of 1, 2'),
        (lambda: Axis('epochs', [1], role='random'), 'wanted one of compared, tuned, seed'),
        (lambda: Axis('epochs', Range(1, 2)), 'wanted in a Sample'),
        (lambda: Sample(2, 0, Axis('epochs', Range(0, 2, log=True))), 'wanted 0 < low < high'),
        (lambda: Sample(2, 0, Axis('epochs', Range(3, 2))), 'wanted low < high'),
        (lambda: Sample(2, 0), 'a seed, and axes'),
        (lambda: Zip(Seeds(2), Axis('epochs', [1])), r'\[2, 1\] values, wanted equal numbers'),
        (lambda: Seeds(0), 'wanted a count of 1 or more'),
        (lambda: Seeds(2, vary='nothing'), 'vary one of'),
        (lambda: Product(Axis('epochs', [1]), Where(lambda e: e.epochs > 1)), 'has no cells'),
        (lambda: Product(Axis('epochs', [1]), Where(lambda e: e.none)), 'Where: its condition'),
        (lambda: Product('epochs'), 'is no part of a sweep'),
        (lambda: 3, 'the sweep is 3, wanted a Product'),
    ],
)
def test_an_impossible_sweep_is_answered_in_a_line(part, words):
    with pytest.raises(SweepError, match=words) as error:
        cells.expand(part(), small_runs.experiment())
    assert len(str(error.value).splitlines()) == 1


def test_all_problems_are_named_at_once_with_a_cell_each():
    part = Chain(Axis('epochs', [-1, 2]), Axis('batch_size', [0]))
    with pytest.raises(SweepError) as error:
        cells.expand(part, small_runs.experiment())
    first, second = str(error.value).splitlines()
    assert first.endswith('(in the cell epochs=-1)')
    assert second.endswith('(in the cell batch_size=0)')


CHANGES = [
    {'epochs': 2.0},
    {'seed': 1},
    {'data_seed': 5},
    {'strategy': LinearProbe()},
    {'optimizer': AdamW(learning_rate=0.02)},
    {'norm': Norm.FROZEN},
    {'augmentations': ()},
]


def test_cells_with_different_results_have_different_names():
    base = small_runs.experiment()
    made = [base, *(dataclasses.replace(base, **change) for change in CHANGES)]
    assert len({cells.name_of(one) for one in made}) == len(made)


@pytest.mark.parametrize(
    'change',
    [
        {'data_threads': 1},
        {'cache_gigabytes': 0.0},
        {'baselines': (LinearProbe(),)},
        {'keep_features': True},
        {'report': True},
        {'epochs': 3},
    ],
    ids=str,
)
def test_fields_that_change_no_result_do_not_change_the_name(change):
    base = small_runs.experiment()
    assert cells.name_of(dataclasses.replace(base, **change)) == cells.name_of(base)


@pytest.mark.slow
def test_a_name_is_the_same_in_every_process():
    program = (
        'from tests import small_runs; from tljax.sweep import cells;'
        'print(cells.name_of(small_runs.experiment()))'
    )
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == cells.name_of(small_runs.experiment())
