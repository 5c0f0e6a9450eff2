"""Networks: backbones of named stages, heads and adapters."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax

from tljax.types.arrays import Array, Params
from tljax.types.inputs import AnyPreprocessing


@runtime_checkable
class Stage(Protocol):
    """One named stage of a network: a Flax module called as below."""

    def __call__(
        self, x: jax.Array, *, deterministic: bool, use_running_average: bool
    ) -> jax.Array: ...


@runtime_checkable
class Backbone(Protocol):
    """An architecture family: named stages, and their names in other libraries."""

    weights: str | None

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        ...

    def head(self, num_classes: int) -> nn.Module:
        """The family's own head: the layers after the last stage of the published network."""
        ...

    def port_tables(self) -> Mapping[str, Sequence[Any]]:
        """Tables (of `port_rules.PortRule`) from foreign names to ours, by the name of the library.

        Libraries with the same names have the same table.
        """
        ...

    def preprocessing(self) -> AnyPreprocessing:
        """The preprocessing of the family's published weights, unless the file overrides it."""
        ...


@runtime_checkable
class Recognisable(Backbone, Protocol):
    """A backbone that can be recognised from the entries of a state dict."""

    @classmethod
    def variants(cls) -> Sequence[Any]:
        """Members whose tables together can name the entries of any member."""
        ...

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> Any:
        """The member with leaves of these paths and shapes; None if there is none.

        Args:
            shapes: `{path: shape}`.
            naming: the table that named them; some libraries use other constants.

        Raises:
            MisfitError: the leaves are the family's, in a variant that it does not support.
        """
        ...


@runtime_checkable
class Head(Protocol):
    """A replacement for the family's own head, applied after the last stage of a backbone."""

    def module(self, num_classes: int) -> nn.Module:
        """A stage from [B, H, W, C] maps, [B, T, F] tokens or [B, F] vectors to [B, K] logits.

        Its last linear layer is called `linear`.
        """
        ...


ADAPTER = 'adapter'  # `LAYER/adapter/...` are the leaves that an adapter adds to a layer


@runtime_checkable
class Adapter(Protocol):
    """Extra leaves for pretrained layers, which merge into the layers' own leaves.

    The leaves are merged before the stages are applied, in training steps too, so the stages need
    no change and every backbone can be adapted.
    """

    def add(self, params: Params, key: jax.Array) -> dict[str, Array]:
        """`{path: leaf}` to add at `LAYER/adapter/...`; they do not change the output yet.

        Args:
            params: of all stages, or their shapes.
            key: for random initial values.

        Raises:
            InputError: no layer fits.
        """
        ...

    def merged(self, params: Params) -> Params:
        """The parameters of some stages with the added leaves merged and removed."""
        ...
