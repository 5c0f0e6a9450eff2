"""What docs/features.md shows runs, one block after the other, with a small network."""

import pathlib
import re

import jax
import numpy as np

import tljax
from tljax import tree
from tljax.data.synthetic import Synthetic
from tljax.models import stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.weights import loading

TEXT = (pathlib.Path(__file__).parents[2] / 'docs/features.md').read_text()


def test_the_code_of_the_page_runs(monkeypatch, tmp_path):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path))
    model = stages.build(ResNetSmall(), 10)
    params, stats = stages.init(model, jax.random.key(0))
    small = tree.flatten({'params': jax.tree.map(np.asarray, params), 'batch_stats': stats})
    real = loading.load
    monkeypatch.setattr(loading, 'load', lambda source, backbone, **_: real(small, backbone))
    source = Synthetic(num_classes=10, train_per_class=6, test_per_class=3, size_px=32).splits()
    scope = {
        'examples': source['train'],
        'others': source['test'],
        'cuts': ['stage2', 'head'],
        'tljax': tljax,
    }
    for block in re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL):
        block = block.replace("'stage4'", "'stage1'").replace('224', '32')
        exec(compile(block, 'docs/features.md', 'exec'), scope)
    assert scope['pooled'].values.shape == (60, 1, 64)
    assert scope['several'].values.shape == (60, 3, 64)
    assert scope['votes'].shape == (3, 30, 10)
    assert scope['accuracy'].shape == (4, 3, 2, 2)
