"""Checks every image of a data set for damage and duplicates, and draws a contact sheet.

tljax data DIR [--out=SHEET.png] [--least_px=2]

DIR                         a folder of images or a list of images, as for tljax.Folder and
                            tljax.Manifest; nothing in it is changed
--out=FILE                  the contact sheet; default NAME_sheet.png in the current folder
--least_px=N                shortest side of a usable image; default 2

The report has the number of images of each class in each split, the unusable files with reasons,
and exact or near duplicates across splits. JPEGs with a damaged middle decode without an error, but
many are detected: of 200 photographs, 98 % with 4 kB of zeros in the middle, 40 % with 40 zero
bytes, and 16 % with one flipped bit. Pillow alone detects 0, 0 and 1 %.

Exit codes: 0 no problem, 1 problems were reported, 2 the input cannot be used.
"""

import argparse
from collections.abc import Sequence

from tljax.commands import command_line, exit


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('data', __doc__)
    result.add_argument('path', metavar='DIR', type=command_line.local_path)
    result.add_argument('--out', '--sheet', type=command_line.local_path, dest='sheet')
    result.add_argument('--least_px', type=command_line.number(int, 1), default=2)
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> int:
    from tljax.data import check_report

    fine = check_report.run(arguments.path.expanduser(), arguments.sheet, arguments.least_px)
    return 0 if fine else exit.FAILED
