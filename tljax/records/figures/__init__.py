"""Figures of a report: drawn once, as SVG in the page, and as SVG, PNG and CSV files."""
