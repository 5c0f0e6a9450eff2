"""A picture of augmented training images."""

import pathlib
import textwrap

CELL_PX, GAP_PX, LINE_PX, FONT_PX = 200, 12, 20, 16
LETTERS, COLUMNS = 24, 5  # of a caption's line, and of the page
INK, FAINT = '#16202c', '#5b6876'  # the first line of a caption, and the others


def run(experiment, out: pathlib.Path, rows: int, columns: int, *, each: bool) -> None:
    """Draws a picture and saves it.

    Args:
        experiment: gives the training images and the augmentations.
        out: the file of the picture.
        rows: the number of images.
        columns: the number of views of each image.
        each: draws a column for each operation alone, instead of the views of all together.

    Raises:
        InputError: there are no augmentations, or the suffix is not of a picture.
    """
    from PIL import Image

    from tljax.types import InputError

    if out.suffix.lower() not in Image.registered_extensions():
        raise InputError(f'--out={out}: {out.suffix!r} is not the suffix of a picture')
    table = _table(experiment, rows, columns, each=each)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(table).save(out)
    print(out)


def _table(experiment, rows: int, columns: int, *, each: bool):
    """A row of cells for each image: pixels [H, W, 3] uint8 and the lines of the caption."""
    import numpy as np

    from tljax.config import validation
    from tljax.data import decode
    from tljax.metrics.tasks import choice
    from tljax.types import InputError

    validation.validate(experiment)
    if not experiment.augmentations:
        raise InputError('config.augmentations is (): there is nothing to draw')
    examples = experiment.data.splits()['train']
    chosen = np.linspace(0, len(examples) - 1, min(rows, len(examples))).astype(int)
    preprocessing = experiment.preprocessing or experiment.backbone.preprocessing()
    images = np.stack([decode.resize_square(examples.load(int(i)), preprocessing) for i in chosen])
    names = [', '.join(choice.names(examples, int(i))) for i in chosen]
    table = [[(image, [name])] for image, name in zip(images, names, strict=True)]
    if each:
        viewers = [viewer((one,)) for one in experiment.augmentations]
    else:
        viewers = [viewer(experiment.augmentations)] * columns
    for step, views in enumerate(viewers):
        seen = views(images, examples.ids[chosen], experiment.seed, step)
        for row, cells in zip(table, seen, strict=True):
            row += cells
    # With `Copy`, a step has several views.
    return [row if each else row[: columns + 1] for row in table]


def viewer(policy):
    """Compiles a policy once, for any number of steps.

    Returns:
        A function of images [B, H, W, 3], their ids, a seed and a step. It returns, per image, the
        cells of what training sees at that step.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    from tljax import augment
    from tljax.augment import compose

    apply = jax.jit(lambda *batch: augment.apply(policy, *batch))
    operations = [one if isinstance(one, compose.Operation) else None for one in policy]
    draws = [one and jax.jit(jax.vmap(one.draw)) for one in operations]

    def views(images, ids, seed: int, step: int):
        key = jax.random.split(jax.random.key(seed))[1]  # `job.train_key`
        keys = augment.example_keys(key, step, jnp.asarray(ids, jnp.uint32))
        changed, soft = apply(keys, images, jnp.eye(len(images)))
        pixels = np.asarray(jnp.round(jnp.clip(changed, 0, 255))).astype(np.uint8)
        copies = len(pixels) // len(images)
        lines = _captions(policy, draws, keys, len(pixels), np.asarray(soft))
        cells = list(zip(pixels, lines, strict=True))
        return [cells[i : i + copies] for i in range(0, len(cells), copies)]

    return views


def _captions(policy, draws, keys, count: int, targets) -> list[list[str]]:
    """The lines of each view's caption: the operations with their random values."""
    import numpy as np

    from tljax.augment import compose

    lines: list[list[str]] = [[] for _ in range(count)]
    for index, (one, draw) in enumerate(zip(policy, draws, strict=True)):
        name = type(one).__name__
        if draw is not None:
            drawn = draw(compose.operation_keys(keys, index))
            host = {name: np.asarray(values) for name, values in drawn.items()}
            for row, caption in enumerate(lines[: len(keys)]):
                caption.append(one.caption({name: values[row] for name, values in host.items()}))
        elif views := getattr(one, 'views', 0):
            keys = compose.view_keys(keys, views)
            for row, caption in enumerate(lines):
                caption.append(f'{name} {row % views + 1} of {views}')
        else:
            for row, caption in enumerate(lines):
                caption.append(f'{name} {100 * targets[row].max():.0f} % of one image')
    return lines


def draw(table):
    """The picture of a table of cells; every band of columns begins with the unchanged image."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=FONT_PX)
    views = COLUMNS - 1
    starts = range(1, max(max(len(row) for row in table), 2), views)
    bands = [[row[0], *row[start : start + views]] for start in starts for row in table]
    rows = [[(pixels, _wrapped(lines)) for pixels, lines in band] for band in bands]
    heights = [CELL_PX + LINE_PX * max(len(lines) for _, lines in row) for row in rows]
    width = GAP_PX + (CELL_PX + GAP_PX) * max(map(len, rows))
    picture = Image.new('RGB', (width, sum(heights) + 2 * GAP_PX * len(heights)), 'white')
    pen, top = ImageDraw.Draw(picture), GAP_PX
    for row, height in zip(rows, heights, strict=True):
        for column, (pixels, lines) in enumerate(row):
            left = GAP_PX + column * (CELL_PX + GAP_PX)
            picture.paste(_fitted(Image.fromarray(pixels)), (left, top))
            for number, line in enumerate(lines):
                corner = (left, top + CELL_PX + 2 + number * LINE_PX)
                pen.text(corner, line, fill=FAINT if number else INK, font=font)
        top += height + 2 * GAP_PX
    return picture


def _wrapped(lines: list[str]) -> list[str]:
    """Lines of a caption; a single operation has its name alone in the first line."""
    if len(lines) == 1 and not lines[0].startswith('no '):
        lines = lines[0].split(' ', 1)
    return [part for line in lines for part in textwrap.wrap(line, LETTERS)]


def _fitted(image):
    """An image at the size of a cell; pixels of small images become squares."""
    from PIL import Image

    scale = CELL_PX / max(image.size)
    size = tuple(max(1, round(scale * n)) for n in image.size)
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
