"""A trained network for others: weights under another library's names, or a program."""

import pathlib
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from tljax import tree
from tljax.models import port, stages
from tljax.records import runs
from tljax.types import InputError, Params, Preprocessing, Stats
from tljax.weights import delta, loading, model_card, own_format, translation
from tljax.weights.pretrained import Architecture, Pretrained

PLATFORMS = ('cpu', 'cuda', 'tpu')


class ExportError(InputError):
    """A network that cannot be written as asked."""


def export(
    workdir: str,
    out: pathlib.Path,
    *,
    names: str | None = None,
    format: str = 'safetensors',
    image_size: tuple[int, int] | None = None,
    delta: bool = False,
    overwrite: bool = False,
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes a network and its model card.

    Args:
        workdir: a run's folder, or another source of weights.
        out: the file to write.
        names: a key of the backbone's `port_tables()`, `port.OWN`, or None for the first.
        format: `safetensors` or `stablehlo`.
        image_size: height and width of the program's images; None for the canvas.
        delta: writes what a run changed of the weights it began with, and nothing else.
        overwrite: whether files that are there are replaced.

    Returns:
        The file and the card.

    Raises:
        InputError: there is no such network, it has no such names, or a file is there.
    """
    if out.exists() and not overwrite:
        raise ExportError(f'{out} is there already; --overwrite replaces it')
    opened = loading.open_(workdir)
    pretrained = translation.translate(opened, translation.recognised(opened))
    card = model_card.place_for(out)
    if delta:
        if names or format != 'safetensors':
            raise ExportError('--delta writes safetensors under our own paths, wanted no other')
        naming, content = port.OWN, _delta(workdir, pretrained)
    elif format == 'stablehlo':
        naming, content = '', program(pretrained, image_size)
    else:
        tables = pretrained.architecture.backbone.port_tables()
        naming = names or next(iter(tables), port.OWN)
        texts = own_format.metadata(pretrained)
        if naming == port.OWN:
            texts['architecture'] = own_format.architecture_text(pretrained.architecture)
        content = safetensors.numpy.save(state_dict(pretrained, naming), texts)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + '.part')
    part.write_bytes(content)
    part.replace(out)
    card.write_text(model_card.text(pretrained, workdir, out.name, naming))
    return out, card


def _delta(workdir: str, pretrained: Pretrained) -> bytes:
    if pretrained.origin.format != 'run':
        raise ExportError(f'{workdir} is no run: a delta is what a run changed')
    run = runs.read(pathlib.Path(workdir))
    base = delta.base_of_run(run)
    began = loading.load(base.source, run.backbone)
    changed, named = delta.of_run(run, began, pretrained.architecture)
    texts = own_format.metadata(pretrained) | named
    texts['architecture'] = own_format.architecture_text(pretrained.architecture)
    return safetensors.numpy.save(changed, texts)


def state_dict(pretrained: Pretrained, naming: str) -> dict[str, np.ndarray]:
    """The entries that another library loads strictly.

    Raises:
        ExportError: the family has no such names, or the network is not all of the family's.
    """
    leaves = tree.flatten({'params': pretrained.params, 'batch_stats': pretrained.stats})
    if naming == port.OWN:
        foreign = leaves
    else:
        tables = pretrained.architecture.backbone.port_tables()
        if naming not in tables:
            raise ExportError(
                f'names {naming!r}: {type(pretrained.architecture.backbone).__name__} has those of '
                f'{", ".join([*tables, port.OWN])}'
            )
        _check_whole(pretrained, leaves, naming)
        foreign = port.to_foreign(leaves, tables[naming])
    # Not ascontiguousarray, which gives a count of batches, [], an axis.
    return {name: np.asarray(array, order='C') for name, array in foreign.items()}


def _check_whole(pretrained: Pretrained, leaves: dict[str, Any], naming: str) -> None:
    """A cut network, or one with a head of several layers, is no network of the other library."""
    plain = Architecture(backbone=pretrained.architecture.backbone)
    whole = plain.build(pretrained.num_classes or 1, pretrained.preprocessing)
    params, stats = stages.shapes(whole)
    if pretrained.num_classes is None:
        params.pop(stages.HEAD)
    wanted = tree.flatten({'params': params, 'batch_stats': stats})
    problems = tree.difference(leaves, wanted)
    if problems:
        raise ExportError(
            f'{naming} has no such network; --names={port.OWN} writes it under our own paths '
            '(- theirs, + ours):\n  ' + '\n  '.join(problems)
        )


def program(pretrained: Pretrained, image_size: tuple[int, int] | None = None) -> bytes:
    """A serialised `jax.export` program from uint8 images to probabilities.

    It holds the weights, the preprocessing and the temperature, if one was fitted. Its batch size
    is free. What it was written with and later releases of JAX can run it for the time that
    jax.export promises (six months).

    Args:
        pretrained: the network.
        image_size: height and width of the images, which are resized (antialiased, as Pillow
            does, within two grey levels) and cut where they are no canvas; None for the canvas.

    Raises:
        ExportError: there is no head.
    """
    shown = pretrained.preprocessing
    if pretrained.num_classes is None:
        raise ExportError(f'{pretrained.origin.source} has no head, and a program needs one')
    model = pretrained.architecture.build(pretrained.num_classes, shown)
    height, width = image_size or (shown.resize_px, shown.resize_px)

    @jax.jit
    def predict(images: jax.Array) -> jax.Array:
        canvases = resize(images.astype(jnp.float32), shown)
        x = stages.normalise(shown, canvases)
        logits, _ = stages.run(model, params, stats, x)
        logits = logits / (pretrained.origin.temperature or 1.0)
        return stages.probabilities(logits, multi_label=pretrained.origin.multi_label)

    params: Params = jax.tree.map(jnp.asarray, pretrained.params)
    stats: Stats = jax.tree.map(jnp.asarray, pretrained.stats)
    (batch,) = jax.export.symbolic_shape('b')
    shape = jax.ShapeDtypeStruct((batch, height, width, len(shown.mean)), jnp.uint8)
    return bytes(jax.export.export(predict, platforms=PLATFORMS)(shape).serialize())


def resize(images: jax.Array, shown: Preprocessing) -> jax.Array:
    """The canvas of images, as `decode.resize_square` makes it, on the device.

    Args:
        images: [B, h, w, C] in [0, 255].
        shown: `resize_px` and the interpolation.

    Returns:
        [B, resize_px, resize_px, C].
    """
    target = shown.resize_px
    height, width = images.shape[1:3]
    short, long = min(height, width), int(target * max(height, width) / min(height, width))
    if short != target:
        size = (long, target) if width <= height else (target, long)
        method = {'bilinear': 'linear', 'bicubic': 'cubic'}[shown.interpolation.value]
        shape = (images.shape[0], *size, images.shape[3])
        images = jnp.clip(jnp.round(jax.image.resize(images, shape, method)), 0, 255)
    top, left = (round((n - target) / 2) for n in images.shape[1:3])
    return images[:, top : top + target, left : left + target]
