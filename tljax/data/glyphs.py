"""Computed images: printed characters, distorted to resemble handwriting."""

import dataclasses
import functools
import pathlib
import string
from collections.abc import Mapping

import numpy as np
import scipy.ndimage
from PIL import Image, ImageDraw, ImageFont

from tljax.types import Examples

KNOWN = string.digits + string.ascii_letters
DRAWN_PX = 32  # side of the image on which characters are drawn and distorted


@dataclasses.dataclass(slots=True, kw_only=True)
class Glyphs:
    """Characters of a font, with random distortion, stroke width and noise.

    They are white on black and reduced to `size_px`; at 8 px they are as coarse as `Digits`. An
    image depends only on the seed and its id. Each character is a class.

    Attributes:
        characters: the classes.
        font: a TrueType file of any script; none for Pillow's font.
        train_per_class: training images of each class.
        test_per_class: test images of each class.
        size_px: side of an image; a divisor of 32.
        bend: strength of the distortion; 0 for undistorted print.
        noise_levels: standard deviation of the noise, of 255.
        seed: seed of distortion and noise.
    """

    characters: str = string.digits
    font: str | None = None  # a TrueType file of any script; None for Pillow's font
    train_per_class: int = 200
    test_per_class: int = 20
    size_px: int = 8
    bend: float = 1.0
    noise_levels: float = 12.0
    seed: int = 0

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        problems = []
        unknown = set(self.characters) - set(KNOWN) if self.font is None else set()
        if unknown or len(set(self.characters)) < max(2, len(self.characters)):
            problems.append(
                f'characters is {self.characters!r}, wanted two or more '
                f'{"characters" if self.font else "digits and Latin letters"}, each once'
            )
        if self.font is not None and not pathlib.Path(self.font).is_file():
            problems.append(f'font is {self.font}, wanted a TrueType file')
        for name in ('train_per_class', 'test_per_class'):
            if getattr(self, name) < 1:
                problems.append(f'{name} is {getattr(self, name)}, wanted at least 1')
        if self.size_px < 1 or DRAWN_PX % self.size_px:
            problems.append(f'size_px is {self.size_px}, wanted a divisor of {DRAWN_PX}')
        for name in ('bend', 'noise_levels', 'seed'):
            if not 0 <= getattr(self, name) < float('inf'):
                problems.append(f'{name} is {getattr(self, name)}, wanted 0 or more')
        return problems

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`."""
        classes = len(self.characters)
        train, test = classes * self.train_per_class, classes * self.test_per_class
        return {'train': self._examples(0, train), 'test': self._examples(train, test)}

    def _examples(self, first_id: int, count: int) -> Examples:
        ids = first_id + np.arange(count)
        image = functools.lru_cache(maxsize=count)(self._image)  # drawing takes more than 1 ms
        return Examples(
            load=lambda i: image(first_id + int(i)),
            labels=(ids % len(self.characters)).astype(np.int32),
            ids=ids,
            class_names=tuple(self.characters),
        )

    def _image(self, example_id: int) -> np.ndarray:
        """[size_px, size_px, 3] uint8."""
        rng = np.random.default_rng([self.seed, example_id])
        image = printed(self.characters[example_id % len(self.characters)], self.font)
        image = _thickened(_distorted(image, rng, self.bend), rng, self.bend)
        block = DRAWN_PX // self.size_px
        image = image.reshape(self.size_px, block, self.size_px, block).mean((1, 3))
        image = image * rng.uniform(0.7, 1.6) + rng.normal(0, self.noise_levels, image.shape)
        return np.repeat(np.clip(np.round(image), 0, 255).astype(np.uint8)[..., None], 3, -1)


@functools.lru_cache(maxsize=len(KNOWN))
def printed(character: str, path: str | None = None) -> np.ndarray:
    """Draws a character that fills most of the image: [DRAWN_PX, DRAWN_PX] float32 in [0, 255]."""
    font = ImageFont.truetype(path, 96) if path else ImageFont.load_default(96)
    left, top, right, bottom = font.getbbox(character)
    image = Image.new('L', (int(right - left), int(bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), character, fill=255, font=font)
    scale = 0.8 * DRAWN_PX / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    square = Image.new('L', (DRAWN_PX, DRAWN_PX))
    corner = ((DRAWN_PX - width) // 2, (DRAWN_PX - height) // 2)
    square.paste(image.resize((width, height), Image.Resampling.LANCZOS), corner)
    return np.asarray(square, np.float32)


def _distorted(image: np.ndarray, rng: np.random.Generator, bend: float) -> np.ndarray:
    """Applies a random affine map of up to 20 degrees and a smooth displacement of about 1.5 px."""
    turn, shear = np.radians(20) * bend * rng.uniform(-1, 1, 2)
    sides = 1.3 ** (bend * rng.uniform(-1, 1, 2))
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = matrix @ np.array([[1, 0], [np.tan(shear), 1]]) / sides
    middle = (DRAWN_PX - 1) / 2
    grid = np.indices((DRAWN_PX, DRAWN_PX)).reshape(2, -1) - middle
    shift = 0.08 * DRAWN_PX * bend * rng.uniform(-1, 1, (2, 1))
    coarse = 1.5 * bend * rng.normal(size=(2, 4, 4))
    field = np.asarray(scipy.ndimage.zoom(coarse, (1, DRAWN_PX // 4, DRAWN_PX // 4), order=3))
    positions = matrix @ grid + middle + shift + field.reshape(2, -1)
    return scipy.ndimage.map_coordinates(image, positions, order=1).reshape(image.shape)


def _thickened(image: np.ndarray, rng: np.random.Generator, bend: float) -> np.ndarray:
    """Thickens strokes by up to 1.6 px."""
    thick = scipy.ndimage.grey_dilation(image, 3)
    thicker = scipy.ndimage.grey_dilation(thick, 3)
    amount = 1.6 * bend * rng.uniform()
    result = image + np.clip(amount, 0, 1) * (thick - image)
    return result + np.clip(amount - 1, 0, 1) * (thicker - thick)
