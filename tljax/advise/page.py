"""An advice as a page: one HTML file that needs nothing else."""

from collections.abc import Sequence

from tljax.advise import networks, sentences
from tljax.advise.advice import Advice
from tljax.advise.halving import Entry
from tljax.advise.pictures import CHOSEN, FAR, NEAR, Curve, Point, costs, depths
from tljax.records.figures.axes import seconds_text
from tljax.records.figures.figure import Figure
from tljax.records.pages import page
from tljax.records.pages.blocks import (
    Block,
    Code,
    Figures,
    Listing,
    Page,
    Row,
    Section,
    Table,
    Text,
)


def render(advice: Advice, title: str, command: str) -> str:
    """The page.

    Args:
        advice: the result of the search.
        title: of the experiment.
        command: that runs the advised experiment.
    """
    answers = advice.answers[advice.candidate.name]
    accuracy = (
        f'{sentences.accuracy(answers)} of {len(answers)} held-out images right (95 % interval). '
        'No test image was looked at.'
    )
    sections = [
        Section(title='Why', blocks=[Listing(sentences.why(advice))]),
        Section(title='Accuracy against cost', blocks=[_costs(advice), _tried(advice)]),
        Section(title='What each depth knows', blocks=[_depths(advice), _scores(advice)]),
        Section(title='What would change it', blocks=[Listing(sentences.changes(advice))]),
        Section(title='The images', blocks=[Listing(sentences.data(advice))]),
        *_left_out(advice),
    ]
    opening: list[Block] = [
        Text(_capital(advice.candidate.name), 'verdict'),
        Text(accuracy, 'lead'),
        Code(command),
    ]
    content = Page(
        title=f'Advice for {title}', opening=opening, sections=sections, footer=_footer(advice)
    )
    return page.render(content)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _costs(advice: Advice) -> Figures:
    points = _points(advice)
    caption = (
        'Share of held-out images right, with 95 % intervals. Green: advised. Dark: within the '
        'doubt of the best. Gray: behind, or judged earlier. Hollow: shorter training or fewer '
        'folds. Intervals overlap more than candidates are in doubt, which are compared image by '
        'image.'
    )
    best = next((point for point in points if point.color == CHOSEN), points[0])
    return _figure(
        name='costs',
        title='Accuracy against the time of training.',
        alt=f'{len(points)} candidates; {best.name}: {best.accuracy:.1%} right in '
        f'{seconds_text(best.cost)}.',
        drawing=costs(points),
        columns=('candidate', 'seconds', 'accuracy', 'low', 'high'),
        rows=[(p.name, p.cost, p.accuracy, *p.interval) for p in points],
        caption=caption,
    )


def _figure(**fields) -> Figures:
    return Figures([Figure(wide=True, **fields)])


def _depths(advice: Advice) -> Figures:
    curves = _curves(advice)
    caption = (
        'A linear layer on the frozen, pooled output of each stage, on images that it was not '
        'fitted to. Bars: norm of the gradient over that of the parameters, with the solved head, '
        'as a share of the largest: where training would move most.'
    )
    last = ', '.join(f'{curve.name} {curve.accuracies[-1]:.1%}' for curve in curves)
    return _figure(
        name='depths',
        title='Accuracy by depth.',
        alt=f'Accuracy of a linear layer after the last stage: {last}.',
        drawing=depths(curves),
        columns=('network', 'stage', 'accuracy', 'low', 'high'),
        rows=[
            (curve.name, stage, accuracy, *interval)
            for curve in curves
            for stage, accuracy, interval in zip(
                curve.stages, curve.accuracies, curve.intervals, strict=True
            )
        ],
        caption=caption,
    )


def _points(advice: Advice) -> list[Point]:
    """Every candidate that has answers, by the time of its whole training."""
    found, most = [], max(len(answers) for answers in advice.answers.values())
    for entry in advice.search.entries:
        answers = entry.answers()
        if answers is None:
            continue
        name = entry.candidate.name
        color = CHOSEN if name == advice.choice.name else FAR
        if name in advice.choice.within and name != advice.choice.name:
            color = NEAR
        found.append(
            Point(
                name=name,
                cost=seconds(advice, entry),
                accuracy=answers.accuracy,
                interval=answers.interval,
                color=color,
                hollow=name not in advice.answers or len(answers) < most,
            )
        )
    return found


def seconds(advice: Advice, entry: Entry) -> float:
    """Predicted for the whole training, its compilation included."""
    cost = advice.search.cost(entry.candidate)
    if entry.solved:
        return cost.each
    whole = cost.compilation * advice.search.compiling
    return whole + cost.each + advice.search.stepping * cost.step * cost.steps


def _row(advice: Advice, entry: Entry) -> Row:
    """A candidate that has answers, in the table of what was tried."""
    answers, name = entry.answers(), entry.candidate.name
    assert answers is not None
    kind = '' if name in advice.choice.within else 'far'
    cells = [
        name,
        sentences.accuracy(answers),
        f'{sentences.merit(answers):.1f}',
        sentences.gain(advice, name),
        str(len(answers)),
        'solved' if entry.solved else f'{sentences.steps(entry):,}',
        seconds_text(seconds(advice, entry)),
        '' if name in advice.answers else (entry.dropped or ''),
    ]
    return Row(cells=cells, style='chosen' if name == advice.choice.name else kind)


def _tried(advice: Advice) -> Table:
    entries = [entry for entry in advice.search.entries if entry.answers() is not None]
    order = sorted(
        entries, key=lambda e: (e.candidate.name not in advice.answers, -sentences.rank(advice, e))
    )
    rows = [_row(advice, entry) for entry in order]
    columns = [
        'candidate',
        'right (95 % interval)',
        'merit',
        'expected gain',
        'images',
        'steps',
        'whole',
        'went no further because',
    ]
    caption = (
        'Merit: the mean of being right and of the probability given to what is right, at the '
        'temperature that fits. Expected gain: of merit, in points, over the frozen features, '
        'image by image on the same images, and drawn towards what such candidates gave '
        'elsewhere; the largest is advised. Images: held out, that it was asked '
        'about. Steps: of each of its trainings here; whole: the predicted time of the advised '
        'one. What went no further was trained for shorter, so that its accuracy is not to be '
        'held against the others.'
    )
    return Table(name='The candidates', columns=columns, rows=rows, texts=(7,), caption=caption)


def _curves(advice: Advice) -> list[Curve]:
    return [
        Curve(
            name=networks.short(look.source),
            stages=[depth.stage for depth in look.depths],
            accuracies=[depth.answers.accuracy for depth in look.depths],
            intervals=[depth.answers.interval for depth in look.depths],
            ratios=advice.prices[look.source].ratios if look.source in advice.prices else {},
            random=None if look.random is None else look.random.accuracy,
        )
        for look in advice.looks
    ]


def _scores(advice: Advice) -> Table:
    names = list(dict.fromkeys(n for look in advice.looks for d in look.depths for n in d.scores))
    rows = []
    for look in advice.looks:
        for depth in look.depths:
            best = 'chosen' if depth is look.best else ''
            label = depth.stage
            if len(advice.looks) > 1:
                label = f'{networks.short(look.source)}, {depth.stage}'
            cells = [label, f'{100 * depth.accuracy:.1f}', f'{depth.loss:.3f}']
            cells += [
                f'{depth.scores[name]:.3g}' if name in depth.scores else '–' for name in names
            ]
            rows.append(Row(cells=cells, style=best))
    columns = ['stage', 'linear layer, %', 'its loss', *names]
    caption = (
        'Green: least loss. Scores of transferability (larger is better) are of all labelled '
        'images; those that mislead with few images for a feature are left out: '
        'docs/transferability.md.'
    )
    return Table(name='Scores of each stage', columns=columns, rows=rows, caption=caption)


def _left_out(advice: Advice) -> Sequence[Section]:
    dropped = [(drop.name, drop.why) for drop in advice.dropped]
    for entry in advice.search.entries:
        if entry.failed:
            dropped.append((entry.candidate.name, entry.failed))
        elif entry.answers() is None and entry.dropped:
            dropped.append((entry.candidate.name, entry.dropped))
    if not dropped:
        return ()
    items = [f'{name}: {why}.' for name, why in dropped]
    return (Section(title='What was not tried', blocks=[Listing(items)]),)


def _footer(advice: Advice) -> str:
    made = [t for e in advice.search.entries for f in e.trials.values() for t in f.values()]
    steps = sum(trial.steps for trial in made)
    return (
        f'{len(made)} trials of {steps:,} steps in all; {advice.seconds:.0f} s. '
        'How it decides, and how often it is right: docs/advise.md of tljax.'
    )
