"""Whether an experiment and its data agree: what can be checked only once the data is known."""

from collections.abc import Mapping

from tljax.config.experiment import ConfigError, Experiment
from tljax.metrics.losses import BinaryCrossEntropy
from tljax.types import Balance, Examples


def check(experiment: Experiment, splits: Mapping[str, Examples]) -> None:
    """Holds an experiment against the splits of its source, before anything is compiled.

    Raises:
        ConfigError: with a line for each problem.
    """
    train = splits['train']
    found = _several_labels_problems(experiment) if train.multi_label else []
    found += _weight_problems(experiment, len(experiment.subset.classes or train.class_names))
    if found:
        raise ConfigError('\n'.join(found))


def _several_labels_problems(experiment: Experiment) -> list[str]:
    """What is wrong where an image has several labels, or none."""
    found, loss, wanted = [], experiment.loss, BinaryCrossEntropy.__name__
    if getattr(loss, 'one_label', False):
        found.append(
            f'config.loss is {type(loss).__name__}, which is of images with one label each; these '
            f'have several or none, wanted {wanted}'
        )
    found += [
        f'config.penalties[{i}] is {type(penalty).__name__}, which is of images with one label each'
        for i, penalty in enumerate(experiment.penalties)
        if getattr(penalty, 'one_label', False)
    ]
    if experiment.balance is Balance.SAMPLE:
        found.append(
            'config.balance is sample: where an image has several labels, no order shows every '
            f'class as often, wanted {Balance.WEIGH.value} or {Balance.NONE.value}'
        )
    weighed = experiment.balance is Balance.WEIGH
    if weighed and not (isinstance(loss, BinaryCrossEntropy) and not loss.positive_weights):
        found.append(
            'config.balance is weigh, which sets positive_weights where an image has several '
            f'labels: wanted {wanted} without any'
        )
    return found


def _weight_problems(experiment: Experiment, num_classes: int) -> list[str]:
    """Weights of other classes than the data's."""
    loss = experiment.loss
    return [
        f'config.loss.{name} has {len(weights)} values, found {num_classes} classes in the data'
        for name in ('weights', 'positive_weights')
        if (weights := getattr(loss, name, ())) and len(weights) != num_classes
    ]
