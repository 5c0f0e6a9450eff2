"""Options of a run that are no extension points: precision, devices, caching, non-finite steps."""

import dataclasses
import enum


class Dtype(enum.Enum):
    """The dtype that a network computes in; parameters, statistics and losses stay float32."""

    FLOAT32 = 'float32'
    BFLOAT16 = 'bfloat16'


class Sharding(enum.Enum):
    """How the state of training is placed on the devices; it affects only rounding."""

    REPLICATED = 'replicated'  # every device holds all of it
    FSDP = 'fsdp'  # every device holds a part, and a stage's parameters are gathered when it runs


@dataclasses.dataclass(slots=True, kw_only=True)
class MeshShape:
    """The devices of a run as a table; a batch is split over all of them.

    Attributes:
        data: rows of the table; each row holds the complete state. None: as many as there are.
        model: devices in a row, which the state is split over; None: all devices of a row with
            `Sharding.FSDP`, 1 with `Sharding.REPLICATED`.
    """

    data: int | None = None
    model: int | None = None

    def problems(self) -> list[str]:
        """See `config.validation`."""
        lengths = {'data': self.data, 'model': self.model}
        return [
            f'{name} is {length}, wanted more than 0'
            for name, length in lengths.items()
            if length is not None and length < 1
        ]


class CachePrefix(enum.Enum):
    """Whether the outputs of the frozen stages are computed once and cached."""

    AUTO = 'auto'  # if it saves work: images repeat without augmentation, and memory suffices
    ALWAYS = 'always'  # also for augmented views, which other runs can share; an error if it cannot
    NEVER = 'never'


class OnNonfinite(enum.Enum):
    """What happens at a training step whose loss, gradient or update is not finite."""

    STOP = 'stop'  # the run ends and names the step; nothing is saved after it
    SKIP = 'skip'  # the step changes nothing and is counted; several in a row end the run
