"""The page of the options of every command, from its own `--help`."""

from tljax.commands import names

INTRODUCTION = """# Options of every command

What `tljax COMMAND --help` prints. [commands.md](../commands.md) explains the grammar that all
commands share.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION]
    for name in names.COMMANDS:
        parts.append(f'## tljax {name}\n\n```text\n{names.module(name).parser().text}\n```\n')
    return '\n'.join(parts)
