"""configs/sample_transfer.py as a user runs it with few steps, and the code of its page."""

import json
import pathlib
import re

import pytest

from tljax.commands import train

ROOT = pathlib.Path(__file__).parents[2]
SHORT = (
    '--config=configs/sample_transfer.py', '--config.epochs=2', '--config.samples.until_epochs=2',
    '--config.samples.trial_steps=2',
    '--config.samples.data.train_per_class=20', '--config.evaluate_every_epochs=2',
    '--config.batch_size=32',
)  # fmt: skip
# A network that compiles in less time than the config's own, and no page about the run.
SMALL = (
    '--config.backbone=ViT(width=16, depth=1, patch_px=8, size_px=16, head_width=8)',
    '--config.report=False',
)


@pytest.mark.slow
@pytest.mark.parametrize('network', [SMALL, ()], ids=['small', 'own'])
def test_the_config_runs_and_shows_the_gain_from_samples(network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert train.main([*SHORT, *network, f'--workdir={tmp_path}']) == 0
    output = ' '.join(capsys.readouterr().out.split())
    samples, guard = '32 of 200 images in each batch', '3 pairs of short runs of 2 of 2 steps'
    for text in (samples, guard, 'no source', 'gain'):
        assert text in output
    record = json.loads((tmp_path / 'source.json').read_text())
    assert record['trial']['count'] == 50  # all labelled images, in turns
    rows = json.loads((tmp_path / 'source_gain.json').read_text())
    assert {row['class'] for row in rows} == set('0123456789')
    assert (tmp_path / 'source_sheet.png').exists()


def test_the_code_of_the_page_makes_samples_without_problems():
    text = (ROOT / 'docs/sample_transfer.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    assert blocks
    for block in blocks:
        lines = [line for line in block.splitlines() if line and not line.startswith('import ')]
        scope = {}
        exec('\n'.join(line for line in block.splitlines() if line.startswith('import ')), scope)
        for line in lines:
            assert eval(line, scope).problems() == []
