"""The embedded data set: scikit-learn's 1797 handwritten digits."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tljax.types import Examples

TEST_EXAMPLES = 797
SPLIT_SEED = 0  # constant, so every run has the same test split


@dataclasses.dataclass(slots=True, kw_only=True)
class Digits:
    """Handwritten digits of 43 people, 8 x 8 px: 1000 for training and 797 for testing, stratified.

    Source: Alpaydin & Kaynak 1998, UCI "Optical Recognition of Handwritten Digits", as shipped
    with scikit-learn (`load_digits`).
    """

    def splits(self) -> Mapping[str, Examples]:
        """`train` and `test`."""
        from sklearn import datasets, model_selection  # a slow import for this data set only

        digits: Any = datasets.load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
        images = np.repeat(images[..., None], 3, axis=-1)
        everything = Examples(
            load=lambda i: images[i],
            labels=digits.target.astype(np.int32),
            ids=np.arange(len(images)),
            class_names=tuple(str(name) for name in digits.target_names),
        )
        train, test = model_selection.train_test_split(
            np.arange(len(images)),
            test_size=TEST_EXAMPLES,
            stratify=digits.target,
            random_state=SPLIT_SEED,
        )
        return {'train': everything.take(np.sort(train)), 'test': everything.take(np.sort(test))}
