"""The page of a run's robustness, made from its record."""

from collections.abc import Mapping
from typing import Any

from tljax.records.pages.blocks import Page, Text
from tljax.training.robustness.sections import corrupted, forgetting, shifted, unfamiliar

SECTIONS = {
    'corrupted': corrupted.section,
    'shifted': shifted.section,
    'ood': unfamiliar.section,
    'forgetting': forgetting.section,
}


def page(record: Mapping[str, Any]) -> Page:
    """Makes the page of a record of `measurement.measure`."""
    sections = [make(record[name]) for name, make in SECTIONS.items() if name in record]
    missing = [] if sections else [Text('Nothing was measured.', 'missing')]
    return Page(
        title='Robustness',
        opening=[Text(str(record['run']), 'verdict'), *missing],
        sections=sections,
        footer='The figures and their numbers are in robustness_figures/, all numbers in '
        'robustness.json. Intervals are 95 % intervals.',
        contents=True,
    )
