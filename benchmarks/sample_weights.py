"""What weights of source examples cost, and what they recover where the truth is known.

    python -m benchmarks.sample_weights [--source=50000] [--target=2000] [--width=512] [--rounds=3]

Float32 features of two Gaussian domains that are one step apart along one of the axes. Printed for
each estimator are the medians of the seconds on the wall and of the processor, which other programs
on the machine disturb less, the correlation with the known ratio of densities, and the effective
share of the source.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from tljax import sample_transfer

CLASSES = 100


def domains(count: int, target_count: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source [N, F], target [M, F] and the ratio [N] of their densities at the source."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(count, width)).astype(np.float32)
    target = rng.normal(size=(target_count, width)).astype(np.float32)
    target[:, 0] += 1
    return source, target, np.exp(source[:, 0].astype(np.float64))


def estimators(source: np.ndarray, target: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Calls by name."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, CLASSES, len(source))
    probabilities = rng.dirichlet(np.ones(CLASSES), len(target))
    errors = [rng.normal(size=(len(a), CLASSES)).astype(np.float32) for a in (source, target)]
    align = jax.jit(sample_transfer.gradient_alignment)
    boost = jax.jit(sample_transfer.tradaboost, static_argnames='rounds')
    losses = [rng.random(len(a), dtype=np.float32) for a in (source, target)]
    return {
        'logistic_ratio': lambda: sample_transfer.logistic_ratio(source=source, target=target),
        'kliep': lambda: sample_transfer.kliep(source=source, target=target),
        'kernel_mean_matching, blocks of 1000': lambda: sample_transfer.kernel_mean_matching(
            source=source, target=target
        ),
        'nearest_selection': lambda: sample_transfer.nearest_selection(
            source=source, target=target
        ),
        'class_importance': lambda: sample_transfer.class_importance(
            source_labels=labels, target_probabilities=probabilities
        ),
        'gradient_alignment': lambda: np.asarray(
            align(
                source_features=source,
                source_errors=errors[0],
                target_features=target,
                target_errors=errors[1],
            )
        ),
        'tradaboost, a round': lambda: np.asarray(
            boost(
                np.ones_like(losses[0]),
                np.ones_like(losses[1]),
                source_losses=losses[0],
                target_losses=losses[1],
                rounds=10,
            )[0]
        ),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--source', type=int, default=50_000)
    parser.add_argument('--target', type=int, default=2_000)
    parser.add_argument('--width', type=int, default=512)
    parser.add_argument('--rounds', type=int, default=3)
    arguments = parser.parse_args()
    source, target, ratio = domains(arguments.source, arguments.target, arguments.width)
    print('| estimator | seconds | of the processor | correlation | effective share |')
    print('| --- ' * 5 + '|')
    for name, call in estimators(source, target).items():
        times, weights = [], np.ones(len(source))
        for _ in range(arguments.rounds):
            started = time.perf_counter(), time.process_time()
            weights = call()
            times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        wall, processor = (statistics.median(column) for column in zip(*times, strict=True))
        known = name.split(',')[0] in ('logistic_ratio', 'kliep', 'kernel_mean_matching')
        correlation = f'{np.corrcoef(weights, ratio)[0, 1]:.2f}' if known else ''
        share = sample_transfer.effective_sample_size(weights) / len(weights)
        print(
            f'| {name} | {wall:.2f} | {processor:.2f} | {correlation} | {share:.2f} |', flush=True
        )


if __name__ == '__main__':
    main()
