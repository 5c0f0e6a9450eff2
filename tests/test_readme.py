"""What the README says can be done can be done."""

import importlib.util
import pathlib
import re
import shlex

import jax
import numpy as np
import pytest
from PIL import Image

import tljax
from tljax import tree
from tljax.commands import command_line, config_files, names, overrides
from tljax.config import validation
from tljax.models import stages
from tljax.models.backbones.resnet_small import ResNetSmall
from tljax.models.backbones.vit import ViT
from tljax.strategies import partition
from tljax.sweep import cells
from tljax.weights import loading

ROOT = pathlib.Path(__file__).parents[1]
DOCS = ROOT / 'docs'
TEXTS = [ROOT / 'README.md', *sorted([*DOCS.glob('*.md'), *DOCS.glob('notebooks/*.md')])]


def blocks(path: pathlib.Path, language: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', path.read_text(), re.DOTALL)


def commands() -> list[str]:
    """Every `tljax ...` and `python -m ...` in a fenced block or in backticks of the texts."""
    found = []
    for path in TEXTS:
        whole = [block.replace('\\\n', ' ') for block in blocks(path, 'bash')]
        lines = [line.partition(' > ')[0] for block in whole for line in block.splitlines()]
        lines += re.findall(r'`((?:tljax|python -m) [^`]+)`', path.read_text())
        lines += re.findall(r'^!(.*)$', path.read_text(), re.MULTILINE)  # of a notebook
        parts = [part.strip() for line in lines for part in line.split(' && ')]
        found += [part for part in parts if re.search(r'^tljax | tljax | -m ', part)]
    found = [line.replace('python3 ', 'python ') for line in found]
    # Behind `scripts/launch/run_again.sh` or `docker run`, and as a module.
    found = [re.sub(r'^(?!tljax ).*\s(?=tljax )', '', line) for line in found]
    return sorted({line for line in found if 'COMMAND' not in line})


def configs() -> dict[str, str]:
    """The config files that the texts tell the reader to save, with their content."""
    saved = r'ave this as `(\w+\.py)`:\n\n```python\n(.*?)```'
    return dict(pair for path in TEXTS for pair in re.findall(saved, path.read_text(), re.DOTALL))


@pytest.mark.parametrize('command', commands())
def test_every_command_exists_and_takes_its_words(command, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for name, content in configs().items():
        (tmp_path / name).write_text(content)
        command = command.replace(f'--config={name}', f'--config={tmp_path / name}')
    words = shlex.split(command, comments=True)
    if words[0] != 'tljax':
        module = words[words.index('-m') + 1]
        assert importlib.util.find_spec(module), module
        if module != 'tljax.main':
            return
        words[: words.index('-m') + 2] = ['tljax', 'train']
    if words[1:] == ['--help']:
        return
    line = names.module(words[1]).parser()
    if words[2:] in ([], ['--help']):
        return
    if line.takes_fields and '--config' not in command:
        words.append('--config=quickstart')
    given = line.read(words[2:])
    if line.takes_fields and not re.search(r'\.json$|^advice/', given.config.spec or ''):
        loaded, _ = config_files.load(given.config)
        overrides.apply(loaded, given.config.overrides)
        validation.validate(loaded)


def test_the_tree_names_files_that_exist():
    (tree,) = (block for block in blocks(ROOT / 'README.md', 'text') if 'tljax/\n' in block)
    for line in tree.splitlines():
        if line.startswith(' ' * 8):
            continue  # more of what the line above says
        name = line.split()[0].rstrip('/')
        assert (ROOT / name).exists() or (ROOT / 'tljax' / name).exists(), name


def test_the_two_commands_stand_first():
    """The installation that .ci/run takes from the README is the one it promises."""
    lines = [line for block in blocks(ROOT / 'README.md', 'bash') for line in block.splitlines()]
    assert lines[:2] == [
        'python3 -m pip install -e . && python3 -m tljax.main --config=configs/quickstart.py',
        "python3 -m pip install -e '.[test]' && python3 -m pytest",
    ]


@pytest.fixture(scope='module')
def small():
    """The values of a small network."""
    model = stages.build(ViT(width=64, depth=3, size_px=32), 10)
    params, stats = stages.init(model, jax.random.key(0))
    return tree.flatten({'params': jax.tree.map(np.asarray, params), 'batch_stats': stats})


@pytest.mark.parametrize(
    'path',
    [
        ROOT / 'README.md',
        pytest.param(ROOT / 'docs/weights.md', marks=pytest.mark.slow),
        pytest.param(ROOT / 'docs/evaluate.md', marks=pytest.mark.slow),
    ],
    ids=lambda path: path.name,
)
def test_what_is_shown_in_python_runs(path, small, monkeypatch, tmp_path):
    """With a small network in the place of every one that is named."""
    real = loading.load
    monkeypatch.setattr(loading, 'load', lambda source, backbone, **_: real(small, backbone))
    x = np.zeros((2, 32, 32, 3), np.float32)
    scope = {'tljax': tljax, 'images': [np.zeros((40, 50, 3), np.uint8)], 'x': x}
    shown = [block for block in blocks(path, 'python') if 'tljax.load' in block]
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"'(\w+\.(?:jpg|png))'", ''.join(shown)):
        Image.fromarray(scope['images'][0]).save(name)
    assert shown
    for block in shown:
        exec(re.sub(r"'(stage|block)\d'", "'block3'", block), scope)


def test_the_strategy_it_shows_trains_what_it_says():
    (source,) = (
        block for block in blocks(ROOT / 'docs/adding.md', 'python') if 'HeadThenBiases' in block
    )
    scope: dict = {}
    exec('import dataclasses\nfrom tljax.types import Phase, Rule\n' + source, scope)
    model = stages.build(ResNetSmall(), 10)
    params = stages.ordered(model, stages.shapes(model)[0])
    first, second = (
        partition.assign(params, phase.rules) for phase in scope['HeadThenBiases']().phases(params)
    )
    for labels in (first, second):
        assert labels['head']['linear']['kernel'] == partition.TRAINED
        assert labels['stage1']['block1']['bn1']['scale'] == partition.FROZEN
    assert first['stage1']['block1']['bn1']['bias'] == partition.FROZEN
    assert second['stage1']['block1']['bn1']['bias'] == 'learning rate × 0.1'


def test_the_sweep_of_the_tutorial_has_the_cells_it_counts(tmp_path):
    path = tmp_path / 'ablation.py'
    path.write_text(configs()['ablation.py'])
    arguments = command_line.ConfigArguments(spec=str(path))
    experiment, part, _ = config_files.sweep(arguments, None)
    count = len(cells.expand(part, experiment))
    assert f'= {count} cells' in (ROOT / 'docs/sweeps.md').read_text()
