"""`python -m tljax.main --config=configs/quickstart.py`, which is `tljax train`."""

import sys
from collections.abc import Sequence

from tljax.commands import train


def main(argv: Sequence[str]) -> int:
    """Runs `tljax train` on a command line, the program's name first; returns the exit code."""
    return train.main(argv[1:])


if __name__ == '__main__':
    sys.exit(main(sys.argv))
