"""The classes of another data source, in an order that has a meaning."""

import dataclasses
from collections.abc import Mapping

from tljax.metrics.tasks import choice
from tljax.metrics.tasks.ordered import Ordered
from tljax.types import DataSource, Examples, InputError


@dataclasses.dataclass(slots=True, kw_only=True)
class OrderedClasses:
    """The images of another source, whose classes are ordered from the lowest to the highest.

    With the classes `('none', 'mild', 'severe')`, for example, a network learns that mild is nearer
    to severe than none is.

    Attributes:
        data: the source of the images.
        classes: all classes of the source, the lowest first.
    """

    data: DataSource
    classes: tuple[str, ...]

    @property
    def path(self) -> str | None:
        """The path of the other source, if it has one."""
        return getattr(self.data, 'path', None)

    def problems(self) -> list[str]:
        """Messages for `config.validate`."""
        fits = len(set(self.classes)) == len(self.classes) >= 2
        return [] if fits else [f'classes is {self.classes}, wanted two or more, each once']

    def splits(self) -> Mapping[str, Examples]:
        """The splits of the other source.

        Raises:
            InputError: its classes are others, or its images have several labels or numbers.
        """
        return {name: self._ordered(split) for name, split in self.data.splits().items()}

    def _ordered(self, split: Examples) -> Examples:
        if not choice.of(split).one_label:
            raise InputError('config.data: images have several labels or numbers, wanted one class')
        if set(split.class_names) != set(self.classes):
            raise InputError(
                f'config.data.classes is {self.classes}, wanted the classes of the data in their '
                f'order: {split.class_names}'
            )
        places = [split.class_names.index(name) for name in self.classes]
        kept, labels = choice.of(split).only(split.labels, places)
        taken = split.take(kept)
        return dataclasses.replace(taken, labels=labels, class_names=self.classes, task=Ordered())
