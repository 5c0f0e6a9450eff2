"""BatchNorm that trusts running statistics for some channels and the batch's for the others."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tljax.models import layers

STREAM = 'stochastic_norm'  # the name of its random stream in Flax's `rngs`


@dataclasses.dataclass(slots=True, kw_only=True)
class StochNorm:
    """In training each channel is normalised by running statistics with a probability.

    A channel draws at every step and layer: by running statistics with probability
    `running_share`, by the batch's otherwise. 0 is BatchNorm, 1 its frozen form but for the
    statistics, which are updated in any case. Evaluation is BatchNorm's.

    Source: Kou et al. 2020, "Stochastic Normalization", with p = 1/2.
    """

    running_share: float = 0.5

    def problems(self) -> list[str]:
        """What `validate` reports."""
        fine = 0 < self.running_share <= 1
        wanted = f'running_share is {self.running_share}, wanted 0 < x <= 1'
        return [] if fine else [wanted]

    def choose(self, key: jax.Array, batch: jax.Array, running: jax.Array) -> jax.Array:
        """Of two normalisations of the same input [..., C], one for each channel."""
        chosen = jax.random.bernoulli(key, self.running_share, running.shape[-1:])
        return jnp.where(chosen.reshape(*(1,) * (running.ndim - 1), -1), running, batch)

    def around(self, apply: Callable[..., Any]) -> Callable[..., Any]:
        """`apply`, a module's, with this in the place of every BatchNorm that trains."""

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
        """For `nn.intercept_methods`: takes the place of every BatchNorm that trains.

        A layer that uses running averages is left as it is, and all else too. The running
        normalisation is by what the statistics were before this step.
        """
        module = context.module
        norm = isinstance(module, layers.BatchNorm) and context.method_name == '__call__'
        if not norm or kwargs['use_running_average'] or module.is_initializing():
            return call(*args, **kwargs)
        # Of a copy: a module makes its parameters once, so that it cannot be called twice.
        twin, frozen = module.clone(parent=None), {**kwargs, 'use_running_average': True}
        running: Any = twin.apply(module.variables, *args, **frozen)
        batch = call(*args, **kwargs)
        return self.choose(module.make_rng(STREAM), batch, running)
