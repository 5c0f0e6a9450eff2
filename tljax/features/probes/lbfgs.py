"""Multinomial logistic regression to convergence, for all strengths of decay in one program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tljax.features.probes.linear import Linear, checked, checked_strengths
from tljax.features.probes.spectrum import Basis, basis
from tljax.types import Array

HISTORY = 20  # pairs that L-BFGS keeps
RENEWAL_STEPS = 25  # times 1, 4, 9, ...: when units become those of the curvature found so far
SLOPE_SHARE = 0.5  # of the slope at the start of a line search that may be left at its end
SEARCH_STEPS = 20
GROUP_COLUMNS = 48  # of kernels that are fitted at a time: enough for products to be fast
PROGRAM_VALUES = 2**27  # logits that are held at a time


class Fit(NamedTuple):
    """Minima of an objective, one for each strength.

    Attributes:
        linear: kernels [L, F, K] and biases [L, K].
        objective: [L], in nats.
        steps: [L] int32.
        converged: [L] bool.
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
    """Minimises `mean cross-entropy + decay / 2 * sum(kernel ** 2)`; the bias is free.

    scikit-learn's `C` is `1 / (N decay)`. Strengths are minimised in groups by L-BFGS
    (Liu & Nocedal 1989), whose products are then those of one larger matrix, each group from where
    the next stronger decay ended, in the axes of the features'
    covariance and in units of the curvature there (Boehning 1992: that of the loss is at most the
    covariance times a factor), so that the number of steps hardly depends on how features are
    scaled. In float32; the objective is that of float64 to 1e-4 of itself.

    Args:
        x: [N, F].
        labels: [N] int.
        decays: [L], more than 0.
        num_classes: K; None for one more than the largest label.
        tolerance: a strength is done when this share of its objective is left to gain, by the
            gradient and the curvature.
        max_steps: after which a group is given up.

    Raises:
        InputError: see `linear.checked`; a decay is not more than 0.
    """
    x, labels, classes = checked(x, labels, num_classes)
    decays = checked_strengths(decays, 'decays')
    turned = basis(x)
    order = jnp.argsort(-decays)
    size = min(len(decays), max(1, GROUP_COLUMNS // classes))
    size = max(1, min(size, PROGRAM_VALUES // (len(x) * classes)))
    start = jnp.zeros((len(turned.variances) + 1, classes))
    parts = []
    for first in range(0, len(decays), size):
        # The last group is filled up, so that all of them are one program.
        places = order[jnp.minimum(jnp.arange(first, first + size), len(decays) - 1)]
        fit, start = _fit(turned, labels, decays[places], start, classes, tolerance, max_steps)
        parts.append(fit)
    back = jnp.argsort(order)
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[back], *parts)


class _State(NamedTuple):
    """Of L minimisations; `weights` and directions are [R, L, K] in units of the curvature."""

    weights: jax.Array
    logits: jax.Array  # [N, L, K]
    gradient: jax.Array
    moves: jax.Array  # [HISTORY, R, L, K]
    changes: jax.Array  # of the gradient
    curvatures: jax.Array  # [HISTORY, L], 1 / (move . change); 0 where there is none
    units: jax.Array  # [R, L, 1]: weights times their unit are those of the basis
    fresh_units: jax.Array  # those of the curvature at these weights
    step: jax.Array
    steps: jax.Array  # [L]
    done: jax.Array  # [L]


class _Problem(NamedTuple):
    """L objectives on the same examples."""

    z: jax.Array  # [N, R], the last column ones
    variances: jax.Array  # [R, 1, 1]
    targets: jax.Array  # [N, 1, K]
    decays: jax.Array  # [R, L, 1], 0 for the bias

    def gradient(self, found: jax.Array, logits: jax.Array) -> jax.Array:
        """[R, L, K], of weights in the basis."""
        share = jax.nn.softmax(logits)
        # 1 - p has no digits left where p is nearly 1, and the sum of the others has.
        others = ((1 - self.targets) * share).sum(-1, keepdims=True)
        rest = jnp.where(self.targets > 0, -others, share) / len(self.z)
        return jnp.tensordot(self.z, rest, ((0,), (0,))) + self.decays * found

    def objective(self, found: jax.Array, logits: jax.Array) -> jax.Array:
        """[L], of weights in the basis."""
        # As log(1 + the others), so that a loss near 0 keeps its digits.
        ahead = logits - (self.targets * logits).sum(-1, keepdims=True)
        top = ahead.max(-1, keepdims=True)
        others = ((1 - self.targets) * jnp.exp(ahead - top)).sum(-1)
        losses = top[..., 0] + jnp.log1p(others + jnp.expm1(-top[..., 0]))
        return losses.mean(0) + (self.decays * jnp.square(found)).sum((0, 2)) / 2

    def units(self, logits: jax.Array) -> jax.Array:
        """One over the root of the curvature along every axis, [R, L, 1]."""
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
    """Minima from weights [R, K] in the basis, and those of the last strength."""
    with jax.default_matmul_precision('highest'):
        problem = _problem(turned, labels, decays, classes)
        shape = (problem.z.shape[1], len(decays), classes)
        found = jnp.broadcast_to(start[:, None], shape)
        logits = jnp.tensordot(problem.z, found, 1)
        units = problem.units(logits)
        state = _State(
            weights=found / units,
            logits=logits,
            gradient=units * problem.gradient(found, logits),
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
        found = end.units * end.weights
        objective = problem.objective(found, jnp.tensordot(problem.z, found, 1))
        fit = Fit(turned.linear(found[:-1], found[-1]), objective, end.steps, end.done)
        return fit, found[:, -1]


def _advance(problem: _Problem, state: _State, tolerance: float) -> _State:
    """One step of every minimisation that is not done."""
    state = _renewed(state)
    direction = -_newton_like(state)
    slope = _dot(direction, state.gradient)
    # Rounding can turn a direction upwards when all but nothing is left to gain.
    direction = jnp.where((slope < 0)[None, :, None], direction, -state.gradient)
    change = jnp.tensordot(problem.z, state.units * direction, 1)
    length = jnp.where(state.done, 0.0, _line_search(problem, state, direction, change))
    move = length[None, :, None] * direction
    weights = state.weights + move
    logits = state.logits + length[None, :, None] * change
    found = state.units * weights
    slopes = problem.gradient(found, logits)
    # By the curvature along the axes, and by what L-BFGS has learnt of it one step before.
    fresh_units = problem.units(logits)
    gain = jnp.square(fresh_units * slopes).sum((0, 2)) / 2
    gain = jnp.maximum(gain, -slope / 2)
    gradient = state.units * slopes
    turn = gradient - state.gradient
    product, place = _dot(move, turn), state.step % HISTORY
    return state._replace(
        weights=weights,
        logits=logits,
        gradient=gradient,
        moves=state.moves.at[place].set(move),
        changes=state.changes.at[place].set(turn),
        curvatures=state.curvatures.at[place].set(jnp.where(product > 0, 1 / product, 0.0)),
        fresh_units=fresh_units,
        step=state.step + 1,
        steps=state.steps + ~state.done,
        done=state.done | (gain <= tolerance * problem.objective(found, logits)),
    )


def _renewed(state: _State) -> _State:
    """Every so often, the same with units of its own curvature, from which L-BFGS starts anew."""
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
    """L-BFGS's product of its inverse Hessian and the gradient. Source: Nocedal 1980."""
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
    """How far to go, [L]: Newton's method between bounds on a convex function of one variable.

    Logits are linear in the length, so that none of it needs a product with the features.
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
        found = (jnp.abs(first) <= enough) | state.done
        low = jnp.where(first < 0, length, low)
        high = jnp.where(first < 0, high, length)
        newton = length - first / jnp.maximum(second, jnp.finfo(jnp.float32).tiny)
        middle = jnp.where(jnp.isfinite(high), (low + high) / 2, 4 * length)
        inside = (newton > low) & (newton < high) & (newton < 16 * length)
        following = jnp.where(inside, newton, middle)
        return jnp.where(found, length, following), low, high, found, step + 1

    ones = jnp.ones(direction.shape[1])
    start = (ones, 0 * ones, jnp.inf * ones, ones < 0, 0)
    return jax.lax.while_loop(
        lambda carry: (carry[4] < SEARCH_STEPS) & ~carry[3].all(), search, start
    )[0]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    """[R, L, K] twice to [L]."""
    return (a * b).sum((0, 2))
