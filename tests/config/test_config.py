"""Experiments: what makes one valid, and its JSON form."""

import json
import pathlib
import runpy

import numpy as np
import pytest

from tljax.augment import Affine, HorizontalFlip, RandomCrop
from tljax.config import config_json, validation
from tljax.config.experiment import ConfigError, Experiment
from tljax.data.digits import Digits
from tljax.metrics.losses import CrossEntropy
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.strategies.optimizers import SGD, AdamW
from tljax.strategies.schedules import Cosine, Step
from tljax.strategies.strategies import FreezeBelow, FromScratch, LinearProbe
from tljax.types import Interpolation, Preprocessing

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted((ROOT / 'configs').glob('*.py'))
NAN = float('nan')


def experiment(**changes) -> Experiment:
    """A valid experiment, without a default where a field may be None."""
    fields = {
        'backbone': ResNetSmall(),
        'data': Digits(),
        'strategy': FreezeBelow(stage='stage2'),
        'optimizer': SGD(),
        'augmentations': (Affine(rotate_degrees=10.0), HorizontalFlip()),
        'clip_norm': 1.0,
        'cut_after': 'stage3',
        'preprocessing': Preprocessing(interpolation=Interpolation.BICUBIC),
        'per_class': 10,
        'evaluate': ('val', 'test'),
        'checkpoint_every_steps': 100,
        'baselines': (FromScratch(), LinearProbe(learning_rate_scale=2.0)),
    }
    return Experiment(**{**fields, **changes})


def wrong(kind: type, **fields):
    """An object with fields of types that a type checker would not let pass."""
    return kind(**fields)


def problems(**changes) -> list[str]:
    """What `validate` says of an experiment, a line for each problem."""
    try:
        validation.validate(experiment(**changes))
    except ConfigError as error:
        return str(error).splitlines()
    return []


def named(lines: list[str]) -> list[str]:
    """The fields that lines begin with."""
    return [line.split()[0] for line in lines]


def difference(ours: Experiment, theirs: Experiment) -> list[str]:
    return config_json.difference(config_json.to_json(ours), config_json.to_json(theirs))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def shipped(request, monkeypatch) -> Experiment:
    """What each file of `configs/` returns."""
    monkeypatch.syspath_prepend(str(ROOT))
    return runpy.run_path(str(request.param))['get_config']()


def test_there_are_config_files():
    assert ROOT / 'configs/quickstart.py' in FILES


def test_every_config_file_is_valid(shipped):
    validation.validate(shipped)


def test_every_config_file_comes_back_from_json_equal(shipped):
    assert config_json.from_json(config_json.to_json(shipped)) == shipped


def test_the_experiment_of_these_tests_is_valid():
    assert problems() == []


def test_an_experiment_with_every_field_set_comes_back_from_json_equal():
    assert config_json.from_json(config_json.to_json(experiment())) == experiment()


def test_an_experiment_of_defaults_comes_back_from_json_equal():
    fields = ('backbone', 'data', 'strategy', 'optimizer')
    bare = Experiment(**{name: getattr(experiment(), name) for name in fields})
    assert config_json.from_json(config_json.to_json(bare)) == bare


@pytest.mark.parametrize(
    'text',
    [
        'no JSON',
        '{"class": "tljax.strategies.partition:Adagrad"}',
        '{"class": "tljax.optimizers:SGD"}',
        '{"class": "tljax.strategies.partition:SGD", "lr": 1}',
        '{"class": 3}',
        '{"class": ["tljax:SGD"]}',
        '{"class": {"class": "tljax:SGD"}}',
        '{"enum": "tljax.types:Interpolation", "value": "nearest"}',
        '{"enum": "tljax.types:Interpolation"}',
        '[]',
        '3',
        '{"class": "tljax.strategies.partition:SGD"}',
    ],
)
def test_json_that_is_no_experiment_of_this_code_is_refused(text):
    with pytest.raises(ConfigError):
        config_json.from_json(text)


@pytest.mark.parametrize('name', ['os:makedirs', 'logging:FileHandler'])
def test_json_cannot_call_what_is_no_class_of_a_config(name, tmp_path):
    """A run folder may come from somebody else."""
    target = tmp_path / 'made'
    argument = {'os:makedirs': 'name', 'logging:FileHandler': 'filename'}[name]
    with pytest.raises(ConfigError):
        config_json.from_json(json.dumps({'class': name, argument: str(target)}))
    assert not target.exists()


def test_a_class_that_is_gone_is_named():
    text = config_json.to_json(experiment()).replace('FreezeBelow', 'FreezeAbove')
    with pytest.raises(ConfigError, match='FreezeAbove'):
        config_json.from_json(text)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('epochs', '3'),
        ('epochs', True),
        ('epochs', None),
        ('batch_size', 3.0),
        ('batch_size', True),
        ('seed', np.int64(3)),
        ('clip_norm', '1'),
        ('cut_after', 3),
        ('evaluate', ['val']),
        ('evaluate', 'val'),
        ('evaluate', ('val', 1)),
        ('evaluate', 5),
        ('evaluate', None),
        ('evaluate', (['val'],)),
        ('data', None),
        ('strategy', FreezeBelow),
        ('optimizer', 'sgd'),
        ('schedule', Cosine),
        ('loss', None),
        ('augmentations', [HorizontalFlip()]),
        ('augmentations', (HorizontalFlip,)),
        ('augmentations', ('flip',)),
        ('preprocessing', {}),
        ('baselines', FromScratch()),
    ],
)
def test_a_value_of_another_type_is_a_problem_of_its_field(name, value):
    assert set(named(problems(**{name: value}))) == {f'config.{name}'}


@pytest.mark.parametrize(
    ('path', 'changes'),
    [
        ('optimizer.momentum', {'optimizer': wrong(SGD, momentum='high')}),
        ('optimizer.nesterov', {'optimizer': wrong(SGD, nesterov=1)}),
        ('strategy.stage', {'strategy': wrong(FreezeBelow, stage=3)}),
        ('preprocessing.mean', {'preprocessing': wrong(Preprocessing, mean=(0.5, 'x', 0.5))}),
        (
            'preprocessing.interpolation',
            {'preprocessing': wrong(Preprocessing, interpolation='bicubic')},
        ),
        ('loss.label_smoothing', {'loss': wrong(CrossEntropy, label_smoothing=None)}),
        (
            'augmentations[1].rotate_degrees',
            {'augmentations': (HorizontalFlip(), wrong(Affine, rotate_degrees='ten'))},
        ),
        ('augmentations[0].size_px', {'augmentations': (wrong(RandomCrop, size_px=2.5),)}),
        (
            'baselines[0].learning_rate_scale',
            {'baselines': (wrong(LinearProbe, learning_rate_scale='x'),)},
        ),
    ],
)
def test_a_value_of_another_type_is_found_at_any_depth(path, changes):
    assert named(problems(**changes)) == [f'config.{path}']


@pytest.mark.parametrize('value', [3, 3.5, np.float64(3.5)])
def test_a_whole_number_will_do_for_a_float(value):
    assert problems(epochs=value) == []


@pytest.mark.parametrize('name', ['clip_norm', 'cut_after', 'preprocessing', 'per_class'])
def test_what_may_be_none_may_be_none(name):
    assert problems(**{name: None}) == []


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('epochs', 0),
        ('epochs', NAN),
        ('epochs', float('inf')),
        ('batch_size', 0),
        ('clip_norm', 0.0),
        ('per_class', -1),
        ('evaluate_every_epochs', 0.0),
        ('checkpoint_every_steps', 0),
        ('log_every_steps', 0),
        ('validation_fraction', 1.0),
        ('validation_fraction', -0.1),
        ('validation_fraction', NAN),
        ('seed', -1),
        ('seed', 2**32),
        ('data_threads', -1),
        ('evaluate', ('train',)),
    ],
)
def test_a_value_out_of_range_is_a_problem_of_its_field(name, value):
    (line,) = problems(**{name: value})
    assert line.startswith(f'config.{name} is {value}, wanted ')


@pytest.mark.parametrize(
    ('path', 'changes'),
    [
        ('optimizer.learning_rate', {'optimizer': SGD(learning_rate=0.0)}),
        ('optimizer.learning_rate', {'optimizer': SGD(learning_rate=NAN)}),
        ('optimizer.weight_decay', {'optimizer': AdamW(weight_decay=NAN)}),
        ('optimizer.b2', {'optimizer': AdamW(b2=1.0)}),
        ('schedule.every_epochs', {'schedule': Step(every_epochs=0.0)}),
        ('loss.label_smoothing', {'loss': CrossEntropy(label_smoothing=1.0)}),
        ('augmentations[0].probability', {'augmentations': (HorizontalFlip(probability=1.5),)}),
        ('augmentations[0].scale_factor', {'augmentations': (Affine(scale_factor=0.0),)}),
        ('augmentations[0].size_px', {'augmentations': (RandomCrop(size_px=0),)}),
        ('preprocessing.size_px', {'preprocessing': Preprocessing(size_px=0)}),
        ('preprocessing.size_px', {'preprocessing': Preprocessing(size_px=300, resize_px=256)}),
        ('preprocessing.std', {'preprocessing': Preprocessing(std=(0.0, 1.0, 1.0))}),
    ],
)
def test_a_value_out_of_range_is_found_at_any_depth(path, changes):
    assert named(problems(**changes)) == [f'config.{path}']


def test_all_problems_are_reported_at_once():
    found = problems(
        epochs=0,
        batch_size='many',
        seed=-1,
        optimizer=SGD(learning_rate=-1.0, momentum=2.0),
        strategy=wrong(FreezeBelow, stage=None),
        evaluate=('train',),
    )
    fields = ('epochs', 'batch_size', 'seed', 'strategy.stage', 'evaluate')
    of_optimizer = ('optimizer.learning_rate', 'optimizer.momentum')
    assert sorted(named(found)) == sorted(f'config.{name}' for name in fields + of_optimizer)


def test_a_problem_says_what_was_found_and_what_is_wanted():
    assert problems(batch_size=3.5) == ['config.batch_size is 3.5 (float), wanted int']


@pytest.mark.parametrize('value', [None, 3, {}, Experiment])
def test_what_is_no_experiment_is_refused(value):
    """A `get_config` without its return."""
    with pytest.raises(ConfigError):
        validation.validate(value)


def test_equal_experiments_do_not_differ():
    assert difference(experiment(), experiment()) == []


def test_a_difference_names_the_field_and_both_values():
    assert difference(experiment(epochs=5.0), experiment(epochs=7.0)) == [
        'config.epochs: 5.0 was 7.0'
    ]


def test_differences_inside_objects_and_tuples_are_named_by_their_path():
    other = experiment(
        optimizer=SGD(momentum=0.5),
        augmentations=(Affine(rotate_degrees=20.0), HorizontalFlip()),
        preprocessing=Preprocessing(mean=(0.485, 0.5, 0.406), interpolation=Interpolation.BICUBIC),
    )
    assert difference(other, experiment()) == [
        'config.optimizer.momentum: 0.5 was 0.9',
        'config.augmentations[0].rotate_degrees: 20.0 was 10.0',
        'config.preprocessing.mean[1]: 0.5 was 0.456',
    ]


@pytest.mark.parametrize(
    ('name', 'changes'),
    [
        ('optimizer', {'optimizer': AdamW()}),
        ('augmentations', {'augmentations': ()}),
        ('clip_norm', {'clip_norm': None}),
        ('preprocessing', {'preprocessing': None}),
    ],
)
def test_another_kind_of_value_is_one_difference(name, changes):
    (line,) = difference(experiment(**changes), experiment())
    assert line.startswith(f'config.{name}: ')


def test_another_class_with_the_same_fields_is_a_difference():
    ours, theirs = experiment(strategy=FromScratch()), experiment(strategy=LinearProbe())
    (line,) = difference(ours, theirs)
    assert 'FromScratch' in line
    assert 'LinearProbe' in line


@pytest.mark.parametrize(
    'changes',
    [
        {'data_threads': 0},
        {'baselines': ()},
        {'baselines': (FromScratch(learning_rate_scale=3.0),)},
    ],
)
def test_what_cannot_change_a_result_is_no_difference(changes):
    assert difference(experiment(**changes), experiment()) == []


@pytest.mark.parametrize(('seed', 'lines'), [(0, []), (3, ['config.seed: 3 was 0'])])
def test_a_field_that_the_record_of_older_code_lacks_had_its_default(seed, lines):
    record = json.loads(config_json.to_json(experiment(seed=seed)))
    del record['seed']
    text = config_json.to_json(experiment(seed=seed))
    assert config_json.difference(text, json.dumps(record)) == lines
