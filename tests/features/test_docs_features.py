"""The code blocks of docs/features.md run, with a small network and few images."""

import pathlib
import re

import jax
import numpy as np
import pytest

import tljax
from tljax import tree
from tljax.data.synthetic import Synthetic
from tljax.models import stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.weights import loading

TEXT = (pathlib.Path(__file__).parents[2] / 'docs/features.md').read_text()
# The last stage and one epoch keep the grid of suffixes short: on the CPU its steps are no loop.
SMALLER = {"'stage4'": "'stage3'", '224': '32', "'epochs': 10": "'epochs': 1"}
SHALLOW = ResNetSmall(depth=8)  # one block in each stage
FEATURES = {'pooled': (60, 1, 64), 'maps': (60, 1, 16, 16, 32), 'several': (60, 3, 64)}
ALL = {**FEATURES, 'accuracies': (3,), 'accuracy': (4, 3, 2, 2)}


@pytest.mark.parametrize(
    ('end', 'shapes'),
    [('\n## In training', FEATURES), pytest.param('\n## Speed', ALL, marks=pytest.mark.slow)],
    ids=['features', 'whole page'],
)
def test_the_code_of_the_page_runs(end, shapes, monkeypatch, tmp_path):
    monkeypatch.setenv('TLJAX_CACHE', str(tmp_path))
    model = stages.build(SHALLOW, 10)
    params, stats = stages.init(model, jax.random.key(0))
    values = tree.flatten({'params': jax.tree.map(np.asarray, params), 'batch_stats': stats})
    load = loading.load
    monkeypatch.setattr(loading, 'load', lambda source, backbone, **_: load(values, SHALLOW))
    splits = Synthetic(num_classes=10, train_per_class=6, test_per_class=3, size_px=32).splits()
    scope = {
        'examples': splits['train'],
        'others': splits['test'],
        'cuts': ['stage2', 'head'],
        'tljax': tljax,
    }
    for block in re.findall(r'```python\n(.*?)```', TEXT[: TEXT.index(end)], re.DOTALL):
        for text, smaller in SMALLER.items():
            block = block.replace(text, smaller)
        exec(compile(block, 'docs/features.md', 'exec'), scope)
    for name, shape in shapes.items():
        assert getattr(scope[name], 'values', scope[name]).shape == shape
