"""Where the time of a training step goes, by kind of compiled instruction.

    python -m benchmarks.step_profile [--network=resnet50] [--case='full fine-tuning'] [--rows=16]

One step after a warm-up, under JAX's profiler. On CPU what goes to the thread pool (convolutions,
large products) is not named in it, so that the seconds add up to less than the step's.
"""

import argparse
import collections
import gzip
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax

from benchmarks.step import CUTS, NETWORKS, Ours, timed

LEAST = 0.01  # share of the total that gets its own row


def seconds_by_kind(call: Callable[[], Any]) -> dict[str, float]:
    """The seconds of each kind of instruction, the largest first."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call()
        (path,) = pathlib.Path(folder).rglob('*.trace.json.gz')
        events = json.loads(gzip.decompress(path.read_bytes()))['traceEvents']
    results: collections.Counter[str] = collections.Counter()
    for event in events:
        name = event.get('args', {}).get('hlo_op')
        if event.get('ph') == 'X' and name and not event['name'].startswith('end:'):
            results[name.partition('.')[0]] += event['dur'] / 1e6
    return dict(results.most_common())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--network', choices=NETWORKS, default='resnet50')
    parser.add_argument('--case', default='full fine-tuning')
    parser.add_argument('--rows', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    arguments = parser.parse_args()
    cases = ('forward', 'full fine-tuning', *CUTS[arguments.network])
    if arguments.case not in cases:
        parser.error(f'--case={arguments.case}: wanted one of {list(cases)}')
    ours = Ours(arguments.network, arguments.rows, arguments.size)
    forward = arguments.case == 'forward'
    call, _ = ours.forward() if forward else ours.training(arguments.case)
    call()
    step_seconds = timed(call)
    results = seconds_by_kind(call)
    print(f'{arguments.network}, {arguments.case}: {step_seconds:.2f} s per step, unprofiled\n')
    print('| instructions | seconds | share |')
    print('| --- | --- | --- |')
    total = sum(results.values())
    rest = sum(seconds for seconds in results.values() if seconds < LEAST * total)
    rows = {kind: s for kind, s in results.items() if s >= LEAST * total} | {'the others': rest}
    for kind, seconds in rows.items():
        print(f'| {kind} | {seconds:.2f} | {seconds / total:.0%} |')


if __name__ == '__main__':
    main()
