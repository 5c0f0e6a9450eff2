"""`tljax COMMAND` and `python -m tljax COMMAND`: runs a command by its name."""

import difflib
import sys
from collections.abc import Sequence

from tljax.commands.names import COMMANDS, module
from tljax.version import __version__

HELP = {'--help', '-h', '-help', 'help'}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        argv: the command's name and its arguments; None for those of the process.

    Returns:
        The exit code; 2 for an unknown command.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in HELP:
        print(_help())
        return 0
    if argv[0] == '--version':
        print(f'tljax {__version__}')
        return 0
    name = argv[0].replace('_', '-')
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f'did you mean tljax {near[0]}?' if near else f'wanted one of {", ".join(COMMANDS)}'
        print(f'error: unknown command {argv[0]!r}; {hint}', file=sys.stderr)
        return 2
    return module(name).main(argv[1:])


def _help() -> str:
    lines = [f'  {name:<12}{text}' for name, text in COMMANDS.items()]
    return '\n'.join(
        [
            'tljax: transfer learning in JAX',
            '',
            'tljax COMMAND [RUN or DIR] [--config=NAME_OR_FILE] [--config.FIELD=VALUE]',
            '',
            *lines,
            '',
            'tljax COMMAND --help prints the arguments of a command, tljax --version the version.',
        ]
    )


if __name__ == '__main__':
    sys.exit(main())
