"""The colors of pages and figures, by name, for light and for dark surroundings.

Text is only written in colors whose contrast to `paper` and `panel` is at least 4.5.
"""

from collections.abc import Sequence

LIGHT = {
    'paper': '#ffffff',
    'panel': '#f3f5f6',
    'ink': '#1d2a33',
    'quiet': '#5a666f',
    'rule': '#dfe3e6',
    'faint': '#a3abb1',  # marks that stand back, never text
    'accent': '#0b6e4f',
    'warn': '#a84a06',
    'series1': '#0b6e4f',
    'series2': '#2f62a3',
    'series3': '#a84a06',
    'series4': '#84439a',
    'series5': '#7c6a00',
    'series6': '#b0264f',
    'series7': '#00687d',
    'series8': '#566069',
}
DARK = {
    'paper': '#14191d',
    'panel': '#1e252b',
    'ink': '#e6ebee',
    'quiet': '#a5b0b8',
    'rule': '#323b42',
    'faint': '#66727b',
    'accent': '#5cc79f',
    'warn': '#f0a35e',
    'series1': '#5cc79f',
    'series2': '#86b4ee',
    'series3': '#f0a35e',
    'series4': '#d09be4',
    'series5': '#d6c14b',
    'series6': '#f58aa8',
    'series7': '#5fc6dc',
    'series8': '#aab4bc',
}
SERIES = tuple(name for name in LIGHT if name.startswith('series'))
TEXT = ('ink', 'quiet', 'accent', 'warn', *SERIES)


def series(index: int) -> str:
    """The color of a line, a class or a run by its index; the colors repeat."""
    return SERIES[index % len(SERIES)]


def rgb(color: str) -> tuple[int, int, int]:
    """`#0b6e4f` as three numbers from 0 to 255."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colors, 1 to 21.

    Source: WCAG 2.2, "contrast ratio" and "relative luminance".
    """
    light, dark = sorted((_luminance(rgb(one)), _luminance(rgb(other))), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(channels: Sequence[int]) -> float:
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in channels)
    ]
    weights = (0.2126, 0.7152, 0.0722)
    return sum(weight * value for weight, value in zip(weights, linear, strict=True))
