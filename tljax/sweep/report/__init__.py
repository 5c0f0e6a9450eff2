"""What a sweep says: `write` makes the page, tables and figures, `text` a few lines."""

from tljax.sweep.report.outputs import text, write

__all__ = ['text', 'write']
