"""Prints a script that completes command lines in a shell: commands, flags, configs, files.

tljax completion bash > ~/.local/share/bash-completion/completions/tljax
tljax completion zsh > ~/.zfunc/_tljax     (with fpath+=~/.zfunc before compinit in ~/.zshrc)
tljax completion fish > ~/.config/fish/completions/tljax.fish

bash|zsh|fish               the shell

Exit codes: 0 success, 2 the input cannot be used.
"""

import argparse
import dataclasses
from collections.abc import Sequence

from tljax.commands import command_line, config_files, exit, names


def parser() -> command_line.Parser:
    """The parser of the command line."""
    result = command_line.Parser('completion', __doc__)
    result.add_argument('shell', metavar='bash|zsh|fish', choices=sorted(SCRIPTS))
    return result


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.run(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    print(SCRIPTS[arguments.shell](), end='')


def command_flags() -> dict[str, list[str]]:
    """The flags of each command; those that take a value end with `=`."""
    from tljax.config.experiment import Experiment

    fields = [f'--config.{field.name}=' for field in dataclasses.fields(Experiment)]
    result = {}
    for name in names.COMMANDS:
        command = names.module(name).parser()
        switches = command.switches()
        flags = [flag if flag in switches else f'{flag}=' for flag in command.flags()]
        flags += ['--config='] if command.takes_config else []
        result[name] = sorted([*flags, *(fields if command.takes_fields else []), '--help'])
    return result


BASH = """\
# Completion of tljax for bash.
_tljax() {{
  local line=${{COMP_LINE:0:COMP_POINT}} word flags
  word=${{line##*[[:space:]]}}  # COMP_WORDS splits words at =
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W '{commands} --help --version' -- "$word"))
    return
  fi
  case ${{COMP_WORDS[1]}} in
{cases}
  esac
  case $word in
    --config=*)
      COMPREPLY=($(compgen -W '{configs}' -- "${{word#*=}}") $(compgen -f -- "${{word#*=}}"))
      compopt -o filenames ;;
    --*=*) COMPREPLY=($(compgen -f -- "${{word#*=}}")); compopt -o filenames ;;
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word"))
      [[ ${{COMPREPLY[0]}} == *= ]] && compopt -o nospace ;;
    *) COMPREPLY=($(compgen -f -- "$word")); compopt -o filenames ;;
  esac
}}
complete -F _tljax tljax
"""


def bash() -> str:
    """The script for bash."""
    cases = [f"    {name}) flags='{' '.join(flags)}' ;;" for name, flags in command_flags().items()]
    return BASH.format(
        commands=' '.join(names.COMMANDS),
        cases='\n'.join(cases),
        configs=' '.join(config_files.shipped()),
    )


ZSH = """\
#compdef tljax
# Completion of tljax for zsh.
_tljax() {{
  local -a commands flags configs
  configs=({configs})
  if ((CURRENT == 2)); then
    commands=({commands})
    _describe command commands
    return
  fi
  case $words[2] in
{cases}
  esac
  if [[ $PREFIX == --config=* ]]; then
    compset -P '--config='
    compadd -a configs
    _files
  elif [[ $PREFIX == --*=* ]]; then
    compset -P '*='
    _files
  elif [[ $PREFIX == -* ]]; then
    compadd -S '' -- ${{(M)flags:#*=}}
    compadd -- ${{flags:#*=}}
  else
    _files
  fi
}}
if [[ $funcstack[1] == _tljax ]]; then _tljax "$@"; else compdef _tljax tljax; fi
"""


def zsh() -> str:
    """The script for zsh."""
    descriptions = [f'"{name}:{text}"' for name, text in names.COMMANDS.items()]
    cases = [f'    {name}) flags=({" ".join(flags)}) ;;' for name, flags in command_flags().items()]
    return ZSH.format(
        commands=' '.join(descriptions),
        cases='\n'.join(cases),
        configs=' '.join(config_files.shipped()),
    )


def fish() -> str:
    """The script for fish."""
    lines = ['# Completion of tljax for fish.']
    lines += [
        f'complete -c tljax -f -n __fish_use_subcommand -a {name} -d "{text}"'
        for name, text in names.COMMANDS.items()
    ]
    for name, flags in command_flags().items():
        condition = f"-n '__fish_seen_subcommand_from {name}'"
        for flag in flags:
            argument = ' -r' if flag.endswith('=') else ''
            if flag == '--config=':
                argument = f" -r -a '{' '.join(config_files.shipped())}'"
            lines.append(f'complete -c tljax {condition} -l {flag.strip("-=")}{argument}')
    return '\n'.join(lines) + '\n'


SCRIPTS = {'bash': bash, 'zsh': zsh, 'fish': fish}
