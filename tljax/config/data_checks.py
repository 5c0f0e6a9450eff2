"""Checks of an experiment that need its data."""

from collections.abc import Mapping

from tljax.augment import changes
from tljax.config.experiment import ConfigError, Experiment
from tljax.metrics.tasks import choice
from tljax.models.views import Centre
from tljax.types import Augmentation, Examples, Task, TextPreprocessing, Views


def check(experiment: Experiment, splits: Mapping[str, Examples]) -> None:
    """Checks that an experiment fits the splits of its data, before anything is compiled.

    Raises:
        ConfigError: with a line for each problem.
    """
    train = splits['train']
    problems = _task_problems(experiment, choice.of(train)) + _text_problems(experiment)
    if choice.of(train).continues and experiment.accumulate > 1:
        problems.append(
            f'config.accumulate is {experiment.accumulate}, wanted 1 for a language model, whose '
            'rows continue'
        )
    problems += _class_weight_problems(
        experiment, len(experiment.subset.classes or train.class_names)
    )
    if problems:
        raise ConfigError('\n'.join(problems))


def _task_problems(experiment: Experiment, task: Task) -> list[str]:
    """Problems with the labels of the training split."""
    problems, loss = [], experiment.loss
    if problem := task.loss_problem(loss):
        problems.append(f'config.loss is {type(loss).__name__}, {problem}')
    problems += [
        f'config.penalties[{i}] is {type(penalty).__name__}, which needs one class for each example'
        for i, penalty in enumerate(experiment.penalties)
        if getattr(penalty, 'one_label', False) and not task.one_label
    ]
    problems += _changed_numbers(experiment, task)
    if problem := task.balance_problem(experiment.balance, loss):
        problems.append(f'config.balance is {experiment.balance.value}, {problem}')
    return problems


def _text_problems(experiment: Experiment) -> list[str]:
    """Fields that make sense for images only, if the network reads text."""
    if not isinstance(experiment.backbone.preprocessing(), TextPreprocessing):
        return []
    values = {'augmentations': (), 'samples': None, 'gray_range': None, 'test_views': Centre()}
    return [
        f'config.{name} is for images, and the network reads text: wanted {usual!r}'
        for name, usual in values.items()
        if getattr(experiment, name) != usual
    ]


def _changed_numbers(experiment: Experiment, task: Task) -> list[str]:
    """Problems with augmentations and views that change the numbers that are predicted."""
    changed_by = getattr(task, 'changed_by', ())
    unknown = sorted(set(changed_by) - set(changes.KINDS))
    problems = []
    if unknown:
        problems = [f'config.data.changed_by has {unknown}, wanted some of {changes.KINDS}']
    used: dict[str, Augmentation | Views] = {
        f'augmentations[{i}]': one for i, one in enumerate(experiment.augmentations)
    }
    used['test_views'] = experiment.test_views
    return problems + [
        f'config.{name} is {type(one).__name__}: its {kinds} changes the numbers that '
        'are predicted (config.data.changed_by)'
        for name, one in used.items()
        if (kinds := changes.conflicts(one, changed_by))
    ]


def _class_weight_problems(experiment: Experiment, num_classes: int) -> list[str]:
    """Problems with the number of class weights of the loss."""
    loss = experiment.loss
    return [
        f'config.loss.{name} has {len(weights)} values, wanted {num_classes}, one for each class'
        for name in ('weights', 'positive_weights')
        if (weights := getattr(loss, name, ())) and len(weights) != num_classes
    ]
