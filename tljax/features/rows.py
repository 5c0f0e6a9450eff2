"""Features on disk with the interface of an array."""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Rows:
    """Features that do not fit into memory: memory-mapped rows, read when they are indexed."""

    def __init__(self, rows: Sequence[np.ndarray], views: int):
        self._rows, self._views = rows, views
        self.shape = (len(rows) // views, views, *rows[0].shape)
        self.dtype = rows[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Any) -> np.ndarray:
        """A copy in memory of the features of one example [V, ...] or of several [M, V, ...]."""
        chosen = np.arange(len(self))[indices]
        firsts = np.atleast_1d(chosen) * self._views
        rows = [self._rows[first + view] for first in firsts for view in range(self._views)]
        features = np.array(rows, self.dtype).reshape(len(firsts), *self.shape[1:])
        return features if np.ndim(chosen) else features[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)
