"""A picture of what an experiment's augmentations do to its images."""

import pathlib
import textwrap

CELL_PX, GAP_PX, LINE_PX, FONT_PX = 160, 8, 14, 12
LETTERS, BAND = 25, 7  # in a line below a cell; cells side by side


def run(experiment, out: pathlib.Path, rows: int, columns: int, *, each: bool) -> None:
    """Draws a picture.

    Args:
        experiment: its training images and its augmentations.
        out: the picture.
        rows: images.
        columns: views of each.
        each: a column for each operation, alone.

    Raises:
        InputError: there is nothing to draw, or no picture has that suffix.
    """
    from PIL import Image

    from tljax.types import InputError

    if out.suffix.lower() not in Image.registered_extensions():
        raise InputError(f'--out={out}: no picture has the suffix of that name')
    table = _table(experiment, rows, columns, each=each)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(table).save(out)
    print(out)


def _table(experiment, rows: int, columns: int, *, each: bool):
    """Per image, its cells: pixels [H, W, 3] uint8 and the lines below them."""
    import numpy as np

    from tljax.config import validation
    from tljax.data import decode
    from tljax.types import InputError

    validation.validate(experiment)
    if not experiment.augmentations:
        raise InputError('config.augmentations is (): there is nothing to draw')
    examples = experiment.data.splits()['train']
    chosen = np.linspace(0, len(examples) - 1, min(rows, len(examples))).astype(int)
    preprocessing = experiment.preprocessing or experiment.backbone.preprocessing()
    images = np.stack([decode.resize_square(examples.load(int(i)), preprocessing) for i in chosen])
    names = [', '.join(examples.names(int(i))) for i in chosen]
    table = [[(image, [name])] for image, name in zip(images, names, strict=True)]
    policies = [(one,) for one in experiment.augmentations] if each else None
    for step in range(len(policies) if policies else columns):
        policy = policies[step] if policies else experiment.augmentations
        seen = views(policy, images, examples.ids[chosen], experiment.seed, step)
        for row, cells in zip(table, seen, strict=True):
            row += cells
    # Under `Copy` a step gives several views.
    return [row if each else row[: columns + 1] for row in table]


def views(policy, images, ids, seed: int, step: int):
    """What training sees of images [B, H, W, 3] at a step: per image, its cells."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from tljax import augment

    key = jax.random.split(jax.random.key(seed))[1]  # `job.train_key`
    keys = augment.example_keys(key, step, jnp.asarray(ids, jnp.uint32))
    targets = jnp.eye(len(images))
    changed, soft = jax.jit(lambda *batch: augment.apply(policy, *batch))(keys, images, targets)
    pixels = np.asarray(jnp.round(jnp.clip(changed, 0, 255))).astype(np.uint8)
    copies = len(pixels) // len(images)
    lines = _captions(policy, keys, len(pixels), np.asarray(soft))
    cells = list(zip(pixels, lines, strict=True))
    return [cells[i : i + copies] for i in range(0, len(cells), copies)]


def _captions(policy, keys, count: int, targets) -> list[list[str]]:
    """Per view, the operations and what they drew."""
    import jax
    import numpy as np

    from tljax.augment import compose

    lines: list[list[str]] = [[] for _ in range(count)]
    for index, one in enumerate(policy):
        name = type(one).__name__
        if isinstance(one, compose.Operation):
            drawn = jax.jit(jax.vmap(one.draw))(compose.own_keys(keys, index))
            host = {name: np.asarray(values) for name, values in drawn.items()}
            for row, own in enumerate(lines[: len(keys)]):
                own.append(one.caption({name: values[row] for name, values in host.items()}))
        elif views := getattr(one, 'views', 0):
            keys = compose.view_keys(keys, views)
            for row, own in enumerate(lines):
                own.append(f'{name} {row % views + 1} of {views}')
        else:
            for row, own in enumerate(lines):
                own.append(f'{name} {100 * targets[row].max():.0f} % its own')
    return lines


def draw(table):
    """The picture of a table of cells; what is wider than the page goes on below."""
    from PIL import Image, ImageDraw, ImageFont

    font, most = ImageFont.load_default(size=FONT_PX), max(len(row) for row in table)
    bands = [row[first : first + BAND] for first in range(0, most, BAND) for row in table]
    rows = [[(pixels, _wrapped(lines)) for pixels, lines in band] for band in bands]
    heights = [CELL_PX + LINE_PX * max(len(lines) for _, lines in row) for row in rows]
    width = GAP_PX + (CELL_PX + GAP_PX) * min(most, BAND)
    picture = Image.new('RGB', (width, sum(heights) + 2 * GAP_PX * len(heights)), 'white')
    pen, top = ImageDraw.Draw(picture), GAP_PX
    for row, height in zip(rows, heights, strict=True):
        for column, (pixels, lines) in enumerate(row):
            left = GAP_PX + column * (CELL_PX + GAP_PX)
            picture.paste(_fitted(Image.fromarray(pixels)), (left, top))
            for number, line in enumerate(lines):
                place = (left, top + CELL_PX + 2 + number * LINE_PX)
                pen.text(place, line, fill='black', font=font)
        top += height + 2 * GAP_PX
    return picture


def _wrapped(lines: list[str]) -> list[str]:
    return [part for line in lines for part in textwrap.wrap(line, LETTERS)]


def _fitted(image):
    """An image in its cell: small ones with their pixels as squares."""
    from PIL import Image

    scale = CELL_PX / max(image.size)
    size = tuple(max(1, round(scale * n)) for n in image.size)
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
