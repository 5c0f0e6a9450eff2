"""Solvers, which fit a head to the minimum of its loss instead of taking steps on batches."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tljax.types import Params, Solution


@dataclasses.dataclass(slots=True, kw_only=True)
class LBFGS:
    """L-BFGS with a zoom line search, until the gradient's norm falls below `tolerance`.

    `weight_decay / 2` times the squared norm of the kernels is added to the mean loss, because the
    loss of separable classes alone has no minimum. In scikit-learn's terms it is `1 / (C N)`.
    With the squared error of one linear layer, the same minimum is computed in closed form.
    Source: Liu & Nocedal 1989, "On the limited memory BFGS method".

    Attributes:
        weight_decay: strength of the penalty on the kernels.
        max_iterations: after which the solver stops.
        tolerance: the norm of the gradient at which the solver stops.
    """

    weight_decay: float = 0.01
    max_iterations: int = 500
    tolerance: float = 1e-4

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        problems = []
        if self.weight_decay < 0:
            problems.append(f'weight_decay is {self.weight_decay}, wanted 0 or more')
        if self.max_iterations < 1:
            problems.append(f'max_iterations is {self.max_iterations}, wanted 1 or more')
        if self.tolerance <= 0:
            problems.append(f'tolerance is {self.tolerance}, wanted more than 0')
        return problems

    def __call__(
        self, objective: Callable[[Params, Any], jax.Array], start: Params, data: Any
    ) -> Solution:
        """See `types.Solver`."""

        @jax.jit
        def solve(start: Params, data: Any) -> Solution:
            def regularised(params: Params) -> jax.Array:
                squares = [jnp.sum(x**2) for x in jax.tree.leaves(params) if x.ndim > 1]
                return objective(params, data) + self.weight_decay / 2 * sum(squares)

            return self._minimise(regularised, start)

        return solve(start, data)

    def _minimise(self, objective: Callable[[Params], jax.Array], start: Params) -> Solution:
        method = optax.lbfgs()
        evaluate = optax.value_and_grad_from_state(objective)

        def unfinished(carry) -> jax.Array:
            _, state, iterations = carry
            norm = optax.tree.norm(optax.tree.get(state, 'grad'))
            above = (iterations == 0) | (norm > self.tolerance)
            return above & (iterations < self.max_iterations)

        def iterate(carry):
            params, state, iterations = carry
            value, grad = evaluate(params, state=state)
            updates, state = method.update(
                grad, state, params, value=value, grad=grad, value_fn=objective
            )
            return optax.apply_updates(params, updates), state, iterations + 1

        carry = (start, method.init(start), jnp.int32(0))
        params: Any
        params, _, iterations = jax.lax.while_loop(unfinished, iterate, carry)
        value, grad = jax.value_and_grad(objective)(params)
        return Solution(params, value, optax.tree.norm(grad), iterations)
