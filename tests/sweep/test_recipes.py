"""The recipes for other engines in docs/sweeps_launchers.md run every cell of a sweep."""

import io
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest
import yaml

from tests import small_runs
from tljax.sweep import listing, run
from tljax.sweep.space import Seeds

PAGE = (pathlib.Path(__file__).parents[2] / 'docs/sweeps_launchers.md').read_text()
# Stands for the interpreter of the commands: writes the result of a cell at once.
PYTHON = """#!/bin/sh
for argument in "$@"; do
  case "$argument" in --workdir=*) folder="${argument#--workdir=}";; esac
done
mkdir -p "$folder"
echo '{}' > "$folder/result.json"
"""
# Stands for GNU parallel where it is not installed.
PARALLEL = """#!/bin/sh
while IFS= read -r line; do sh -c "$line"; done
"""


def blocks(language, word):
    """The blocks of a language on the page that have a word."""
    found = re.findall(rf'```{language}\n(.*?)```', PAGE, re.DOTALL)
    return [block for block in found if word in block]


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """The folder of a sweep of five cells with a space in its path, and its commands."""
    folder = tmp_path / 'a sweep'
    options = run.Options(workdir=folder)
    lines = io.StringIO()
    listing.print_commands(small_runs.experiment(), Seeds(5), options, lines)
    (folder / 'commands.jsonl').write_text(lines.getvalue())
    programs = tmp_path / 'bin'
    programs.mkdir()
    stubs = {'python': PYTHON}
    if not shutil.which('parallel'):
        stubs['parallel'] = PARALLEL
    for name, text in stubs.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{programs}:{os.environ["PATH"]}')
    shell(folder, *blocks('bash', 'json.loads'))
    return folder


def shell(folder, command, **environment):
    """Runs a block of the page in the folder of the sweep."""
    subprocess.run(['sh', '-c', command], cwd=folder, env={**os.environ, **environment}, check=True)


def done(folder):
    """The number of cells with a result."""
    return len(list(folder.glob('cells/*/result.json')))


def test_a_printed_line_has_the_command_of_its_cell(sweep):
    lines = [json.loads(line) for line in (sweep / 'commands.jsonl').read_text().splitlines()]
    assert [line['command'] for line in lines] == (sweep / 'commands.txt').read_text().splitlines()
    assert all(line['argv'][-1].endswith(line['cell']) for line in lines)


def test_xargs(sweep):
    shell(sweep, *blocks('bash', 'xargs -0'))
    assert done(sweep) == 5


def test_gnu_parallel(sweep):
    shell(sweep, *blocks('bash', 'parallel --jobs'))
    assert done(sweep) == 5


def test_a_pod_of_an_indexed_job_runs_the_line_of_its_index(sweep):
    (text,) = blocks('yaml', 'kind: Job')
    spec = yaml.safe_load(text)['spec']
    (container,) = spec['template']['spec']['containers']
    command = container['command'][-1].replace('/shared/ablation', '.')
    for index in range(5):
        shell(sweep, command, JOB_COMPLETION_INDEX=str(index))
        assert done(sweep) == index + 1
    assert spec['podFailurePolicy']['rules'][1]['onExitCodes']['values'] == [75]


def test_a_job_of_skypilot_runs_the_line_of_its_cell(sweep):
    (text,) = blocks('yaml', 'use_spot')
    command = yaml.safe_load(text)['run'].replace('/shared/ablation', '.')
    for cell in range(1, 6):
        shell(sweep, command, CELL=str(cell))
        assert done(sweep) == cell
