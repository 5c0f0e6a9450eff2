"""Texts for a language model, which predicts each next token; labels are not read."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tljax.metrics.tasks.next_token import NextToken
from tljax.types import DataSource, Examples


@dataclasses.dataclass(slots=True, kw_only=True)
class NextTokens:
    """The texts of a source as one long text, cut into windows.

    Training reads the windows one after the other: the state of the network after a window begins
    the next one. Evaluation reads each window alone.

    Attributes:
        texts: the source of the texts.
        window: tokens of a window; gradients do not flow into the window before.
    """

    texts: DataSource
    window: int = 64

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        return NextToken(window=self.window).problems()

    def splits(self) -> Mapping[str, Examples]:
        """The splits of the source; their examples become windows when the vocabulary is known."""
        return {name: self._unlabelled(one) for name, one in self.texts.splits().items()}

    def _unlabelled(self, examples: Examples) -> Examples:
        return dataclasses.replace(
            examples,
            labels=np.zeros(len(examples), np.int32),
            class_names=('text',),
            task=NextToken(window=self.window),
        )
