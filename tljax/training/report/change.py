"""What training changed: the parameters of each stage, and what the stage makes of images."""

import jax
import numpy as np

from tljax import tree
from tljax.features.similarity import linear_cka
from tljax.models import stages
from tljax.models.stages import HEAD
from tljax.records.figures import intervals
from tljax.records.figures.figure import Figure
from tljax.records.figures.intervals import Interval
from tljax.records.pages.blocks import Block, Figures, Section, Text
from tljax.training.report import network_pass
from tljax.training.report.inputs import Inputs, split_name
from tljax.types import InputError, Params

IMAGES = 256  # that features are compared on
LEAST_IMAGES = 32


def section(inputs: Inputs) -> Section:
    """The relative movement of the parameters and the CKA of the features of each stage."""
    job = inputs.job
    start = stages.plain(job.model.adapters, job.params)
    figures = [_movement(movement(start, jax.device_get(inputs.run.network.params)))]
    blocks: list[Block] = [Figures(figures)]
    try:
        figures.append(_similarity(inputs, start))
    except InputError as error:
        blocks.append(Text(str(error), 'missing'))
    return Section(title='What training changed', blocks=blocks)


def movement(start: Params, end: Params) -> dict[str, float]:
    """How far the parameters of each stage moved, relative to their norm at the start.

    |end - start| / |start| over all leaves of the stage; infinity where it started at 0.

    Args:
        start: parameters, by stage.
        end: of the same shapes.
    """
    moved = {}
    for name in end:
        before, after = tree.flatten(start[name]), tree.flatten(end[name])
        pairs = [(np.asarray(before[p], np.float64), np.asarray(after[p])) for p in after]
        step = sum(float(np.square(b - a).sum()) for a, b in pairs)
        norm = sum(float(np.square(a).sum()) for a, _ in pairs)
        moved[name] = float(np.sqrt(step / norm)) if norm else (np.inf if step else 0.0)
    return moved


def _movement(moved: dict[str, float]) -> Figure:
    finite = [value for value in moved.values() if np.isfinite(value)]
    most = max((v for name, v in moved.items() if name != HEAD and np.isfinite(v)), default=0.0)
    marks = [
        Interval(
            name=name,
            value=value if np.isfinite(value) else max(finite, default=1.0),
            text=_text(value),
            color='accent' if value else 'quiet',
        )
        for name, value in moved.items()
    ]
    largest = max(moved, key=lambda name: moved[name])
    return Figure(
        name='movement',
        title='Movement of the parameters.',
        alt=f'{largest} moved most, by {_text(moved[largest])}.',
        drawing=intervals.bars(marks, high=most or None),
        columns=('stage', 'relative movement'),
        rows=list(moved.items()),
        caption='Distance from the start, relative to the norm at the start, for each stage. '
        'Bars are cut at the largest of the stages below the head.',
    )


def _text(value: float) -> str:
    if not np.isfinite(value):
        return 'new, from 0'
    return 'frozen' if value == 0 else f'{100 * value:.3g} %'


def _similarity(inputs: Inputs, start: Params) -> Figure:
    name, split = inputs.predictions()
    examples, places = inputs.examples(name)
    count = min(IMAGES, len(split))
    pass_ = inputs.network_pass
    if pass_.seconds_per_image:
        count = min(count, int(max(inputs.budget.left, 0) / 4 / pass_.seconds_per_image))
    elif inputs.budget.left < 0.4 * inputs.budget.seconds:
        count = 0
    if count < min(LEAST_IMAGES, len(split)):
        raise InputError(
            'The features before and after are not compared, because the run was short; '
            f'tljax report {inputs.run.workdir} adds it.'
        )
    chosen = places[np.unique(np.linspace(0, len(places) - 1, count).astype(int))]
    canvases = network_pass.canvases(examples, pass_.model, chosen)
    network = inputs.run.network
    after = pass_.outputs(network.params, network.stats, canvases).pooled
    before = pass_.outputs(start, inputs.job.stats, canvases).pooled
    values = {stage: linear_cka(before[stage], after[stage]) for stage in after}
    marks = [
        Interval(name=stage, value=value, text=f'{value:.3f}') for stage, value in values.items()
    ]
    least = min(values, key=lambda stage: values[stage])
    return Figure(
        name='cka',
        title='Similarity of the features before and after.',
        alt=f'The features of {least} changed most: CKA {values[least]:.3f}.',
        drawing=intervals.bars(marks, high=1.0),
        columns=('stage', 'CKA'),
        rows=list(values.items()),
        caption=f'Linear CKA (Kornblith et al. 2019) of the pooled output of each stage on '
        f'{len(chosen)} {split_name(name)} images; 1 is unchanged.',
    )
