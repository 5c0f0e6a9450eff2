"""The trials of the searches of a sweep, in an Optuna journal that several workers share."""

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tljax.sweep import extras
from tljax.sweep.cells import Cell
from tljax.sweep.halving import Trial
from tljax.sweep.search import Search, Study, Values

JOURNAL = 'search.journal'
DRAWS = 20  # of values for a new trial, until they are those of no other trial


class Trials:
    """The trials of one search.

    Optuna's state of a trial is RUNNING until the search ends it. Its user attributes have the name
    of its cell, its rungs and its goal, and its intermediate values are the validation values at
    the rungs.

    Args:
        path: of the journal.
        study: the search.
    """

    def __init__(self, path: pathlib.Path, study: Study):
        self._optuna = optuna()
        self._search = study.search
        path.parent.mkdir(parents=True, exist_ok=True)
        self._study = self._optuna.create_study(
            storage=_storage(path), study_name=study.name, direction='maximize', load_if_exists=True
        )
        self._study.set_user_attr('title', study.title)

    def all(self) -> list[Trial]:
        """The trials in order, without those that failed before they were begun."""
        return [_trial(frozen) for frozen in self._frozen()]

    def values(self, number: int) -> Values:
        """The values of the axes in a trial."""
        return next(one.params for one in self._frozen() if one.number == number)

    def draw(self, cell_of: Callable[[Values], Cell | None]) -> tuple[Values, Cell] | None:
        """Values for a new trial, and its cell; None if no others were found.

        They depend only on the trials so far, so that a search that was killed goes on as one that
        was not.

        Args:
            cell_of: the cell with some values; None if there is no such cell.
        """
        frozen = self._frozen()
        known = {one.user_attrs['cell'] for one in frozen}
        for attempt in range(DRAWS):
            values = self._drawn(frozen, attempt)
            cell = cell_of(values)
            if cell is not None and cell.name not in known:
                return values, cell
        return None

    def begin(self, values: Values, cell: Cell, rungs: Sequence[int]) -> int:
        """Begins a trial that trains until its first rung; returns its number."""
        attributes = {'cell': cell.name, 'rungs': list(rungs), 'goal': rungs[0]}
        waiting = self._study.get_trials(states=[self._optuna.trial.TrialState.WAITING])
        if not waiting:  # a process that was killed may have left one
            self._study.enqueue_trial(dict(values), user_attrs=attributes)
        return self._study.ask(_distributions(self._optuna, self._search)).number

    def advance(self, number: int, goal: int) -> None:
        """Sets the rung until which a trial trains."""
        self._open(number).set_user_attr('goal', goal)

    def report(self, number: int, values: dict[int, float]) -> None:
        """Records the validation values of a trial, by rung; at its last one the trial ends."""
        trial = self._open(number)
        known = self._study.get_trials(deepcopy=False)[number].intermediate_values
        for step, value in values.items():
            if step not in known:
                trial.report(value, step)
        last = trial.user_attrs['rungs'][-1]
        if last in values:
            self._study.tell(number, values[last])

    def fail(self, number: int) -> None:
        """Ends a trial whose cell has failed."""
        self._study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def prune(self, number: int) -> None:
        """Ends a trial at the rung where it waits."""
        self._study.tell(number, state=self._optuna.trial.TrialState.PRUNED)

    def _frozen(self) -> list[Any]:
        trials = self._study.get_trials(deepcopy=False)
        return [one for one in trials if one.state != self._optuna.trial.TrialState.WAITING]

    def _open(self, number: int) -> Any:
        identity = self._study.get_trials(deepcopy=False)[number]._trial_id
        return self._optuna.trial.Trial(self._study, identity)

    def _drawn(self, frozen: Sequence[Any], attempt: int) -> Values:
        """Values by the sampler, from the trials that wait at a rung or have ended."""
        optuna, search = self._optuna, self._search
        seed = np.random.SeedSequence([search.seed & 0xFFFFFFFF, len(frozen), attempt])
        number = int(seed.generate_state(1)[0])
        samplers = {'tpe': optuna.samplers.TPESampler, 'random': optuna.samplers.RandomSampler}
        study = optuna.create_study(
            direction='maximize', sampler=samplers[search.sampler](seed=number)
        )
        study.add_trials([_view(optuna, one) for one in frozen if one.intermediate_values])
        trial = study.ask(_distributions(optuna, search))
        return {path: _rounded(value, search, path) for path, value in trial.params.items()}


def optuna() -> Any:
    """Optuna, which prints nothing but warnings.

    Raises:
        SweepError: it is not installed.
    """
    module = extras.load('optuna', 'search')
    module.logging.set_verbosity(module.logging.WARNING)
    return module


def _storage(path: pathlib.Path) -> Any:
    module = optuna()
    backend = module.storages.journal.JournalFileBackend(str(path))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return module.storages.JournalStorage(backend)


def _trial(frozen: Any) -> Trial:
    rungs = tuple(frozen.user_attrs['rungs'])
    values = [frozen.intermediate_values[r] for r in rungs if r in frozen.intermediate_values]
    return Trial(
        number=frozen.number,
        rungs=rungs,
        goal=frozen.user_attrs['goal'],
        values=tuple(values),
        ended=frozen.state.is_finished() and frozen.state.name != 'COMPLETE',
    )


def _view(optuna: Any, frozen: Any) -> Any:
    """A trial as the sampler sees it: one that waits at a rung counts as pruned there."""
    states, values = optuna.trial.TrialState, frozen.intermediate_values
    complete = frozen.user_attrs['rungs'][-1] in values
    return optuna.trial.create_trial(
        state=states.COMPLETE if complete else states.PRUNED,
        value=values[max(values)] if complete else None,
        params=frozen.params,
        distributions=frozen.distributions,
        intermediate_values=values,
    )


def _distributions(optuna: Any, search: Search) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for path, names in search.names.items():
        result[path] = optuna.distributions.CategoricalDistribution(names)
    for path, one in search.ranges.items():
        whole = isinstance(one.low, int) and isinstance(one.high, int)
        kinds = optuna.distributions
        kind = kinds.IntDistribution if whole else kinds.FloatDistribution
        result[path] = kind(one.low, one.high, log=one.log)
    return {axis.path: result[axis.path] for axis in search.axes}


def _rounded(value: Any, search: Search, path: str) -> Any:
    """A number with four significant digits, as `Range.draw` has."""
    if not isinstance(value, float):
        return value
    one = search.ranges[path]
    return min(max(float(f'{value:.4g}'), one.low), one.high)


LEAST_TRIALS = 10  # of a search, for an importance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance:
    """How much of the differences between good trials and all trials each axis explains.

    Attributes:
        by_axis: the share of each axis; they sum to 1. Empty if there are too few trials.
        trials: the number of trials.
    """

    by_axis: dict[str, float]
    trials: int


def importance(folder: pathlib.Path, name: str = '') -> Importance:
    """The importance of the searched axes, as the mean over the searches of a sweep.

    The validation values at the first rung are used, because every trial has one.

    Args:
        folder: the folder of the sweep.
        name: of the sweep; empty for the only one of its config.

    Raises:
        SweepError: Optuna is not installed.

    Source: Watanabe et al. 2023, "PED-ANOVA", as Optuna computes it.
    """
    path = folder / name / JOURNAL
    if not path.exists():
        return Importance(by_axis={}, trials=0)
    module, storage = optuna(), _storage(path)
    shares, count = [], 0
    for study_name in module.get_all_study_names(storage):
        view = module.create_study(direction='maximize')
        for one in module.load_study(study_name=study_name, storage=storage).get_trials():
            if one.intermediate_values:
                value = one.intermediate_values[min(one.intermediate_values)]
                view.add_trial(
                    module.trial.create_trial(
                        value=value, params=one.params, distributions=one.distributions
                    )
                )
        count += len(view.trials)
        if len(view.trials) >= LEAST_TRIALS:
            shares.append(_shares(module, view))
    axes = shares[0] if shares else {}
    means = {axis: float(np.mean([one.get(axis, 0.0) for one in shares])) for axis in axes}
    return Importance(by_axis=means, trials=count)


def _shares(module: Any, study: Any) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', module.exceptions.ExperimentalWarning)
        evaluator = module.importance.PedAnovaImportanceEvaluator()
        return module.importance.get_param_importances(study, evaluator=evaluator)
