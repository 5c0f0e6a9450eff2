"""An advice in words: why, what would change it, and what it was measured on."""

import numpy as np

from tljax.advise import networks, tasks
from tljax.advise.advice import Advice
from tljax.advise.choice import Answers, difference, images_to_tell, merits
from tljax.advise.evidence import Look
from tljax.advise.halving import Entry

POINT = 0.01


def percent(share: float) -> str:
    """`97.5 %`."""
    return f'{100 * share:.1f} %'


def accuracy(answers: Answers) -> str:
    """`97.5 % (92.3 to 99.3)`."""
    low, high = answers.interval
    return f'{100 * answers.accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f})'


def verdict(advice: Advice) -> str:
    """What is advised, in a line."""
    answers = advice.answers[advice.candidate.name]
    return f'{advice.candidate.name}: {accuracy(answers)} on {len(answers)} held-out images'


def why(advice: Advice) -> list[str]:
    """Sentences on how the choice came about."""
    choice = advice.choice
    gain, found = choice.gains[choice.name], []
    if all(entry.solved or not entry.trials for entry in advice.search.entries):
        found.append(
            'No trial was finished in the time: this rests on the frozen features alone. A larger '
            '--budget_minutes tries the candidates that are named below.'
        )
    elif choice.name == choice.reference:
        found.append(
            'Nothing that was tried is expected to answer better than what the frozen features '
            'give, which costs no training.'
        )
    elif gain.seen is not None:
        found.append(
            f'It is expected to answer {points(gain.mean)} points better than {choice.reference} '
            f'(± {points(gain.error)}). In its trials it answered {points(gain.seen.mean)} better '
            f'(± {points(gain.seen.error)}), image by image on the same {gain.seen.count} '
            'images; as these are few, that is drawn towards what such candidates gave elsewhere.'
        )
    others = [f'{name} ({points(choice.gains[name].mean)})' for name in choice.within[1:]]
    if others:
        found.append('Within the doubt: ' + '; '.join(others) + '.')
    else:
        found.append('No other candidate is within the doubt.')
    found += [_depth_text(look) for look in advice.looks]
    return found


def points(share: float) -> str:
    """Of a share: `2.3`."""
    return f'{100 * share:.1f}'


def _depth_text(look: Look) -> str:
    best, last = look.best, look.last
    name = networks.short(look.source)
    text = f'{name}, frozen: a linear layer on {last.stage} gets {percent(last.accuracy)} right'
    if best is not last:
        text += f', on {best.stage} {percent(best.accuracy)}: the upper stages are the source’s own'
    if look.random is not None:
        text += f'; on the same network with random weights {percent(look.random.accuracy)}'
    return text + '.'


def changes(advice: Advice) -> list[str]:
    """Sentences on what would change the choice."""
    found: list[str] = []
    for name in advice.choice.within[1:3]:
        found += _told_apart(advice, advice.candidate.name, name)
    for look in advice.looks:
        gain = None if look.fewer is None else look.last.accuracy - look.fewer
        if gain is not None:
            found.append(
                f'More labels: from half of them to all, the linear layer on the frozen '
                f'{networks.short(look.source)} went from {percent(look.fewer or 0.0)} to '
                f'{percent(look.last.accuracy)}. '
                + (
                    'It still learns from each image; what trains more stages gains more of that.'
                    if gain > POINT
                    else 'It has learnt what it can: more labels are for what trains more stages.'
                )
            )
    untried = [e.candidate.name for e in advice.search.entries if _untried(e)]
    if untried:
        rest = minutes_left(advice)
        found.append(
            f'More time: there was none for {"; ".join(untried)}. All candidates at full length on '
            f'every fold would take about {rest:.0f} minutes more (--budget_minutes).'
        )
    low, high = advice.answers[advice.candidate.name].interval
    found.append(
        f'The accuracy itself is known to {50 * (high - low):.1f} points either way; four times '
        'the held-out images would halve that.'
    )
    return found


def _untried(entry: Entry) -> bool:
    return not entry.solved and not entry.trials and entry.failed is None


def minutes_left(advice: Advice) -> float:
    """Of all trials at full length and on every fold that were not made."""
    search, total = advice.search, 0.0
    for entry in search.entries:
        if not entry.solved and entry.failed is None:
            cost = search.predicted(entry)
            left = advice.task.asked - len(entry.trials.get(1, {}))
            total += cost.compilation + left * cost.trial(1)
    return total / 60


def _told_apart(advice: Advice, one: str, other: str) -> list[str]:
    apart = difference(advice.answers[one], advice.answers[other])
    needed = images_to_tell(apart)
    if needed is None:
        return [f'{one} and {other} answered alike: no number of images would tell them apart.']
    better, worse = (one, other) if apart.mean > 0 else (other, one)
    return [
        f'If {better} is better than {worse} by as much as the trials show '
        f'({points(abs(apart.mean))} points), {max(needed, apart.count):,} held-out images would '
        f'settle it; there are {apart.count}.'
    ]


def data(advice: Advice) -> list[str]:
    """Sentences on the images."""
    facts = tasks.facts(advice.task)
    counts = np.array(facts['per_class'])
    low, middle, high = facts['short_side_px']
    shown = advice.looks[0].job.model.preprocessing
    found = [
        f'{facts["labelled"]} labelled images of {facts["classes"]} classes, '
        f'{_range(counts.min(), counts.max())} a class'
        + (f' (imbalance {facts["imbalance"]:.1f})' if facts['imbalance'] > 1.5 else '')
        + '. '
        + (
            f'Candidates are judged on the {facts["validation"]} images of its validation split.'
            if facts['own_validation']
            else f'Candidates are judged on up to {facts["folds"]} folds of them, each trained '
            'without the images that it is asked about.'
        ),
        f'The short sides are {_range(low, high)} px'
        + (f', {middle} in the middle' if low < high else '')
        + f'; the network reads {shown.size_px} px.'
        + (' They are enlarged: no detail comes of that.' if middle < shown.size_px / 2 else ''),
    ]
    if facts['imbalance'] > 3:
        found.append(
            'Classes are of very unlike sizes: accuracy speaks for the large ones '
            '(config.balance weighs or samples them).'
        )
    for look in advice.looks:
        if look.leep is not None:
            chance = float(_label_entropy(advice))
            found.append(
                f'The head that came with {networks.short(look.source)} tells, without any '
                f'training, {100 * (1 + look.leep / chance):.0f} % of what the labels hold (LEEP '
                f'{look.leep:.2f}, {-chance:.2f} for a head that tells nothing): '
                + (
                    'the task is near to the source.'
                    if look.leep > -0.5 * chance
                    else 'the task is far from the source.'
                )
            )
    return found


def _range(low: int, high: int) -> str:
    return f'{low}' if low == high else f'{low} to {high}'


def _label_entropy(advice: Advice) -> float:
    counts = np.bincount(advice.task.labels, minlength=advice.task.num_classes)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def rank(advice: Advice, entry: Entry) -> float:
    """What entries are listed by: the expected gain, else the merit; below all others for none."""
    found = advice.choice.gains.get(entry.candidate.name)
    answers = entry.answers()
    if found is not None:
        return found.mean
    return -2.0 if answers is None else merit(answers) / 100 - 1


def gain(advice: Advice, name: str) -> str:
    """`1.2 ± 0.8`, in points."""
    found = advice.choice.gains.get(name)
    if found is None:
        return ''
    return f'{points(found.mean)} ± {points(found.error)}' if found.seen else '0'


def steps(entry: Entry) -> int:
    """Of one of its longest trials."""
    return max(trial.steps for trial in entry.trials[entry.stride or 1].values())


def merit(answers: Answers) -> float:
    """What candidates are ranked by, in points."""
    return 100 * float(merits(answers).mean())
