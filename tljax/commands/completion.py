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
    """Of the words of the command."""
    line = command_line.Parser('completion', __doc__)
    line.add_argument('shell', metavar='bash|zsh|fish', choices=sorted(SCRIPTS))
    return line


def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    return exit.ended(parser(), _run, words)


def _run(given: argparse.Namespace) -> None:
    print(SCRIPTS[given.shell](), end='')


def flags() -> dict[str, list[str]]:
    """The flags of each command; those that take a value end with `=`."""
    from tljax.config.experiment import Experiment

    fields = [f'--config.{field.name}=' for field in dataclasses.fields(Experiment)]
    found = {}
    for name in names.COMMANDS:
        line = names.module(name).parser()
        switches = line.switches()
        own = [flag if flag in switches else f'{flag}=' for flag in line.flags()]
        own += ['--config='] if line.takes_config else []
        found[name] = sorted([*own, *(fields if line.takes_fields else []), '--help'])
    return found


BASH = """\
# Completion of tljax for bash.
_tljax() {{
  local line=${{COMP_LINE:0:COMP_POINT}} word flags
  word=${{line##*[[:space:]]}}  # whole: bash takes = for the end of a word
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
    cases = [f"    {name}) flags='{' '.join(found)}' ;;" for name, found in flags().items()]
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
    described = [f'"{name}:{what}"' for name, what in names.COMMANDS.items()]
    cases = [f'    {name}) flags=({" ".join(found)}) ;;' for name, found in flags().items()]
    return ZSH.format(
        commands=' '.join(described),
        cases='\n'.join(cases),
        configs=' '.join(config_files.shipped()),
    )


def fish() -> str:
    """The script for fish."""
    lines = ['# Completion of tljax for fish.']
    lines += [
        f'complete -c tljax -f -n __fish_use_subcommand -a {name} -d "{what}"'
        for name, what in names.COMMANDS.items()
    ]
    for name, found in flags().items():
        seen = f"-n '__fish_seen_subcommand_from {name}'"
        for flag in found:
            wants = ' -r' if flag.endswith('=') else ''
            if flag == '--config=':
                wants = f" -r -a '{' '.join(config_files.shipped())}'"
            lines.append(f'complete -c tljax {seen} -l {flag.strip("-=")}{wants}')
    return '\n'.join(lines) + '\n'


SCRIPTS = {'bash': bash, 'zsh': zsh, 'fish': fish}
