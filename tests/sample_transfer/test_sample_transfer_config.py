"""configs/sample_transfer.py as a user runs it, cut short."""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
SHORT = (
    '--config.epochs=2', '--config.samples.until_epochs=2', '--config.samples.trial_steps=2',
    '--config.evaluate_every_epochs=2',
)  # fmt: skip


def test_digits_beside_printed_ones_run_and_show_their_table(tmp_path):
    command = [sys.executable, '-m', 'tljax.main', '--config=configs/sample_transfer.py', *SHORT]
    environment = {name: value for name, value in os.environ.items() if name != 'XLA_FLAGS'}
    done = subprocess.run(
        [*command, f'--workdir={tmp_path}'], cwd=ROOT, env=environment, capture_output=True,
        text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output = ' '.join(done.stdout.split())
    samples, guard = '30 of 1,000 images in each batch', '3 pairs of short runs of 2 of 2 steps'
    for text in (samples, guard, 'no source', 'gain'):
        assert text in output
    record = json.loads((tmp_path / 'source.json').read_text())
    assert record['trial']['count'] == 50  # all labelled images, in turns
    rows = json.loads((tmp_path / 'source_gain.json').read_text())
    assert {row['class'] for row in rows} == set('0123456789')
    assert (tmp_path / 'source_sheet.png').exists()


def test_the_code_of_the_page_makes_sources_that_find_nothing_wrong_with_themselves():
    text = (ROOT / 'docs/sample_transfer.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    assert blocks
    for block in blocks:
        lines = [line for line in block.splitlines() if line and not line.startswith('import ')]
        scope = {}
        exec('\n'.join(line for line in block.splitlines() if line.startswith('import ')), scope)
        for line in lines:
            assert eval(line, scope).problems() == []
