"""An advice as a self-contained HTML page."""

from collections.abc import Sequence
from html import escape

from tljax.advise import networks, sentences
from tljax.advise.advice import Advice
from tljax.advise.halving import Entry
from tljax.advise.pictures import CHOSEN, FAR, NEAR, Curve, Point, costs, depths, seconds_text

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif;
  color: #1d2a33; background: #fff; max-width: 50rem; margin: 3rem auto; padding: 0 1.25rem; }
h1 { font-size: 1.05rem; font-weight: 600; color: #7a858d; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
p, li { margin: .45rem 0; }
ul { padding-left: 1.1rem; }
.verdict { font-size: 1.7rem; line-height: 1.25; font-weight: 650; color: #0b6e4f; margin: 0; }
.accuracy { font-size: 1.05rem; margin: .5rem 0 1.2rem; }
pre { background: #f4f6f6; border-radius: 6px; padding: .7rem .9rem; font-size: .84rem;
  overflow-x: auto; margin: 0; }
svg { width: 100%; height: auto; margin: .6rem 0 0; font-family: inherit; }
.caption { color: #7a858d; font-size: .86rem; margin: .3rem 0 0; }
table { border-collapse: collapse; width: 100%; font-size: .84rem; margin: .8rem 0; }
.wide { overflow-x: auto; }
th { text-align: right; font-weight: 600; color: #7a858d; padding: .3rem .5rem;
  border-bottom: 1px solid #c9ced2; vertical-align: bottom; }
td { text-align: right; padding: .32rem .5rem; border-bottom: 1px solid #edeff0;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.reasons th:last-child, table.reasons td:last-child { text-align: left; white-space: normal; }
tr.chosen td { color: #0b6e4f; font-weight: 600; }
tr.far td { color: #7a858d; }
footer { margin: 3rem 0 1rem; color: #7a858d; font-size: .84rem; }
@media print { h2 { break-after: avoid; } svg, table { break-inside: avoid; } }
"""


def render(advice: Advice, title: str, command: str) -> str:
    """The page.

    Args:
        advice: to be described.
        title: of the experiment.
        command: that trains the advised config.
    """
    predictions = advice.predictions[advice.candidate.name]
    parts = [
        f'<h1>Advice for {escape(title)}</h1>',
        f'<p class="verdict">{escape(_capital(advice.candidate.name))}</p>',
        f'<p class="accuracy">Held-out accuracy {escape(sentences.accuracy(predictions))} on '
        f'{len(predictions)} images (95 % interval). No test image was used.</p>',
        f'<pre>{escape(command)}</pre>',
        '<h2>Why</h2>',
        _list(sentences.reasons(advice)),
        '<h2>Accuracy against cost</h2>',
        costs(_points(advice)),
        _caption(
            'Held-out accuracy with 95 % intervals. Green: advised. Dark: similar expected gain. '
            'Gray: lower. Hollow: shorter training or fewer folds. The intervals overlap even if '
            'candidates differ clearly, because candidates are compared image by image.'
        ),
        _tried(advice),
        '<h2>Probes of each stage</h2>',
        depths(_curves(advice)),
        _caption(
            'Held-out accuracy of a linear probe on the pooled output of each frozen stage. Bars: '
            'norm of the gradient over norm of the parameters, relative to the largest. Training '
            'changes stages with a large ratio most.'
        ),
        _scores(advice),
        '<h2>What would change the choice</h2>',
        _list(sentences.changes(advice)),
        '<h2>The images</h2>',
        _list(sentences.data(advice)),
        _left_out(advice),
        _footer(advice),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>Advice for {escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n'
        + '\n'.join(part for part in parts if part)
        + '\n</body>\n</html>\n'
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _list(items: Sequence[str]) -> str:
    return '<ul>' + ''.join(f'<li>{escape(item)}</li>' for item in items) + '</ul>'


def _caption(text: str) -> str:
    return f'<p class="caption">{escape(text)}</p>'


def _table(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], kind: str = ''
) -> str:
    head = ''.join(f'<th>{escape(column)}</th>' for column in columns)
    body = ''
    for row, cells in rows:
        inside = ''.join(f'<td>{escape(cell)}</td>' for cell in cells)
        body += f'<tr class="{row}">{inside}</tr>'
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div>'


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


def _row(advice: Advice, entry: Entry) -> tuple[str, list[str]]:
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
    return 'chosen' if name == advice.choice.name else kind, cells


def _tried(advice: Advice) -> str:
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
    note = _caption(
        'Score: the mean of correctness and of the calibrated probability of the right class. '
        'Expected gain: in score, in points, over the best probe of frozen features, measured '
        'image by image and shrunk towards the gain of such candidates on other data sets. The '
        'largest expected gain is advised. Images: held-out images on which it was evaluated. '
        'Steps: of each of its trials. Training time: predicted for the training on all labelled '
        'images. Dropped candidates were trained for fewer steps, so their accuracy is not '
        'comparable.'
    )
    return _table(columns, rows, 'reasons') + note


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


def _scores(advice: Advice) -> str:
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
            rows.append((best, cells))
    columns = ['stage', 'accuracy, %', 'loss', *names]
    note = _caption(
        'Green: smallest loss. Transferability scores (larger is better) use all labelled images. '
        'Scores that mislead with few images per feature are omitted (docs/transferability.md).'
    )
    return _table(columns, rows) + note


def _left_out(advice: Advice) -> str:
    dropped = [(drop.name, drop.why) for drop in advice.dropped]
    for entry in advice.search.entries:
        if entry.failed:
            dropped.append((entry.candidate.name, entry.failed))
        elif entry.predictions() is None and entry.dropped:
            dropped.append((entry.candidate.name, entry.dropped))
    if not dropped:
        return ''
    return '<h2>What was not tried</h2>' + _list([f'{name}: {why}.' for name, why in dropped])


def _footer(advice: Advice) -> str:
    made = [t for e in advice.search.entries for f in e.trials.values() for t in f.values()]
    steps = sum(trial.steps for trial in made)
    return (
        f'<footer>{len(made)} trials with {steps:,} steps in total; {advice.seconds:.0f} s. '
        'Method and accuracy of advice: docs/advise.md of tljax.</footer>'
    )
