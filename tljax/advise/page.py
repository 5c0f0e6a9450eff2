"""An advice as a self-contained HTML page."""

from collections.abc import Sequence

from tljax.advise import networks, sentences
from tljax.advise.advice import Advice
from tljax.advise.halving import Entry
from tljax.advise.pictures import FAR, NEAR, Curve, depths
from tljax.records.figures.axes import seconds_text
from tljax.records.figures.costs import CHOSEN, Point, costs
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
        advice: to be described.
        title: of the experiment.
        command: that trains the advised config.
    """
    predictions = advice.predictions[advice.candidate.name]
    accuracy = (
        f'Held-out accuracy {sentences.accuracy(predictions)} on {len(predictions)} images '
        '(95 % interval). No test image was used.'
    )
    sections = [
        Section(title='Why', blocks=[Listing(sentences.reasons(advice))]),
        Section(title='Accuracy against cost', blocks=[_costs(advice), _tried(advice)]),
        *_networks(advice),
        Section(title='Probes of each stage', blocks=[_depths(advice), _scores(advice)]),
        Section(title='What would change the choice', blocks=[Listing(sentences.changes(advice))]),
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
        'Held-out accuracy with 95 % intervals. Green: advised. Dark: similar expected gain. '
        'Gray: lower. Hollow: shorter training or fewer folds. The intervals overlap even if '
        'candidates differ clearly, because candidates are compared image by image.'
    )
    best = next((point for point in points if point.color == CHOSEN), points[0])
    return _figure(
        name='costs',
        title='Accuracy against the time of training.',
        alt=f'{len(points)} candidates; {best.name}: accuracy {best.accuracy:.1%}, training time '
        f'{seconds_text(best.cost)}.',
        drawing=costs(points, label='predicted time of the complete training'),
        columns=('candidate', 'seconds', 'accuracy', 'low', 'high'),
        rows=[(p.name, p.cost, p.accuracy, *p.interval) for p in points],
        caption=caption,
    )


def _figure(**fields) -> Figures:
    return Figures([Figure(wide=True, **fields)])


def _depths(advice: Advice) -> Figures:
    curves = _curves(advice)
    caption = (
        'Held-out accuracy of a linear probe on the pooled output of each frozen stage. Bars: '
        'norm of the gradient over norm of the parameters, relative to the largest. Training '
        'changes stages with a large ratio most.'
    )
    last = ', '.join(f'{curve.name} {curve.accuracies[-1]:.1%}' for curve in curves)
    return _figure(
        name='depths',
        title='Accuracy of a probe of each stage.',
        alt=f'Accuracy of a linear probe of the last stage: {last}.',
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
    """Every candidate with predictions, at the predicted time of its training."""
    result, most = [], max(len(predictions) for predictions in advice.predictions.values())
    for entry in advice.search.entries:
        predictions = entry.predictions()
        if predictions is None:
            continue
        name = entry.candidate.name
        color = CHOSEN if name == advice.choice.name else FAR
        if name in advice.choice.contenders and name != advice.choice.name:
            color = NEAR
        result.append(
            Point(
                name=name,
                cost=seconds(advice, entry),
                accuracy=predictions.accuracy,
                interval=predictions.interval,
                color=color,
                hollow=name not in advice.predictions or len(predictions) < most,
            )
        )
    return result


def seconds(advice: Advice, entry: Entry) -> float:
    """The predicted time of the advised training, with compilation."""
    cost = advice.search.cost(entry.candidate)
    if entry.solved:
        return cost.fixed_seconds
    whole = cost.compile_seconds * advice.search.compile_factor
    return whole + cost.fixed_seconds + advice.search.step_factor * cost.step_seconds * cost.steps


def _row(advice: Advice, entry: Entry) -> Row:
    """The row of a candidate with predictions."""
    predictions, name = entry.predictions(), entry.candidate.name
    assert predictions is not None
    kind = '' if name in advice.choice.contenders else 'far'
    cells = [
        name,
        sentences.accuracy(predictions),
        f'{sentences.score(predictions):.1f}',
        sentences.gain(advice, name),
        str(len(predictions)),
        'solved' if entry.solved else f'{sentences.steps(entry):,}',
        seconds_text(seconds(advice, entry)),
        '' if name in advice.predictions else (entry.dropped or ''),
    ]
    return Row(cells=cells, style='chosen' if name == advice.choice.name else kind)


def _tried(advice: Advice) -> Table:
    entries = [entry for entry in advice.search.entries if entry.predictions() is not None]
    order = sorted(
        entries,
        key=lambda e: (e.candidate.name not in advice.predictions, -sentences.rank(advice, e)),
    )
    rows = [_row(advice, entry) for entry in order]
    columns = [
        'candidate',
        'accuracy (95 % interval)',
        'score',
        'expected gain',
        'images',
        'steps',
        'training time',
        'dropped because',
    ]
    caption = (
        'Score: the mean of correctness and of the calibrated probability of the right class. '
        'Expected gain: in score, in points, over the best probe of frozen features, measured '
        'image by image and shrunk towards the gain of such candidates on other data sets. The '
        'largest expected gain is advised. Images: held-out images on which it was evaluated. '
        'Steps: of each of its trials. Training time: predicted for the training on all labelled '
        'images. Dropped candidates were trained for fewer steps, so their accuracy is not '
        'comparable.'
    )
    return Table(name='The candidates', columns=columns, rows=rows, texts=(7,), caption=caption)


def _curves(advice: Advice) -> list[Curve]:
    costs_of = advice.network_costs
    return [
        Curve(
            name=networks.short(evidence.source),
            stages=[probe.stage for probe in evidence.probes],
            accuracies=[probe.predictions.accuracy for probe in evidence.probes],
            intervals=[probe.predictions.interval for probe in evidence.probes],
            ratios=costs_of[evidence.source].gradient_ratios if evidence.source in costs_of else {},
            random=None if evidence.random is None else evidence.random.accuracy,
        )
        for evidence in advice.evidence
    ]


def _scores(advice: Advice) -> Table:
    probes = [probe for evidence in advice.evidence for probe in evidence.probes]
    names = list(dict.fromkeys(name for probe in probes for name in probe.scores))
    rows = []
    for evidence in advice.evidence:
        for probe in evidence.probes:
            best = 'chosen' if probe is evidence.best else ''
            label = probe.stage
            if len(advice.evidence) > 1:
                label = f'{networks.short(evidence.source)}, {probe.stage}'
            cells = [label, f'{100 * probe.accuracy:.1f}', f'{probe.loss:.3f}']
            cells += [
                f'{probe.scores[name]:.3g}' if name in probe.scores else '–' for name in names
            ]
            rows.append(Row(cells=cells, style=best))
    columns = ['stage', 'accuracy, %', 'loss', *names]
    caption = (
        'Green: smallest loss. Transferability scores (larger is better) use all labelled images. '
        'Scores that mislead with few images per feature are omitted (docs/transferability.md).'
    )
    return Table(name='Scores of each stage', columns=columns, rows=rows, caption=caption)


def _networks(advice: Advice) -> Sequence[Section]:
    """The screening of many networks, if there was one."""
    if not advice.screened:
        return ()
    counts = sorted({count for one in advice.screened for count, _ in one.accuracies})
    rows = []
    for one in sorted(
        advice.screened, key=lambda one: [-len(one.accuracies), -one.accuracies[-1][1]]
    ):
        by_count = dict(one.accuracies)
        cells = [f'{100 * by_count[n]:.1f}' if n in by_count else '–' for n in counts]
        cells = [one.label, *cells, f'{one.seconds:.1f}']
        rows.append(Row(cells=cells, style='far' if one.why else 'chosen'))
    caption = (
        'Accuracy of a linear probe of the frozen features, in %, on a growing part of the '
        'labelled images; each image is predicted from all others. Green: the network that is '
        'left. Seconds: of its features and probes.'
    )
    columns = ['network', *(f'{count} images' for count in counts), 'seconds']
    table = Table(name='Networks', columns=columns, rows=rows, caption=caption)
    return (Section(title='The networks', blocks=[table]),)


def _left_out(advice: Advice) -> Sequence[Section]:
    dropped = [(drop.name, drop.why) for drop in advice.dropped]
    for entry in advice.search.entries:
        if entry.failed:
            dropped.append((entry.candidate.name, entry.failed))
        elif entry.predictions() is None and entry.dropped:
            dropped.append((entry.candidate.name, entry.dropped))
    if not dropped:
        return ()
    items = [f'{name}: {why}.' for name, why in dropped]
    return (Section(title='What was not tried', blocks=[Listing(items)]),)


def _footer(advice: Advice) -> str:
    made = [t for e in advice.search.entries for f in e.trials.values() for t in f.values()]
    steps = sum(trial.steps for trial in made)
    return (
        f'{len(made)} trials with {steps:,} steps in total; {advice.seconds:.0f} s. '
        'Method and accuracy of advice: docs/advise.md of tljax.'
    )
