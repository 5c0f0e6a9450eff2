"""Arrays, trees of them, and batches."""

from typing import Any, NotRequired, TypedDict

import jax
import numpy as np

Array = jax.Array | np.ndarray
Params = dict[str, Any]  # {stage: {...: array}}; the top-level keys are the model's stages
Stats = dict[str, Any]  # the same for running statistics; stages without any are absent


class Batch(TypedDict):
    """One step's input. Evaluation pads the last batch; `mask` marks the real rows."""

    input: Array  # [B, ...], as `Preprocessing.row` states: images [B, H, W, 3] uint8, tokens, ...
    label: Array  # [B, ...], as `Task.label_shape` and `Task.label_dtype` state
    id: Array  # [B] int64 on the host; identifies the example in every order and subset
    mask: Array  # [B] bool
    source: NotRequired['Batch']  # rows of a source of samples, in addition to the target's
