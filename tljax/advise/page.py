"""An advice as a page: one HTML file that needs nothing else."""

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
        advice: what was found.
        title: of the experiment.
        command: that runs what is advised.
    """
    answers = advice.answers[advice.candidate.name]
    parts = [
        f'<h1>Advice for {escape(title)}</h1>',
        f'<p class="verdict">{escape(_capital(advice.candidate.name))}</p>',
        f'<p class="accuracy">{escape(sentences.accuracy(answers))} of {len(answers)} held-out '
        'images right (95 % interval). No test image was looked at.</p>',
        f'<pre>{escape(command)}</pre>',
        '<h2>Why</h2>',
        _list(sentences.why(advice)),
        '<h2>Accuracy against cost</h2>',
        costs(_points(advice)),
        _caption(
            'Share of held-out images right, with 95 % intervals. Green: advised. Dark: within the '
            'doubt of the best. Gray: behind, or judged earlier. Hollow: shorter training or '
            'fewer folds. Intervals overlap more than candidates are in doubt, which are compared '
            'image by image.'
        ),
        _tried(advice),
        '<h2>What each depth knows</h2>',
        depths(_curves(advice)),
        _caption(
            'A linear layer on the frozen, pooled output of each stage, on images that it was not '
            'fitted to. Bars: norm of the gradient over that of the parameters, with the solved '
            'head, as a share of the largest: where training would move most.'
        ),
        _scores(advice),
        '<h2>What would change it</h2>',
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


def _row(advice: Advice, entry: Entry) -> tuple[str, list[str]]:
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
    return 'chosen' if name == advice.choice.name else kind, cells


def _tried(advice: Advice) -> str:
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
    note = _caption(
        'Merit: the mean of being right and of the probability given to what is right, at the '
        'temperature that fits. Expected gain: of merit, in points, over the frozen features, '
        'image by image on the same images, and drawn towards what such candidates gave '
        'elsewhere; the largest is advised. Images: held out, that it was asked '
        'about. Steps: of each of its trainings here; whole: the predicted time of the advised '
        'one. What went no further was trained for shorter, so that its accuracy is not to be '
        'held against the others.'
    )
    return _table(columns, rows, 'reasons') + note


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


def _scores(advice: Advice) -> str:
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
            rows.append((best, cells))
    columns = ['stage', 'linear layer, %', 'its loss', *names]
    note = _caption(
        'Green: least loss. Scores of transferability (larger is better) are of all labelled '
        'images; those that mislead with few images for a feature are left out: '
        'docs/transferability.md.'
    )
    return _table(columns, rows) + note


def _left_out(advice: Advice) -> str:
    dropped = [(drop.name, drop.why) for drop in advice.dropped]
    for entry in advice.search.entries:
        if entry.failed:
            dropped.append((entry.candidate.name, entry.failed))
        elif entry.answers() is None and entry.dropped:
            dropped.append((entry.candidate.name, entry.dropped))
    if not dropped:
        return ''
    return '<h2>What was not tried</h2>' + _list([f'{name}: {why}.' for name, why in dropped])


def _footer(advice: Advice) -> str:
    made = [t for e in advice.search.entries for f in e.trials.values() for t in f.values()]
    steps = sum(trial.steps for trial in made)
    return (
        f'<footer>{len(made)} trials of {steps:,} steps in all; {advice.seconds:.0f} s. '
        'How it decides, and how often it is right: docs/advise.md of tljax.</footer>'
    )
