"""Exports a trained network: weights with another library's names, a delta, or a program."""

import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from tljax import tree
from tljax.models import port, stages
from tljax.records import run_copies, runs
from tljax.records.runs import CONFIG_FILE, RESULT_FILE
from tljax.types import InputError, Params, Preprocessing, Stats, images_of
from tljax.weights import (
    delta,
    hub_upload,
    loading,
    model_card,
    onnx_program,
    own_format,
    translation,
)
from tljax.weights.pretrained import Architecture, Pretrained

PLATFORMS = ('cpu', 'cuda', 'tpu')
PROGRAMS = ('stablehlo', 'onnx')  # formats without names of parameters
RECORDS = {CONFIG_FILE: 'experiment.json', RESULT_FILE: RESULT_FILE}  # their names in a hub


class ExportError(InputError):
    """A network that cannot be exported in the requested form."""


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
        format: `safetensors`, `stablehlo` or `onnx`.
        image_size: height and width of the program's images; None for squares of `resize_px`.
        delta: writes only the values that a run changed.
        overwrite: whether existing files are replaced.

    Returns:
        The paths of the file and of the card.

    Raises:
        InputError: the network or its names do not exist, or `out` exists.
    """
    if out.exists() and not overwrite:
        raise ExportError(f'{out} exists; --overwrite replaces it')
    opened = loading.open_(workdir)
    pretrained = translation.translate(opened, translation.recognised(opened))
    card = model_card.place_for(out)
    if delta:
        if names or format != 'safetensors':
            raise ExportError(
                '--delta writes safetensors with paths of tljax, wanted no --names or --format'
            )
        naming, content = port.OWN, _delta(workdir, pretrained)
    elif format in PROGRAMS:
        naming = model_card.ONNX if format == 'onnx' else ''
        content = (onnx if format == 'onnx' else program)(pretrained, image_size)
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


def publish(
    workdir: str,
    to: str,
    *,
    format: str = 'safetensors',
    overwrite: bool = False,
    private: bool = False,
    **options: Any,
) -> str:
    """Uploads a network, its model card, and a run's experiment and result to a hub.

    Args:
        workdir: a run's folder, or another source of weights.
        to: `hub:USER/NAME`.
        format: see `export`.
        overwrite: whether files of the repository are replaced.
        private: whether a repository that is created is private.
        **options: `names` and `image_size` of `export`.

    Returns:
        The address of the commit.

    Raises:
        InputError: the network cannot be exported, or the hub refuses it.
    """
    repository = hub_upload.parse(to)
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / f'model.{format}'
        files = list(export(workdir, out, format=format, **options))
        if loading.open_(workdir).origin.format == 'run':
            run = run_copies.folder(workdir)
            for name, published in RECORDS.items():
                if (run / name).exists():
                    files.append(pathlib.Path(folder) / published)
                    files[-1].write_bytes((run / name).read_bytes())
        return hub_upload.upload(repository, files, overwrite=overwrite, private=private)


def _delta(workdir: str, pretrained: Pretrained) -> bytes:
    if pretrained.origin.format != 'run':
        raise ExportError(f'{workdir} is no run, wanted one for --delta')
    run = runs.read(run_copies.folder(workdir))
    base = delta.base_of_run(run)
    began = loading.load(base.source, run.backbone)
    changed, named = delta.of_run(run, began, pretrained.architecture)
    texts = own_format.metadata(pretrained) | named
    texts['architecture'] = own_format.architecture_text(pretrained.architecture)
    return safetensors.numpy.save(changed, texts)


def state_dict(pretrained: Pretrained, naming: str) -> dict[str, np.ndarray]:
    """The entries for `load_state_dict(strict=True)` of another library.

    Raises:
        ExportError: the family has no such names, or the library has no such network.
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
    # `np.ascontiguousarray` would add an axis to the counter of batches, [].
    return {name: np.asarray(array, order='C') for name, array in foreign.items()}


def _check_whole(pretrained: Pretrained, leaves: dict[str, Any], naming: str) -> None:
    """Refuses a cut network or another head, because the other library has no such network."""
    plain = Architecture(backbone=pretrained.architecture.backbone)
    usual = plain.build(
        pretrained.num_classes or 1, pretrained.preprocessing, pretrained.origin.task
    )
    params, stats = stages.shapes(usual)
    if pretrained.num_classes is None:
        params.pop(stages.HEAD)
    wanted = tree.flatten({'params': params, 'batch_stats': stats})
    problems = tree.difference(leaves, wanted)
    if problems:
        raise ExportError(
            f'{naming} has no such network; --names={port.OWN} writes it with paths of tljax '
            '(- theirs, + ours):\n  ' + '\n  '.join(problems)
        )


def program(pretrained: Pretrained, image_size: tuple[int, int] | None = None) -> bytes:
    """A serialised `jax.export` program from uint8 images to probabilities.

    It includes the weights, the preprocessing and the temperature, if one was fitted, and accepts
    any batch size. jax.export guarantees that later releases of JAX can run it for six months.

    Args:
        pretrained: the network.
        image_size: height and width of the images, which are resized (antialiased; within two gray
            levels of Pillow) and cropped to squares of `resize_px`; None for such squares.

    Raises:
        ExportError: the network has no head.
    """
    predict, (height, width, channels) = _predictor(pretrained, image_size)
    (batch,) = jax.export.symbolic_shape('b')
    shape = jax.ShapeDtypeStruct((batch, height, width, channels), jnp.uint8)
    return bytes(jax.export.export(jax.jit(predict), platforms=PLATFORMS)(shape).serialize())


def onnx(pretrained: Pretrained, image_size: tuple[int, int] | None = None) -> bytes:
    """The same program as `program` as an ONNX model, which was compared with the network.

    Raises:
        ExportError: the network has no head.
        OnnxError: it cannot be converted, or a package is missing.
    """
    predict, shape = _predictor(pretrained, image_size)
    return onnx_program.program(predict, shape)


def _predictor(
    pretrained: Pretrained, image_size: tuple[int, int] | None
) -> tuple[Callable[[jax.Array], jax.Array], tuple[int, int, int]]:
    """A function from uint8 images [b, h, w, C] to probabilities, and (h, w, C)."""
    preprocessing = images_of(pretrained.preprocessing)
    if pretrained.num_classes is None:
        raise ExportError(f'{pretrained.origin.source} has no head, which a program needs')
    model = pretrained.architecture.build(
        pretrained.num_classes, preprocessing, pretrained.origin.task
    )
    height, width = image_size or (preprocessing.resize_px, preprocessing.resize_px)

    resized = _resizer(height, width, preprocessing)

    def predict(images: jax.Array) -> jax.Array:
        canvases = resized(images.astype(jnp.float32))
        x = stages.normalise(preprocessing, canvases)
        logits, _ = stages.run(model, params, stats, x)
        logits = logits / (pretrained.origin.temperature or 1.0)
        return model.task.predicted(logits)

    params: Params = jax.tree.map(jnp.asarray, pretrained.params)
    stats: Stats = jax.tree.map(jnp.asarray, pretrained.stats)
    return predict, (height, width, len(preprocessing.mean))


def resize(images: jax.Array, preprocessing: Preprocessing) -> jax.Array:
    """Resizes and crops images like `decode.resize_square`, on the device.

    Args:
        images: [B, h, w, C] in [0, 255].
        preprocessing: gives `resize_px` and the interpolation.

    Returns:
        [B, resize_px, resize_px, C].
    """
    height, width = images.shape[1:3]
    return _resizer(height, width, preprocessing)(images)


def _resizer(
    height: int, width: int, preprocessing: Preprocessing
) -> Callable[[jax.Array], jax.Array]:
    """`resize` for images of one size; its matrices are constants, which converters can read."""
    target = preprocessing.resize_px
    short, long = min(height, width), int(target * max(height, width) / min(height, width))
    size = (long, target) if width <= height else (target, long)
    top, left = (round((n - target) / 2) for n in (size if short != target else (height, width)))
    rows, columns = (
        _weights(old, new, preprocessing.interpolation.value)
        for old, new in zip((height, width), size, strict=True)
    )

    def resized(images: jax.Array) -> jax.Array:
        if short != target:
            precise = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
            images = precise('sw,bhwc->bhsc', columns, precise('th,bhwc->btwc', rows, images))
            images = jnp.clip(jnp.round(images), 0, 255)
        return images[:, top : top + target, left : left + target]

    return resized


def _weights(old: int, new: int, interpolation: str) -> np.ndarray:
    """The matrix [new, old] that resizes an axis, antialiased."""
    method = {'bilinear': 'linear', 'bicubic': 'cubic'}[interpolation]
    with jax.ensure_compile_time_eval():
        return np.asarray(jax.image.resize(np.eye(old, dtype=np.float32), (new, old), method))
