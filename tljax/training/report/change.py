"""The section on what training changed: the parameters and the features of each stage."""

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
from tljax.training.report.inputs import Inputs, split_name, spread
from tljax.types import InputError, Params

IMAGES = 256  # the largest number of images that features are compared on


def section(inputs: Inputs) -> Section:
    """The relative movement of the parameters and the CKA of the features of each stage."""
    job = inputs.job
    start = stages.plain(job.model.adapters, job.params)
    end = jax.device_get(inputs.run.network.params)
    moved = movement(start, end)
    figures = [_movement({name: moved[name] for name in job.model.names})]
    blocks: list[Block] = [Figures(figures)]
    try:
        figures.append(_similarity(inputs, start))
    except InputError as error:
        blocks.append(Text(str(error), 'missing'))
    return Section(title='What training changed', blocks=blocks)


def movement(start: Params, end: Params) -> dict[str, float]:
    """The distance that the parameters of each stage moved, relative to their norm at the start.

    |end - start| / |start| over all leaves of a stage; infinity if the stage started at 0.

    Args:
        start: parameters by stage.
        end: parameters of the same shapes.
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
        alt=f'{largest} moved most: {_text(moved[largest])}.',
        drawing=intervals.bars(marks, high=most or None),
        columns=('stage', 'relative movement'),
        rows=list(moved.items()),
        caption='Distance of the parameters from their starting values, relative to the norm of '
        'these values. Bars end at the largest value of the stages below the head.',
    )


def _text(value: float) -> str:
    if not np.isfinite(value):
        return 'new, from 0'
    return 'frozen' if value == 0 else f'{100 * value:.3g} %'


def _similarity(inputs: Inputs, start: Params) -> Figure:
    places, after = inputs.sample_features
    chosen = spread(len(places), IMAGES)
    images = inputs.sample_images[places[chosen]]
    before = inputs.network_pass.outputs(start, inputs.job.stats, images).pooled
    values = {stage: linear_cka(before[stage], after[stage][chosen]) for stage in after}
    known = {stage: value for stage, value in values.items() if np.isfinite(value)}
    marks = [
        Interval(name=stage, value=known.get(stage), text=_cka_text(value))
        for stage, value in values.items()
    ]
    alt = 'The features are constant.'
    if known:
        least = min(known, key=lambda stage: known[stage])
        alt = f'The features of {least} changed most: CKA {known[least]:.3f}.'
    splits = dict.fromkeys(inputs.sample[place][0] for place in places[chosen])
    return Figure(
        name='cka',
        title='Similarity of the features before and after.',
        alt=alt,
        drawing=intervals.bars(marks, high=1.0),
        columns=('stage', 'CKA'),
        rows=[(stage, known.get(stage)) for stage in values],
        caption=f'Linear CKA (Kornblith et al. 2019) of the pooled output of each stage on '
        f'{len(chosen)} {" and ".join(map(split_name, splits))} {inputs.noun}; 1 is unchanged.',
    )


def _cka_text(value: float) -> str:
    return f'{value:.3f}' if np.isfinite(value) else 'constant'
