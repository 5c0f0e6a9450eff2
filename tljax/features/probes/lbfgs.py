"""Multinomial logistic regression by L-BFGS, for several weight decays in one program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tljax.features.probes.linear import Linear, checked, checked_decays
from tljax.features.probes.spectrum import Basis, basis
from tljax.types import Array

HISTORY = 20  # pairs of moves and gradient changes that L-BFGS keeps
RENEWAL_STEPS = 25  # units are renewed at steps 25, 100, 225, ...: this times 1, 4, 9, ...
SLOPE_SHARE = 0.5  # a line search ends when the slope has fallen to this share
SEARCH_STEPS = 20
GROUP_COLUMNS = 48  # columns of kernels fitted at a time: enough for fast matrix products
PROGRAM_VALUES = 2**27  # logits in memory at a time


class Fit(NamedTuple):
    """Minima of the objective, one for each of L strengths.

    Attributes:
        linear: kernels [L, F, K] and biases [L, K].
        objective: [L], in nats.
        steps: [L] int32, steps of L-BFGS.
        converged: [L] bool; False if `max_steps` ended the minimisation.
    """

    linear: Linear
    objective: jax.Array
    steps: jax.Array
    converged: jax.Array


def logistic(
    x: Array,
    labels: Array,
    decays: Any,
    *,
    num_classes: int | None = None,
    tolerance: float = 1e-7,
    max_steps: int = 1000,
) -> Fit:
    """Minimises `mean cross-entropy + decay / 2 * sum(kernel ** 2)`; the bias has no decay.

    scikit-learn's `C` is `1 / (N decay)`. Decays are solved in groups, so that each step is one
    large matrix product. A group starts from the solution of the next stronger decay. The variables
    are the weights along the principal axes of the features, in units of the loss's curvature, so
    the number of steps hardly depends on the scale of the features. In float32 the objective
    agrees with float64 to a relative 1e-4.

    Args:
        x: [N, F].
        labels: [N] int.
        decays: [L], more than 0.
        num_classes: K; None for one more than the largest label.
        tolerance: a decay has converged if the possible decrease of its objective, estimated from
            gradient and curvature, is less than this share of it.
        max_steps: limit of the steps of a group.

    Raises:
        InputError: see `linear.checked`; a decay is not more than 0.

    Source: L-BFGS, Liu & Nocedal 1989; Boehning 1992, who bounds the curvature by a multiple of the
    features' covariance.
    """
    x, labels, classes = checked(x, labels, num_classes)
    decays = checked_decays(decays)
    turned = basis(x)
    order = jnp.argsort(-decays)
    size = min(len(decays), max(1, GROUP_COLUMNS // classes))
    size = max(1, min(size, PROGRAM_VALUES // (len(x) * classes)))
    start = jnp.zeros((len(turned.variances) + 1, classes))
    parts = []
    for first in range(0, len(decays), size):
        # The last group is padded, so that all groups share one program.
        places = order[jnp.minimum(jnp.arange(first, first + size), len(decays) - 1)]
        fit, start = _fit(turned, labels, decays[places], start, classes, tolerance, max_steps)
        parts.append(fit)
    back = jnp.argsort(order)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)


class _State(NamedTuple):
    """The state of L minimisations; weights and directions are in units of the curvature."""

    weights: jax.Array  # [R, L, K]
    logits: jax.Array  # [N, L, K]
    gradient: jax.Array  # [R, L, K]
    moves: jax.Array  # [HISTORY, R, L, K], differences of the weights
    changes: jax.Array  # [HISTORY, R, L, K], differences of the gradient
    curvatures: jax.Array  # [HISTORY, L], 1 / (move . change); 0 for an unused entry
    units: jax.Array  # [R, L, 1]; weights times units are weights in the basis
    fresh_units: jax.Array  # [R, L, 1], the units at the present weights
    step: jax.Array  # []
    steps: jax.Array  # [L]
    done: jax.Array  # [L]


class _Problem(NamedTuple):
    """L objectives on the same examples; weights [R, L, K] are in the basis."""

    z: jax.Array  # [N, R], the last column ones
    variances: jax.Array  # [R, 1, 1]
    targets: jax.Array  # [N, 1, K]
    decays: jax.Array  # [R, L, 1], 0 for the bias

    def gradient(self, weights: jax.Array, logits: jax.Array) -> jax.Array:
        """[R, L, K], with respect to the weights."""
        share = jax.nn.softmax(logits)
        # If p is nearly 1, 1 - p loses its digits; the sum of the other probabilities keeps them.
        others = ((1 - self.targets) * share).sum(-1, keepdims=True)
        rest = jnp.where(self.targets > 0, -others, share) / len(self.z)
        return jnp.tensordot(self.z, rest, ((0,), (0,))) + self.decays * weights

    def objective(self, weights: jax.Array, logits: jax.Array) -> jax.Array:
        """[L], in nats."""
        # Computed as log(1 + sum of the others), so that a loss near 0 keeps its digits.
        margins = logits - (self.targets * logits).sum(-1, keepdims=True)
        top = margins.max(-1, keepdims=True)
        others = ((1 - self.targets) * jnp.exp(margins - top)).sum(-1)
        losses = top[..., 0] + jnp.log1p(others + jnp.expm1(-top[..., 0]))
        return losses.mean(0) + (self.decays * jnp.square(weights)).sum((0, 2)) / 2

    def units(self, logits: jax.Array) -> jax.Array:
        """1 / sqrt(curvature) along every axis, [R, L, 1]."""
        share = jax.nn.softmax(logits)
        weight = (share * (1 - share)).mean((0, 2))[None, :, None]
        return jax.lax.rsqrt(weight * self.variances + self.decays)


def _problem(turned: Basis, labels: jax.Array, decays: jax.Array, classes: int) -> _Problem:
    ones = jnp.ones((len(turned.z), 1))
    decayed = jnp.append(jnp.ones_like(turned.variances), 0.0)
    return _Problem(
        z=jnp.concatenate([turned.z, ones], 1),
        variances=jnp.append(turned.variances, 1.0)[:, None, None],
        targets=jax.nn.one_hot(labels, classes)[:, None],
        decays=decayed[:, None, None] * decays[None, :, None],
    )


@jax.jit(static_argnums=4)
def _fit(
    turned: Basis,
    labels: jax.Array,
    decays: jax.Array,
    start: jax.Array,
    classes: int,
    tolerance: float,
    max_steps: int,
) -> tuple[Fit, jax.Array]:
    """Minimises from weights [R, K] in the basis; also returns the weights of the last decay."""
    with jax.default_matmul_precision('highest'):
        problem = _problem(turned, labels, decays, classes)
        shape = (problem.z.shape[1], len(decays), classes)
        weights = jnp.broadcast_to(start[:, None], shape)
        logits = jnp.tensordot(problem.z, weights, 1)
        units = problem.units(logits)
        state = _State(
            weights=weights / units,
            logits=logits,
            gradient=units * problem.gradient(weights, logits),
            moves=jnp.zeros((HISTORY, *shape)),
            changes=jnp.zeros((HISTORY, *shape)),
            curvatures=jnp.zeros((HISTORY, len(decays))),
            units=units,
            fresh_units=units,
            step=jnp.zeros((), jnp.int32),
            steps=jnp.zeros(len(decays), jnp.int32),
            done=jnp.zeros(len(decays), bool),
        )
        end = jax.lax.while_loop(
            lambda state: (state.step < max_steps) & ~state.done.all(),
            lambda state: _advance(problem, state, tolerance),
            state,
        )
        weights = end.units * end.weights
        objective = problem.objective(weights, jnp.tensordot(problem.z, weights, 1))
        fit = Fit(turned.linear(weights[:-1], weights[-1]), objective, end.steps, end.done)
        return fit, weights[:, -1]


def _advance(problem: _Problem, state: _State, tolerance: float) -> _State:
    """One step of every minimisation that has not converged."""
    state = _renewed(state)
    direction = -_newton_like(state)
    slope = _dot(direction, state.gradient)
    # Close to the minimum rounding can make a direction point upwards.
    direction = jnp.where((slope < 0)[None, :, None], direction, -state.gradient)
    change = jnp.tensordot(problem.z, state.units * direction, 1)
    length = jnp.where(state.done, 0.0, _line_search(problem, state, direction, change))
    move = length[None, :, None] * direction
    scaled = state.weights + move
    logits = state.logits + length[None, :, None] * change
    weights = state.units * scaled
    slopes = problem.gradient(weights, logits)
    # The possible decrease: by the curvature along the axes, and by L-BFGS one step before.
    fresh_units = problem.units(logits)
    gain = jnp.square(fresh_units * slopes).sum((0, 2)) / 2
    gain = jnp.maximum(gain, -slope / 2)
    gradient = state.units * slopes
    difference = gradient - state.gradient
    product, place = _dot(move, difference), state.step % HISTORY
    return state._replace(
        weights=scaled,
        logits=logits,
        gradient=gradient,
        moves=state.moves.at[place].set(move),
        changes=state.changes.at[place].set(difference),
        curvatures=state.curvatures.at[place].set(jnp.where(product > 0, 1 / product, 0.0)),
        fresh_units=fresh_units,
        step=state.step + 1,
        steps=state.steps + ~state.done,
        done=state.done | (gain <= tolerance * problem.objective(weights, logits)),
    )


def _renewed(state: _State) -> _State:
    """Changes the units to those of the present curvature, at renewal steps; L-BFGS restarts."""
    times = jnp.round(jnp.sqrt(state.step / RENEWAL_STEPS)).astype(jnp.int32)
    due = (state.step > 0) & (state.step == RENEWAL_STEPS * times**2)
    units = jnp.where(due, state.fresh_units, state.units)
    return state._replace(
        weights=state.weights * (state.units / units),
        gradient=state.gradient * (units / state.units),
        curvatures=jnp.where(due, 0.0, state.curvatures),
        units=units,
    )


def _newton_like(state: _State) -> jax.Array:
    """The product of L-BFGS's inverse Hessian and the gradient. Source: Nocedal 1980."""
    last = (state.step - 1) % HISTORY

    def forward(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        result, shares = carry
        place = (state.step - 1 - i) % HISTORY
        share = state.curvatures[place] * _dot(state.moves[place], result)
        return result - share[None, :, None] * state.changes[place], shares.at[place].set(share)

    def backward(i: jax.Array, result: jax.Array) -> jax.Array:
        place = (state.step + i) % HISTORY
        back = state.curvatures[place] * _dot(state.changes[place], result)
        return result + (shares[place] - back)[None, :, None] * state.moves[place]

    start = state.gradient, jnp.zeros_like(state.curvatures)
    result, shares = jax.lax.fori_loop(0, HISTORY, forward, start)
    size = _dot(state.changes[last], state.changes[last]) * state.curvatures[last]
    result = result * jnp.where(size > 0, 1 / size, 1.0)[None, :, None]
    return jax.lax.fori_loop(0, HISTORY, backward, result)


def _line_search(
    problem: _Problem, state: _State, direction: jax.Array, change: jax.Array
) -> jax.Array:
    """The step length [L]: Newton's method between bounds on a convex function of one variable.

    Logits are linear in the length, so no product with the features is needed.
    """
    scaled = state.units * direction
    tilt = (problem.decays * state.units * state.weights * scaled).sum((0, 2))
    bend = (problem.decays * jnp.square(scaled)).sum((0, 2))

    def slopes(length: jax.Array) -> tuple[jax.Array, jax.Array]:
        share = jax.nn.softmax(state.logits + length[None, :, None] * change)
        first = ((share - problem.targets) * change).sum(-1).mean(0)
        mean = (share * change).sum(-1, keepdims=True)
        second = (share * jnp.square(change - mean)).sum(-1).mean(0)
        return first + tilt + length * bend, second + bend

    enough = SLOPE_SHARE * jnp.abs(_dot(direction, state.gradient))

    def search(carry):
        length, low, high, _, step = carry
        first, second = slopes(length)
        ends = (jnp.abs(first) <= enough) | state.done
        low = jnp.where(first < 0, length, low)
        high = jnp.where(first < 0, high, length)
        newton = length - first / jnp.maximum(second, jnp.finfo(jnp.float32).tiny)
        middle = jnp.where(jnp.isfinite(high), (low + high) / 2, 4 * length)
        inside = (newton > low) & (newton < high) & (newton < 16 * length)
        following = jnp.where(inside, newton, middle)
        return jnp.where(ends, length, following), low, high, ends, step + 1

    ones = jnp.ones(direction.shape[1])
    start = (ones, 0 * ones, jnp.inf * ones, ones < 0, 0)
    return jax.lax.while_loop(
        lambda carry: (carry[4] < SEARCH_STEPS) & ~carry[3].all(), search, start
    )[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """The product [L] of two arrays [R, L, K]."""
    return (a * b).sum((0, 2))
