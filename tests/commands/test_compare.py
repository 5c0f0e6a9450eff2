"""`tljax compare`: its output and its errors; test_paired_runs.py has the numbers."""

import shutil

import pytest

from tljax.commands import compare


@pytest.fixture
def copied(served_run, tmp_path):
    """A copy of a run, as another run."""
    return shutil.copytree(served_run, tmp_path / 'copied')


def test_a_table_is_printed_and_written(served_run, copied, tmp_path, capsys):
    out = tmp_path / 'table.md'
    assert compare.main([str(served_run), str(copied), f'--out={out}']) == 0
    printed = capsys.readouterr().out
    assert 'not distinguishable' in printed
    assert '+0.0' in printed
    assert str(out) in printed
    assert out.read_text().startswith('| run | seeds |')
    assert max(map(len, printed.splitlines()[:4])) <= 120


def test_the_baseline_may_be_another_run(served_run, copied, capsys):
    assert compare.main([str(served_run), f'--baseline={copied}', '--split=val']) == 0
    assert 'Differences from copied' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--out=x.html'], 'x.html: wanted a name that ends in .md, .tex, .csv, .json'),
        (['--out=/nowhere/x.md'], 'there is no folder /nowhere'),
        (['--split=train'], 'train'),
        (['--difference=-1'], '-1: wanted 0 or more'),
        (['--baseline=nothing'], 'nothing holds no run'),
    ],
)
def test_unusable_arguments_end_in_a_line(flags, message, served_run, copied, capsys):
    assert compare.main([str(served_run), str(copied), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
