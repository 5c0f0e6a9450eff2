"""Cells of CSV files."""

FORMULA_STARTS = ('=', '+', '-', '@', '＝', '＋', '－', '＠')  # as spreadsheets read a cell


def cell_text(text: str) -> str:
    """Text that spreadsheets display: an apostrophe precedes what they would run as a formula."""
    risky = text.startswith(('\t', '\r', '\n')) or text.lstrip().startswith(FORMULA_STARTS)
    return f"'{text}" if risky else text
