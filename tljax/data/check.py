"""A full check of image files: damage, duplicates, and a contact sheet."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
from PIL import Image, ImageDraw, ImageFont

from tljax.data import decode, files, jpeg
from tljax.data.files import Label, Listed
from tljax.types import Preprocessing

THUMB_PX = 96
NEAR_BITS = 6  # largest difference of the 64-bit hashes of near duplicates
NEAR_LEVELS = 8.0  # largest mean difference of their small gray images
GRAY_PX = 32
FLAT_LEVELS = 2.0  # an image with a smaller standard deviation has no hash
BANDS = 8  # bytes of a hash; hashes that differ in 6 bits have at least two equal bytes
NO_LABEL = '(no label)'
CAPTION_PX, FONT_PX, SHEET_COLUMNS, SHEET_ROWS = 24, 15, 10, 40


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedImage:
    """The results of checking one file."""

    path: pathlib.Path
    split: str
    label: Label
    problem: str | None = None
    suffix_note: str | None = None  # for a readable file whose format differs from its suffix
    sha256: str = ''
    hash: int | None = None  # None for an image of one gray level
    gray: np.ndarray | None = None  # [16, 16] uint8

    def __str__(self) -> str:
        return files.printable(self.path)

    def labels(self) -> tuple[int, ...]:
        """All labels of the image."""
        return self.label if isinstance(self.label, tuple) else (self.label,)


def check_images(listed: Mapping[str, Sequence[Listed]], least_px: int) -> Iterator[CheckedImage]:
    """Reads and decodes every file completely, in order.

    Args:
        listed: the files of each split with their labels.
        least_px: the smallest permitted length of each side.
    """
    jobs = [(path, split, label) for split, part in listed.items() for path, label in part]
    with ThreadPoolExecutor(files.THREADS) as threads:
        yield from threads.map(lambda job: _check(job[0], job[1], job[2], least_px), jobs)


def _check(path: pathlib.Path, split: str, label: Label, least_px: int) -> CheckedImage:
    result = CheckedImage(path=path, split=split, label=label)
    problem = files.check_file(path, least_px)
    if problem is not None:
        return dataclasses.replace(result, problem=problem)
    try:
        data = path.read_bytes()
        image = decode.decode(data, path, gray_range='own')
    except (decode.ImageError, OSError) as error:
        return dataclasses.replace(result, problem=files.reason(path, error))
    if (damage := jpeg.damage(data)) is not None:
        return dataclasses.replace(result, problem=damage)
    gray = np.asarray(
        Image.fromarray(image).convert('L').resize((GRAY_PX, GRAY_PX), Image.Resampling.BOX),
        np.float32,
    )
    return dataclasses.replace(
        result,
        suffix_note=_suffix_note(path, data),
        sha256=hashlib.sha256(data).hexdigest(),
        hash=perceptual_hash(gray),
        gray=gray.reshape(16, 2, 16, 2).mean((1, 3)).astype(np.uint8),
    )


def _suffix_note(path: pathlib.Path, data: bytes) -> str | None:
    kinds = {'jpg': 'JPEG', 'jpeg': 'JPEG', 'jfif': 'JPEG', 'tif': 'TIFF', 'jp2': 'JPEG2000'}
    kinds |= dict.fromkeys(('pbm', 'pgm', 'pnm'), 'PPM')
    suffix = path.suffix.lower().removeprefix('.')
    named = kinds.get(suffix, suffix.upper())
    actual = decode.format_of(data)
    actual = 'JPEG' if actual == 'MPO' else actual
    return None if actual == named else f'named {path.suffix} but a {actual}'


def perceptual_hash(gray: np.ndarray) -> int | None:
    """A 64-bit hash that hardly changes if an image is resized, recompressed or brightened.

    Source: Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    section 3.2.1: which of the lowest frequencies of a cosine transform are above their median.

    Args:
        gray: [32, 32].

    Returns:
        The bits as an integer; None for an image of one gray level.
    """
    if gray.std() < FLAT_LEVELS:
        return None
    low = np.asarray(scipy.fft.dctn(gray, norm='ortho'))[1:9, 1:9].ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), 'big')


def exact_duplicates(images: Sequence[CheckedImage]) -> list[list[CheckedImage]]:
    """Groups of files with the same bytes."""
    groups: dict[str, list[CheckedImage]] = {}
    for image in images:
        if image.sha256:
            groups.setdefault(image.sha256, []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def near_duplicates(images: Sequence[CheckedImage]) -> list[tuple[CheckedImage, CheckedImage]]:
    """Pairs of similar images in different splits, without exact duplicates.

    Only images whose hashes have an equal byte are compared, not all pairs. Pairs whose hashes
    differ in few bits are then compared as small gray images.
    """
    known = [image for image in images if image.hash is not None]
    hashes = np.array([one.hash for one in known], np.uint64)
    splits = np.unique([one.split for one in known], return_inverse=True)[1]
    pairs: set[tuple[int, int]] = set()
    for band in range(BANDS):
        keys = (hashes >> np.uint64(8 * band)) & np.uint64(255)
        for key in np.unique(keys):
            pairs.update(_close(np.flatnonzero(keys == key), hashes, splits))
    candidates = [(known[i], known[j]) for i, j in sorted(pairs)]
    return [(a, b) for a, b in candidates if a.sha256 != b.sha256 and _look_alike(a, b)]


def _close(
    members: np.ndarray, hashes: np.ndarray, splits: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Pairs of members from different splits whose hashes differ in few bits."""
    for position, i in enumerate(members):
        others = members[position + 1 :]
        others = others[splits[others] != splits[i]]
        near = np.bitwise_count(hashes[others] ^ hashes[i]) <= NEAR_BITS
        yield from ((int(i), int(j)) for j in others[near])


def _look_alike(a: CheckedImage, b: CheckedImage) -> bool:
    """Whether two small gray images are similar, apart from their brightness."""
    grays = [np.asarray(x.gray, np.float32) for x in (a, b)]
    one, other = (gray - gray.mean() for gray in grays)
    return float(np.abs(one - other).mean()) < NEAR_LEVELS


def contact_sheet(images: Sequence[CheckedImage], class_names: Sequence[str]) -> Image.Image:
    """Draws a row of sample images for each class, evenly spaced in the order of its files.

    Images without a label have the last row.
    """
    font = ImageFont.load_default(FONT_PX)
    good = [image for image in images if image.problem is None]
    names = [*class_names, *([] if all(image.labels() for image in good) else [NO_LABEL])]
    rows = min(len(names), SHEET_ROWS)
    height = THUMB_PX + CAPTION_PX + 4
    sheet = Image.new('RGB', (SHEET_COLUMNS * (THUMB_PX + 2), rows * height), 'white')
    draw = ImageDraw.Draw(sheet)
    for row in range(rows):
        members = [image for image in good if row in (image.labels() or [len(class_names)])]
        draw.text((2, row * height + 4), f'{names[row]}: {len(members)} images', 'black', font)
        chosen = np.unique(np.linspace(0, len(members) - 1, SHEET_COLUMNS).astype(int))
        for column, index in enumerate(chosen if members else ()):
            corner = (column * (THUMB_PX + 2), row * height + CAPTION_PX)
            sheet.paste(_thumbnail(members[index].path), corner)
    return sheet


def _thumbnail(path: pathlib.Path) -> Image.Image:
    preprocessing = Preprocessing(size_px=THUMB_PX, resize_px=THUMB_PX)
    image = decode.decode(path.read_bytes(), path, 2 * THUMB_PX, 'own')
    return Image.fromarray(decode.resize_square(image, preprocessing))
