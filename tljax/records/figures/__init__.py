"""Figures of a report, drawn once for the page and for SVG, PNG and CSV files."""
