"""An advice in words: the reasons, what would change it, and the data."""

import numpy as np

from tljax.advise import networks, tasks
from tljax.advise.advice import Advice
from tljax.advise.evidence import Evidence
from tljax.advise.halving import Entry
from tljax.advise.held_out import HeldOutPredictions, difference, images_needed, scores

POINT = 0.01


def percent(share: float) -> str:
    """`97.5 %`."""
    return f'{100 * share:.1f} %'


def points(share: float) -> str:
    """`2.3` of 0.023."""
    return f'{100 * share:.1f}'


def accuracy(predictions: HeldOutPredictions) -> str:
    """`97.5 % (92.3 to 99.3)`."""
    low, high = predictions.interval
    return f'{percent(predictions.accuracy)} ({points(low)} to {points(high)})'


def reasons(advice: Advice) -> list[str]:
    """Sentences on why this candidate was chosen."""
    gains, (name, *others) = advice.choice.gains, advice.choice.contenders
    close = [f'{other} ({points(gains[other].mean)})' for other in others]
    contenders = 'No other candidate has a similar expected gain.'
    if close:
        contenders = f'Candidates with a similar expected gain: {"; ".join(close)}.'
    return [
        _main_reason(advice, name),
        contenders,
        *(_probe_text(evidence) for evidence in advice.evidence),
    ]


def _main_reason(advice: Advice, name: str) -> str:
    gain, reference = advice.choice.gains[name], advice.choice.reference
    if all(entry.solved or not entry.trials for entry in advice.search.entries):
        return (
            'No trial was finished within the budget, so this advice rests on the frozen features '
            'alone. With a larger --budget_minutes the candidates named below are tried.'
        )
    if gain.measured is None:
        return (
            'No other candidate is expected to be better than a linear probe of the frozen '
            'features, which is the cheapest to train.'
        )
    measured = gain.measured
    return (
        f'Its expected gain over the reference ({reference}) is {points(gain.mean)} points '
        f'(± {points(gain.error)}). In the trials its score was {points(measured.mean)} points '
        f'higher (± {points(measured.error)}) on the same {measured.count} held-out images. The '
        'expected gain is this difference, shrunk by its uncertainty towards the gain of such '
        'candidates on other data sets.'
    )


def _probe_text(evidence: Evidence) -> str:
    best, last = evidence.best, evidence.last
    text = (
        f'{networks.short(evidence.source)}: a linear probe of the frozen {last.stage} has a '
        f'held-out accuracy of {percent(last.accuracy)}.'
    )
    if best is not last:
        text += (
            f' The best probe is that of {best.stage}, {percent(best.accuracy)}: the stages above '
            'it are specific to the upstream task.'
        )
    if evidence.random is not None:
        text += f' With random weights the accuracy is {percent(evidence.random.accuracy)}.'
    return text


def changes(advice: Advice) -> list[str]:
    """Sentences on what would change the choice."""
    result: list[str] = []
    for name in advice.choice.contenders[1:3]:
        result.append(_images_text(advice, advice.candidate.name, name))
    result += [
        _labels_text(evidence, evidence.half_accuracy)
        for evidence in advice.evidence
        if evidence.half_accuracy is not None
    ]
    entries = [e for e in advice.search.entries if not (e.solved or e.failed)]
    untried = [entry.candidate.name for entry in entries if not entry.trials]
    if untried:
        result.append(
            f'More time: there was none for {"; ".join(untried)}. Training all candidates at full '
            f'length on every fold would take about {minutes_left(advice):.0f} more minutes '
            '(--budget_minutes).'
        )
    low, high = advice.predictions[advice.candidate.name].interval
    result.append(
        f'More held-out images: the 95 % interval of the accuracy is ± {50 * (high - low):.1f} '
        'points wide; four times as many images would halve it.'
    )
    return result


def _images_text(advice: Advice, one: str, other: str) -> str:
    measured = difference(advice.predictions[one], advice.predictions[other])
    needed = images_needed(measured)
    if needed is None:
        return f'{one} and {other} made the same predictions, so images cannot separate them.'
    better, worse = (one, other) if measured.mean > 0 else (other, one)
    return (
        f'In the trials {better} was better than {worse} by {points(abs(measured.mean))} points. '
        f'If that is the true difference, {max(needed, measured.count):,} held-out images would '
        f'make it significant; there were {measured.count}.'
    )


def _labels_text(evidence: Evidence, half: float) -> str:
    full, name = evidence.last.accuracy, networks.short(evidence.source)
    text = (
        f'More labels: the linear probe of {name} has {percent(half)} with half of the labels and '
        f'{percent(full)} with all. '
    )
    if full - half > POINT:
        return text + 'It still improves; strategies that train more stages gain more from labels.'
    return text + 'It hardly improves, so more labels help only strategies that train more stages.'


def minutes_left(advice: Advice) -> float:
    """The predicted time of all full-length trials on every fold that were not run."""
    total = 0.0
    for entry in advice.search.entries:
        if not entry.solved and entry.failed is None:
            cost = advice.search.predicted(entry)
            folds = advice.task.folds_used - len(entry.trials.get(1, {}))
            total += cost.compile_seconds + folds * cost.trial_seconds(1)
    return total / 60


def data(advice: Advice) -> list[str]:
    """Sentences on the images."""
    facts = tasks.facts(advice.task)
    counts, imbalance = np.array(facts['per_class']), facts['imbalance']
    low, middle, high = facts['short_side_px']
    size_px = advice.evidence[0].job.model.images.size_px
    images = (
        f'{facts["labelled"]} labelled images of {facts["classes"]} classes, '
        f'{_range(counts.min(), counts.max())} per class'
    )
    if imbalance > 1.5:
        images += f' (the largest class has {imbalance:.1f} times the images of the smallest)'
    evaluation = (
        f'Candidates are evaluated on the {facts["validation"]} images of the validation split.'
        if facts['own_validation']
        else f'Candidates are evaluated on up to {facts["folds"]} folds, each time trained on the '
        'other images.'
    )
    sizes = f'Short sides are {_range(low, high)} px'
    if low < high:
        sizes += f' (median {middle})'
    sizes += f'; the network input is {size_px} px.'
    if middle < size_px / 2:
        sizes += ' Most images are enlarged, which adds no detail.'
    result = [f'{images}. {evaluation}', sizes]
    if imbalance > 3:
        result.append(
            'Class sizes differ much, so accuracy mostly reflects the large classes '
            '(config.balance weights or samples them).'
        )
    return result + [
        _leep_text(advice, evidence, evidence.leep)
        for evidence in advice.evidence
        if evidence.leep is not None
    ]


def _leep_text(advice: Advice, evidence: Evidence, leep: float) -> str:
    """LEEP lies between minus the entropy of the labels, for an uninformative head, and 0."""
    chance = _label_entropy(advice)
    related = 'closely related' if leep > -0.5 * chance else 'not closely related'
    return (
        f'The pretrained head of {networks.short(evidence.source)} predicts '
        f'{100 * (1 + leep / chance):.0f} % of the information in the labels without training '
        f'(LEEP {leep:.2f}; {-chance:.2f} for an uninformative head): the task is {related} to the '
        'upstream task.'
    )


def _range(low: int, high: int) -> str:
    return f'{low}' if low == high else f'{low} to {high}'


def _label_entropy(advice: Advice) -> float:
    """In nats."""
    counts = np.bincount(advice.task.labels, minlength=advice.task.num_classes)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def rank(advice: Advice, entry: Entry) -> float:
    """The order of entries in tables: by expected gain, then by score, then those without any."""
    gain = advice.choice.gains.get(entry.candidate.name)
    if gain is not None:
        return gain.mean
    predictions = entry.predictions()
    return -2.0 if predictions is None else score(predictions) / 100 - 1


def gain(advice: Advice, name: str) -> str:
    """`1.2 ± 0.8`, in points; `0` for the reference."""
    result = advice.choice.gains.get(name)
    if result is None:
        return ''
    return f'{points(result.mean)} ± {points(result.error)}' if result.measured else '0'


def steps(entry: Entry) -> int:
    """Of one of the longest trials."""
    return max(trial.steps for trial in entry.trials[entry.stride or 1].values())


def score(predictions: HeldOutPredictions) -> float:
    """The mean score of candidates, in points."""
    return 100 * float(scores(predictions).mean())
