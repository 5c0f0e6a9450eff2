"""Text for cells of CSV files."""

FORMULA_STARTS = ('=', '+', '-', '@', '＝', '＋', '－', '＠')  # in common spreadsheets


def cell_text(text: str) -> str:
    """Puts an apostrophe before text that a spreadsheet would run as a formula."""
    risky = text.startswith(('\t', '\r', '\n')) or text.lstrip().startswith(FORMULA_STARTS)
    return f"'{text}" if risky else text
