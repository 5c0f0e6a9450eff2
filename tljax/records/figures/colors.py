"""The colors of pages and figures by name, in a light and in a dark scheme.

The contrast of every color of text to `paper` and `panel` is at least 4.5.
"""

LIGHT = {
    'paper': '#ffffff',
    'panel': '#f3f5f6',
    'ink': '#1d2a33',
    'quiet': '#5a666f',
    'rule': '#dfe3e6',
    'faint': '#a3abb1',  # for unimportant marks, not for text
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
    'series9': '#4a3fb5',
    'series10': '#7a4a2b',
    'series11': '#3f7a00',
    'series12': '#b5238f',
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
    'series9': '#aaa0f7',
    'series10': '#cba584',
    'series11': '#a3d35a',
    'series12': '#f08ad6',
}
SERIES = tuple(name for name in LIGHT if name.startswith('series'))


def series(index: int) -> str:
    """The color of a line, a class or a run by its index; the colors repeat."""
    return SERIES[index % len(SERIES)]


def rgb(color: str) -> tuple[int, int, int]:
    """`#0b6e4f` as three numbers from 0 to 255."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue
