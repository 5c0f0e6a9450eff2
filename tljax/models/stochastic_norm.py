"""BatchNorm that uses running statistics for random channels and batch statistics for the rest."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax.models import layers

STREAM = 'stochastic_norm'  # its random stream in Flax's `rngs`


@dataclasses.dataclass(slots=True, kw_only=True)
class StochNorm:
    """Normalises random channels by running statistics in training.

    At every step and layer each channel uses running statistics with probability `running_share`,
    and otherwise the batch's. 0 is BatchNorm; 1 is frozen BatchNorm, except that the statistics
    are still updated. Evaluation is BatchNorm's.

    Attributes:
        running_share: probability that a channel uses running statistics.

    Source: Kou et al. 2020, "Stochastic Normalization", with p = 1/2.
    """

    running_share: float = 0.5

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        valid = 0 < self.running_share <= 1
        wanted = f'running_share is {self.running_share}, wanted 0 < x <= 1'
        return [] if valid else [wanted]

    def choose(self, key: jax.Array, batch: jax.Array, running: jax.Array) -> jax.Array:
        """Chooses per channel between two normalisations of the same input [..., C]."""
        chosen = jax.random.bernoulli(key, self.running_share, running.shape[-1:])
        return jnp.where(chosen.reshape(*(1,) * (running.ndim - 1), -1), running, batch)

    def around(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        """`apply`, a module's method, with every BatchNorm in training mode replaced by this."""

        def applied(*args: Any) -> Any:
            with nn.intercept_methods(self.intercept):
                return apply(*args)

        return applied

    def intercept(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        """For `nn.intercept_methods`: replaces every BatchNorm in training mode.

        Other layers, and BatchNorms that use running averages, are unchanged. The running
        statistics are those before this step's update.
        """
        module = context.module
        norm = isinstance(module, layers.BatchNorm) and context.method_name == '__call__'
        if not norm or kwargs['use_running_average'] or module.is_initializing():
            return call(*args, **kwargs)
        # A copy, because a module creates its parameters once and so cannot be called twice.
        copy, frozen = module.clone(parent=None), {**kwargs, 'use_running_average': True}
        running: Any = copy.apply(module.variables, *args, **frozen)
        batch = call(*args, **kwargs)
        return self.choose(module.make_rng(STREAM), batch, running)
