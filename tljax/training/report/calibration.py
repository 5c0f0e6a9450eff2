"""The section on calibration and on selective prediction."""

import numpy as np

from tljax.metrics import calibration, scaling, selective
from tljax.records.figures import curves
from tljax.records.figures.axes import share_text
from tljax.records.figures.curves import Curve
from tljax.records.figures.figure import Figure
from tljax.records.pages.blocks import Block, Figures, Row, Section, Table, Text
from tljax.records.predictions import SplitPredictions
from tljax.training.report.inputs import Inputs, split_name

MEASURES = {
    'ece': 'calibration error (ECE)',
    'ece_equal_mass': 'ECE, bins of equal mass',
    'ece_class_wise': 'ECE of each class, mean',
    'ece_adaptive': 'adaptive calibration error',
    'brier': 'Brier score',
    'negative_log_likelihood': 'negative log-likelihood',
}
RISKS = (0.01, 0.02, 0.05, 0.1)  # target risks of the thresholds
POINTS = 300  # the largest number of points of a curve


def section(inputs: Inputs) -> Section:
    """Reliability before and after temperature scaling, and risk against coverage."""
    name, split = inputs.predictions()
    temperature, note = _temperature(inputs)
    read = inputs.named(name)
    figures = [_reliability(read, split, 1.0, 'before')]
    if temperature != 1.0:
        figures.append(_reliability(read, split, temperature, 'after'))
    blocks: list[Block] = [Text(note), Figures([*figures, _risk(inputs, split, temperature)])]
    return Section(
        title='Confidence', blocks=[*blocks, _table(split, temperature), _thresholds(inputs)]
    )


def _temperature(inputs: Inputs) -> tuple[float, str]:
    """The temperature and a sentence about it; fits the temperature if the run recorded none."""
    recorded = inputs.run.result.get('calibration')
    if recorded:
        temperature, count = recorded['temperature'], recorded['images']
    elif 'val' in inputs.splits:
        validation = inputs.splits['val']
        temperature = scaling.fit_temperature(validation.logits, validation.labels)
        count = len(validation)
    else:
        return 1.0, 'There is no validation split, so no temperature was fitted.'
    note = f'Temperature {temperature:.3g}, fitted on {count:,} {inputs.named("val")}.'
    if count < calibration.FEW_IMAGES:
        note += (
            f' It is unsure, because there are fewer than {calibration.FEW_IMAGES} {inputs.noun}.'
        )
    if temperature == 1.0:
        note += ' So the probabilities stay unchanged.'
    return temperature, f'{note} A temperature changes probabilities, and no predicted class.'


def _probabilities(split: SplitPredictions, temperature: float) -> np.ndarray:
    return np.asarray(
        calibration.probabilities(
            split.logits, multi_label=split.task.multi_label, temperature=temperature
        )
    )


def _reliability(read: str, split: SplitPredictions, temperature: float, when: str) -> Figure:
    probabilities = _probabilities(split, temperature)
    diagram = calibration.reliability(probabilities, split.labels)
    filled = diagram.images > 0
    xs = diagram.confidence[filled].tolist()
    band = list(zip(diagram.low[filled].tolist(), diagram.high[filled].tolist(), strict=True))
    ys = diagram.accuracy[filled].tolist()
    low = max(min(0.9, np.floor(10 * min(xs)) / 10), 0.0)
    lines = [
        Curve(name='perfect', xs=[low, 1.0], ys=[low, 1.0], color='faint', dashed=True),
        Curve(name='network', xs=xs, ys=ys, color='series1', band=band, dots=True),
    ]
    error = calibration.expected_calibration_error(probabilities, split.labels)
    rows = list(zip(*(column[filled].tolist() for column in diagram), strict=True))
    return Figure(
        name=f'reliability-{when}',
        title=f'Reliability {when} temperature scaling.',
        alt=f'Calibration error {100 * error:.1f} % on {read}.',
        drawing=curves.chart(
            lines,
            x_label=f'confidence on {read}',
            percent=True,
            percent_x=True,
            x_range=(low, 1.0),
            y_range=(min([low, *(end for end, _ in band)]), 1.0),
        ),
        columns=('left', 'right', read.split()[-1], 'confidence', 'accuracy', 'low', 'high'),
        rows=rows,
        caption=f'Share of correct predictions by confidence, ECE {100 * error:.1f} %. The band is '
        'the 95 % bootstrap interval; dots below the dashed line are overconfident.',
    )


def _risk(inputs: Inputs, split: SplitPredictions, temperature: float) -> Figure:
    confidence, right = calibration.confidences(_probabilities(split, temperature), split.labels)
    curve = selective.risk_coverage(confidence, right)
    points = np.unique(np.linspace(0, len(curve.coverage) - 1, POINTS).astype(int))
    xs, ys = curve.coverage[points].tolist(), curve.risk[points].tolist()
    line = Curve(name='share of wrong answers', xs=xs, ys=ys, color='series1')
    name, _ = inputs.predictions()
    unit = 'labels' if split.task.multi_label else inputs.noun
    return Figure(
        name='risk-coverage',
        title='Risk against coverage.',
        alt=f'The area under the risk-coverage curve is {curve.area:.4f}.',
        drawing=curves.chart(
            [line],
            x_label=f'share of {split_name(name)} {unit} answered, the most confident first',
            percent=True,
            percent_x=True,
            x_range=(0, 1),
            y_range=(0, max(ys)),
        ),
        columns=('coverage', 'risk', 'threshold'),
        rows=list(zip(xs, ys, curve.threshold[points].tolist(), strict=True)),
        caption='The share of wrong answers if the network abstains from the least confident '
        f'{inputs.noun}. Area under the curve: {curve.area:.4f}.',
    )


def _table(split: SplitPredictions, temperature: float) -> Table:
    before = calibration.summary(split.logits, split.labels)
    after = calibration.summary(split.logits, split.labels, temperature)
    rows = [
        Row(cells=[text, f'{before[name]:.4f}', f'{after[name]:.4f}'])
        for name, text in MEASURES.items()
    ]
    return Table(
        name='Measures of calibration',
        columns=('measure', 'before', 'after temperature scaling'),
        rows=rows,
        caption='Smaller is better.',
    )


def _thresholds(inputs: Inputs) -> Table | Text:
    """Confidence thresholds for target risks, chosen on validation and measured on test images."""
    splits = inputs.splits
    if 'val' not in splits or 'test' not in splits or not splits['val'].task.one_label:
        return Text(
            f'Thresholds for a target risk need validation and test {inputs.noun} with one label '
            'each.',
            'missing',
        )
    temperature, _ = _temperature(inputs)
    pairs = {
        name: calibration.confidences(
            _probabilities(splits[name], temperature), splits[name].labels
        )
        for name in ('val', 'test')
    }
    rows = []
    for risk in RISKS:
        chosen = selective.threshold_for_risk(*pairs['val'], risk)
        confidence, right = pairs['test']
        answered = confidence >= chosen.threshold
        if not np.isfinite(chosen.threshold):
            rows.append(
                Row(cells=[share_text(risk, 0), 'none guarantees it', '–', '–'], style='far')
            )
            continue
        wrong = share_text((~right[answered]).mean()) if answered.any() else '–'
        cells = [share_text(risk, 0), f'{chosen.threshold:.3f}', share_text(answered.mean()), wrong]
        rows.append(Row(cells=cells))
    return Table(
        name='Thresholds for a target risk',
        columns=('target risk', 'threshold', f'test {inputs.noun} answered', 'wrong answers'),
        rows=rows,
        caption='Predictions with at least this confidence are answered. Thresholds are chosen on '
        f'the validation {inputs.noun}: with 95 % probability, the share of wrong answers is at '
        f'most the target risk. Both shares are then measured on the test {inputs.noun}.',
    )
