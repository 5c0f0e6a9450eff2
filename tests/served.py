"""A run on coloured images in folders, to evaluate and to predict with."""

import pathlib

import numpy as np
from PIL import Image

from tests.small_runs import experiment
from tljax.data.folder import Folder
from tljax.training.run import train
from tljax.types import Preprocessing

COLORS = {'blue': 2, 'green': 1, 'red': 0}
COUNTS = {'train': 12, 'val': 4, 'test': 7}  # of each class
SHOWN = Preprocessing(size_px=8, resize_px=10)


def draw(path: pathlib.Path, color: str, rng: np.random.Generator) -> None:
    """An image of noise that is a little brighter in its own color."""
    pixels = rng.integers(0, 200, (12, 17, 3))
    pixels[..., COLORS[color]] += 25
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def make(root: pathlib.Path, **changes) -> pathlib.Path:
    """Draws `data` below a folder and trains `run` on it; returns the workdir."""
    rng = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for color in COLORS:
            for i in range(count):
                draw(root / 'data' / split / color / f'{i}.png', color, rng)
    usual = {'data': Folder(path=str(root / 'data')), 'epochs': 4.0, 'preprocessing': SHOWN}
    train(experiment(**{**usual, **changes}), root / 'run', show_model=False)
    return root / 'run'
