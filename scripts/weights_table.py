"""Prints the table of known weight files for docs/weights.md.

python -m scripts.weights_table
"""

from tljax.weights import published

HEADER = (
    '| `weights=` | size, out of | interpolation | licence |',
    '| --- | --- | --- | --- |',
)


def table() -> str:
    """A Markdown table with a line for every known torchvision file."""
    lines: list[str] = [*HEADER]
    for name in sorted(published.names()):
        card = published.card(name)
        preprocessing = card.preprocessing
        assert preprocessing is not None
        lines.append(
            f'| `torchvision:{name}` | {preprocessing.size_px} px, {preprocessing.resize_px} px '
            f'| {preprocessing.interpolation.value} | {card.licence} |'
        )
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    print(table(), end='')
