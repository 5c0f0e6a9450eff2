"""Which experiments can train their heads in one program."""

import dataclasses

import jax

from tljax.config.experiment import Experiment
from tljax.models import stages
from tljax.models.layers import ClassifierHead
from tljax.models.stages import HEAD
from tljax.models.views import Centre
from tljax.strategies import partition
from tljax.types import Balance, CachePrefix, Dtype, InputError, OnNonfinite, Phase, Rates, Sharding

# Fields of an experiment with the only value that the grid can train.
REQUIRED = {
    'augmentations': (),
    'penalties': (),
    'trackers': (),
    'samples': None,
    'adapters': (),
    'stochastic_norm': None,
    'ema_decay': None,
    'accumulate': 1,
    'remat': (),
    'compute_dtype': Dtype.FLOAT32,
    'test_views': Centre(),
    'on_nonfinite': OnNonfinite.STOP,
    'sharding': Sharding.REPLICATED,
}
# Fields with a value that the grid cannot train.
EXCLUDED = {'balance': Balance.WEIGH, 'cache_prefix': CachePrefix.NEVER}
TRACED = {'learning_rate', 'weight_decay'}  # fields of the optimizer that the program takes


def obstacle(experiment: Experiment) -> str | None:
    """Why the head of an experiment must train alone; None if it can train in a grid.

    It reads neither the data nor the weights. `prefix_cache.serves` needs both.
    """
    for name, value in REQUIRED.items():
        if getattr(experiment, name) != value:
            return f'config.{name} is not {value!r}'
    for name, value in EXCLUDED.items():
        if getattr(experiment, name) is value:
            return f'config.{name} is {value.value}'
    if missing := TRACED - {field.name for field in dataclasses.fields(experiment.optimizer)}:  # type: ignore[arg-type]
        return f'the optimizer has no {" and no ".join(sorted(missing))}'
    if jax.process_count() > 1:
        return 'the run has several processes'
    try:
        return _obstacle_of_network(experiment)
    except InputError as error:  # the run alone reports it
        return str(error)


def _obstacle_of_network(experiment: Experiment) -> str | None:
    head = experiment.head
    model = stages.build(
        experiment.backbone,
        2,  # the number of classes is not known yet, and does not matter
        cut_after=experiment.cut_after,
        head=None if isinstance(head, str) else head,
        preprocessing=experiment.preprocessing,
    )
    layer = model.stages[HEAD]
    if type(layer) is not ClassifierHead or layer.hidden or layer.dropout:
        return 'its head is not one linear layer'
    params, _ = stages.shapes(model)
    params = stages.ordered(model, params)
    phases = experiment.strategy.phases(params)
    if len(phases) != 1 or not _is_plain(phases[0]):
        return 'its strategy is not one phase with a fixed number of steps'
    labels = partition.assign(params, phases[0].rules, experiment.norm)
    trained = partition.trained(labels)
    if {name for name in trained if any(jax.tree.leaves(trained[name]))} != {HEAD}:
        return 'its strategy does not train the head alone'
    return None


def _is_plain(phase: Phase) -> bool:
    return phase.solver is None and phase.patience is None and phase.rates is Rates.FIXED
