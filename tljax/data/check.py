"""A thorough look at image files: damage, counts, duplicates, and a sheet of samples."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.fft
from PIL import Image, ImageDraw, ImageFont

from tljax.data import decode, files
from tljax.data.files import Label, Listed
from tljax.types import Preprocessing

THUMB_PX = 96
NEAR_BITS = 6  # of 64 that differ at the most between near-duplicates
NEAR_LEVELS = 8.0  # mean difference of their small gray images at the most
GRAY_PX = 32
FLAT_LEVELS = 2.0  # standard deviation below which an image has nothing to be told by
BANDS = 8  # two hashes that differ in 6 of 64 bits agree in at least two of eight bytes
NO_LABEL = '(no label)'
CAPTION_PX, SHEET_COLUMNS, SHEET_ROWS = 16, 10, 40


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedImage:
    """What is kept of a file that was looked at."""

    path: pathlib.Path
    split: str
    label: Label
    problem: str | None = None
    suffix_note: str | None = None  # it is readable but not of the format that it is named for
    sha256: str = ''
    hash: int | None = None  # None for an image with nothing in it
    gray: np.ndarray | None = None  # [16, 16] uint8

    def __str__(self) -> str:
        return files.printable(self.path)

    def labels(self) -> tuple[int, ...]:
        """All of them."""
        return self.label if isinstance(self.label, tuple) else (self.label,)


def look_closely(listed: Mapping[str, Sequence[Listed]], least_px: int) -> Iterator[CheckedImage]:
    """Reads and decodes every file whole, in order.

    Args:
        listed: the files of each split with their labels.
        least_px: what each side has at least.
    """
    jobs = [(path, split, label) for split, part in listed.items() for path, label in part]
    with ThreadPoolExecutor(files.THREADS) as threads:
        yield from threads.map(lambda job: _look(job[0], job[1], job[2], least_px), jobs)


def _look(path: pathlib.Path, split: str, label: Label, least_px: int) -> CheckedImage:
    seen = CheckedImage(path=path, split=split, label=label)
    problem = files.look(path, least_px)
    if problem is not None:
        return dataclasses.replace(seen, problem=problem)
    try:
        data = path.read_bytes()
        image = decode.decode(data, path, gray_range='own')
    except (decode.ImageError, OSError) as error:
        return dataclasses.replace(seen, problem=files.reason(path, error))
    if (damage := decode.jpeg_damage(data)) is not None:
        return dataclasses.replace(seen, problem=damage)
    gray = np.asarray(
        Image.fromarray(image).convert('L').resize((GRAY_PX, GRAY_PX), Image.Resampling.BOX),
        np.float32,
    )
    return dataclasses.replace(
        seen,
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
    """64 bits that stay nearly the same when an image is resized, recompressed or brightened.

    Source: Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions",
    section 3.2.1: the signs of the lowest frequencies of a cosine transform, about their median.

    Args:
        gray: [32, 32].

    Returns:
        The bits as an integer; None for an image that is of one level throughout.
    """
    if gray.std() < FLAT_LEVELS:
        return None
    low = np.asarray(scipy.fft.dctn(gray, norm='ortho'))[1:9, 1:9].ravel()
    bits = low > np.median(low)
    return int.from_bytes(np.packbits(bits).tobytes(), 'big')


def exact_duplicates(seen: Sequence[CheckedImage]) -> list[list[CheckedImage]]:
    """Groups of files of the same bytes."""
    groups: dict[str, list[CheckedImage]] = {}
    for one in seen:
        if one.sha256:
            groups.setdefault(one.sha256, []).append(one)
    return [group for group in groups.values() if len(group) > 1]


def near_duplicates(seen: Sequence[CheckedImage]) -> list[tuple[CheckedImage, CheckedImage]]:
    """Pairs of files in different splits that look alike and are not of the same bytes.

    Candidates agree in one of eight bytes of their hashes at least, so that not all pairs need
    be compared; those that differ in few bits are compared as small gray images.
    """
    known = [one for one in seen if one.hash is not None]
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
    """Pairs of members of different splits whose hashes differ in few bits."""
    for place, i in enumerate(members):
        others = members[place + 1 :]
        others = others[splits[others] != splits[i]]
        near = np.bitwise_count(hashes[others] ^ hashes[i]) <= NEAR_BITS
        yield from ((int(i), int(j)) for j in others[near])


def _look_alike(a: CheckedImage, b: CheckedImage) -> bool:
    """Whether two small gray images agree, but for brightness."""
    grays = [np.asarray(x.gray, np.float32) for x in (a, b)]
    one, other = (gray - gray.mean() for gray in grays)
    return float(np.abs(one - other).mean()) < NEAR_LEVELS


def contact_sheet(seen: Sequence[CheckedImage], class_names: Sequence[str]) -> Image.Image:
    """A picture with a row of samples for each class, spread evenly over its files.

    Images without a label have a row of their own, the last.
    """
    font = ImageFont.load_default(12)
    good = [one for one in seen if one.problem is None]
    names = [*class_names, *([NO_LABEL] if not all(one.labels() for one in good) else [])]
    rows = min(len(names), SHEET_ROWS)
    height = THUMB_PX + CAPTION_PX + 4
    sheet = Image.new('RGB', (SHEET_COLUMNS * (THUMB_PX + 2), rows * height), 'white')
    draw = ImageDraw.Draw(sheet)
    for row in range(rows):
        mine = [one for one in good if row in (one.labels() or [len(class_names)])]
        draw.text((2, row * height), f'{names[row]}: {len(mine)} images', 'black', font)
        chosen = np.unique(np.linspace(0, len(mine) - 1, SHEET_COLUMNS).astype(int))
        for column, index in enumerate(chosen if mine else ()):
            place = (column * (THUMB_PX + 2), row * height + CAPTION_PX)
            sheet.paste(_thumbnail(mine[index].path), place)
    return sheet


def _thumbnail(path: pathlib.Path) -> Image.Image:
    wanted = Preprocessing(size_px=THUMB_PX, resize_px=THUMB_PX, scaled_decoding=True)
    image = decode.decode(path.read_bytes(), path, 2 * THUMB_PX, 'own')
    return Image.fromarray(decode.to_canvas(image, wanted))
