"""Kills a sweep at random moments, and compares it with one that was left alone.

    python -m benchmarks.sweep_kills --config=benchmarks/sweep_of_digits.py --kills=20

Runs the sweep of a config twice. One is killed (SIGKILL) at random moments and started again, until
it was killed often enough; then it is left to end. The predictions of all cells have to be equal
bit for bit, and so have their results, apart from times. Then the sweep is called once more, which
has nothing to do, and that call is timed.
"""

import argparse
import json
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

SHARE = 0.8  # of the time of the whole sweep: the most until a kill
ATTEMPTS = 10
TIMES = ('wall_seconds', 'wall_time', 'source')  # parts of a result that may differ


def command(config: str, workdir: pathlib.Path, workers: int) -> list[str]:
    """The command of the sweep."""
    return [
        sys.executable, '-m', 'tljax', 'sweep',
        f'--config={config}', f'--workdir={workdir}', f'--workers={workers}',
    ]  # fmt: skip


def killed(argv: list[str], kills: int, longest: float, rng: random.Random) -> int:
    """Runs a command, kills it at random moments, and lets it end; returns the number of kills."""
    done = 0
    while done < kills:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(rng.uniform(0.5, longest))
            return done  # it has ended before the next kill
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            print(f'killed {done} times', flush=True)
    subprocess.run(argv, check=True)
    return done


def _disturbed(
    arguments: argparse.Namespace, folder: pathlib.Path, longest: float
) -> tuple[pathlib.Path, int]:
    """A sweep that was killed often enough: its folder and the number of kills.

    A sweep that has ended before its last kill is given up for another one.
    """
    rng = random.Random(arguments.seed)
    workdir, kills = folder, -1
    for attempt in range(ATTEMPTS):
        workdir = folder / f'disturbed{attempt}'
        argv = command(arguments.config, workdir, arguments.workers)
        kills = killed(argv, arguments.kills, longest, rng)
        if kills == arguments.kills:
            break
    return workdir, kills


def outcome(workdir: pathlib.Path) -> dict[str, tuple[dict, dict]]:
    """The result and the predictions of each cell."""
    cells = {}
    for folder in sorted((workdir / 'cells').iterdir()):
        result = json.loads((folder / 'result.json').read_text())
        with np.load(folder / 'predictions.npz') as arrays:
            predictions = {name: arrays[name].tobytes() for name in arrays.files}
        cells[folder.name] = ({k: v for k, v in result.items() if k not in TIMES}, predictions)
    return cells


def main() -> None:
    """Runs both sweeps and compares them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', required=True)
    parser.add_argument('--kills', type=int, default=20)
    parser.add_argument('--longest', type=float, default=30.0, help='most seconds until a kill')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--workers', type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone = pathlib.Path(folder) / 'alone'
        start = time.perf_counter()
        subprocess.run(command(arguments.config, alone, arguments.workers), check=True)
        longest = min(arguments.longest, SHARE * (time.perf_counter() - start))
        disturbed, kills = _disturbed(arguments, pathlib.Path(folder), longest)
        first, second = outcome(alone), outcome(disturbed)
        different = [cell for cell in first if second.get(cell) != first[cell]]
        start = time.perf_counter()
        subprocess.run(command(arguments.config, disturbed, arguments.workers), check=True)
        seconds = time.perf_counter() - start
    print(
        f'{len(first)} cells, {kills} kills; {len(different)} cells differ {different}; '
        f'a call without anything to do took {seconds:.1f} s'
    )
    if different or first.keys() != second.keys():
        sys.exit(1)


if __name__ == '__main__':
    main()
