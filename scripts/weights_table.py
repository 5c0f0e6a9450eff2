"""Prints the table of the files that are known by name, as docs/weights.md has it.

python -m scripts.weights_table
"""

from tljax.weights import published

HEADER = (
    '| `weights=` | size, out of | interpolation | licence |',
    '| --- | --- | --- | --- |',
)


def table() -> str:
    """A line for every file of torchvision's that is known, in Markdown."""
    lines: list[str] = [*HEADER]
    for name in sorted(published.names()):
        card = published.card(name)
        shown = card.preprocessing
        assert shown is not None
        lines.append(
            f'| `torchvision:{name}` | {shown.size_px} px, {shown.resize_px} px '
            f'| {shown.interpolation.value} | {card.licence} |'
        )
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    print(table(), end='')
