"""What `tljax evaluate` prints and writes of the metrics."""

from typing import Any

from tljax.metrics import confusion
from tljax.records import console, tables
from tljax.training.labelled_data import Data

print_ = console.console.print
PRINTED_PAIRS = 10  # confused pairs of classes


def mean_class_accuracy(metrics: dict[str, Any]) -> float | None:
    """The mean of the accuracies of the classes that have images; None without any."""
    values = [value for value in metrics['class_accuracy'] if value is not None]
    return sum(values) / len(values) if values else None


def class_record(
    metrics: dict[str, Any], counts: confusion.Counts, names: tuple[str, ...]
) -> dict[str, Any]:
    """The entries of --out that exist only with one label per image."""
    return {
        'mean_class_accuracy': mean_class_accuracy(metrics),
        'class_count': confusion.class_counts(counts, len(names)),
        'confused': [
            {'true': names[label], 'predicted': names[prediction], 'count': count}
            for label, prediction, count in confusion.confused(counts)
        ],
    }


def _calibration_lines(metrics: dict[str, Any]) -> dict[str, str]:
    """With --calibrated, the temperature and the calibration error before and after."""
    if 'calibration' not in metrics:
        return {}
    record = metrics['calibration']
    before, after = (100 * record[when]['ece'] for when in ('before', 'after'))
    errors = f'{before:.1f} % before, {after:.1f} % after'
    return {'temperature': f'{record["temperature"]:.4g}', 'calibration error': errors}


def print_measures(metrics: dict[str, Any], data: Data) -> None:
    """Prints the metrics of images that have not one label each."""
    for name, text in (tables.measures(metrics) | _calibration_lines(metrics)).items():
        print_(f'  {name:<28}{text}')
    columns = {'average precision': 'class_average_precision', 'F1': 'class_f1'}
    shares = {column: metrics[name] for column, name in columns.items() if name in metrics}
    if shares:
        class_counts = data.examples.labels.sum(0).tolist()
        print_(confusion.class_table(shares, class_counts, data.class_names))


def print_classes(
    metrics: dict[str, Any], counts: confusion.Counts, names: tuple[str, ...], inputs: str
) -> None:
    """Prints the metrics of images or texts with one label each."""
    lines: dict[str, str] = {'accuracy': f'{console.accuracy_text(metrics)}, 95 % interval'}
    if 'kappa' in metrics:
        lines = {'weighted kappa': console.accuracy_text(metrics, 'kappa'), **lines}
        lines['mean distance'] = f'{metrics["mae"]:.3g} classes'
    if len(names) > 5 and 'top5_accuracy' in metrics:
        lines['top-5 accuracy'] = f'{100 * metrics["top5_accuracy"]:.1f} %'
    lines['mean over classes'] = f'{100 * (mean_class_accuracy(metrics) or 0):.1f} %'
    lines['loss'] = f'{metrics["loss"]:.4f}'
    lines |= _calibration_lines(metrics)
    for name, text in lines.items():
        print_(f'  {name:<20}{text}')
    class_counts = confusion.class_counts(counts, len(names))
    shares = {'accuracy': metrics['class_accuracy']}
    print_(confusion.class_table(shares, class_counts, names, inputs))
    pairs = confusion.confused(counts)
    if pairs:
        print_(confusion.pair_table(pairs[:PRINTED_PAIRS], class_counts, names, inputs))
    if len(pairs) > PRINTED_PAIRS:
        print_(f'{len(pairs) - PRINTED_PAIRS} more pairs were confused; --out has all.')
