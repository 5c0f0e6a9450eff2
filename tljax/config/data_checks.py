"""Checks of an experiment that need its data."""

from collections.abc import Mapping

from tljax.config.experiment import ConfigError, Experiment
from tljax.metrics.losses import BinaryCrossEntropy
from tljax.types import Balance, Examples


def check(experiment: Experiment, splits: Mapping[str, Examples]) -> None:
    """Checks that an experiment fits the splits of its data, before anything is compiled.

    Raises:
        ConfigError: with a line for each problem.
    """
    train = splits['train']
    problems = _multi_label_problems(experiment) if train.multi_label else []
    problems += _class_weight_problems(
        experiment, len(experiment.subset.classes or train.class_names)
    )
    if problems:
        raise ConfigError('\n'.join(problems))


def _multi_label_problems(experiment: Experiment) -> list[str]:
    """Problems with images that have any number of labels."""
    problems, loss, wanted = [], experiment.loss, BinaryCrossEntropy.__name__
    if getattr(loss, 'one_label', False):
        problems.append(
            f'config.loss is {type(loss).__name__}, which needs one label per image; these images '
            f'have any number of labels, wanted {wanted}'
        )
    problems += [
        f'config.penalties[{i}] is {type(penalty).__name__}, which needs one label per image'
        for i, penalty in enumerate(experiment.penalties)
        if getattr(penalty, 'one_label', False)
    ]
    if experiment.balance is Balance.SAMPLE:
        problems.append(
            'config.balance is sample, which needs one label per image: wanted '
            f'{Balance.WEIGH.value} or {Balance.NONE.value}'
        )
    weighed = experiment.balance is Balance.WEIGH
    if weighed and not (isinstance(loss, BinaryCrossEntropy) and not loss.positive_weights):
        problems.append(
            'config.balance is weigh, which sets positive_weights of the loss: wanted '
            f'{wanted} without positive_weights'
        )
    return problems


def _class_weight_problems(experiment: Experiment, num_classes: int) -> list[str]:
    """Problems with the number of class weights of the loss."""
    loss = experiment.loss
    return [
        f'config.loss.{name} has {len(weights)} values, wanted {num_classes}, one for each class'
        for name in ('weights', 'positive_weights')
        if (weights := getattr(loss, name, ())) and len(weights) != num_classes
    ]
