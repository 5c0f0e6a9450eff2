"""Several workers on this machine, each a process with its own cores or devices."""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from tljax.training.signals import Interrupted

GPUS = pathlib.Path('/proc/driver/nvidia/gpus')  # has a folder for each GPU of the machine
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
MEMORY_SHARE = 0.9  # of a GPU, for all of its workers


def run(command: Sequence[str], workers: int, settled: Callable[[], int]) -> int:
    """Runs workers until all of them have ended.

    A worker that is killed is started again, unless no cell was ended since its start.

    Args:
        command: the arguments of a worker after `python -m tljax`.
        workers: their number.
        settled: counts the cells that are done or failed.

    Returns:
        The largest exit code of the workers.

    Raises:
        Interrupted: a signal stopped this process; the workers were stopped, too.
    """
    stop = _Stop()
    with stop:
        running = {index: _start(command, index, workers) for index in range(workers)}
        settled_at_start = dict.fromkeys(running, settled())
        worst = 0
        while running:
            time.sleep(0.2)
            if stop.number and not stop.sent:
                stop.send(running.values())
            for index, process in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[index]
                if code < 0 and not stop.number:
                    now = settled()
                    name = signal.Signals(-code).name
                    print(f'worker {index} was ended by {name}', file=sys.stderr, flush=True)
                    if now > settled_at_start[index]:
                        running[index] = _start(command, index, workers)
                        settled_at_start[index] = now
                        continue
                    code = 1
                worst = max(worst, code)
    if stop.number:
        raise Interrupted(stop.number)
    return worst


class _Stop:
    """Notes SIGTERM and SIGINT, and passes them on to the workers."""

    def __init__(self):
        self.number, self.sent, self._before = 0, False, {}

    def __enter__(self) -> '_Stop':
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        self.number = number

    def send(self, processes) -> None:
        """Asks the workers to stop after the current step."""
        self.sent = True
        for process in processes:
            process.terminate()


def _start(command: Sequence[str], index: int, workers: int) -> subprocess.Popen:
    """Starts a worker on its share of the GPUs, or else of the cores."""
    environment = dict(os.environ)
    arguments = [sys.executable, '-m', 'tljax', *command, f'--worker={index}/{workers}']
    gpus = _gpus()
    if gpus:
        environment['CUDA_VISIBLE_DEVICES'] = gpus[index % len(gpus)]
        of_one_gpu = -(-workers // len(gpus))
        share = f'{MEMORY_SHARE / of_one_gpu:.2f}'
        environment.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', share)
    # A session of its own: Ctrl-C reaches this process only, which stops the workers once.
    return subprocess.Popen(arguments, env=environment, start_new_session=True)


def _gpus() -> list[str]:
    """The GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    if 'CUDA_VISIBLE_DEVICES' in os.environ:
        return [one for one in os.environ['CUDA_VISIBLE_DEVICES'].split(',') if one]
    return [str(index) for index, _ in enumerate(GPUS.glob('*'))]


def begin(index: int, workers: int) -> None:
    """Prepares this process as a worker, before JAX is imported.

    It is limited to its share of the cores, and it is stopped by SIGTERM if the process that
    started it is killed.

    Args:
        index: of this worker.
        workers: their number.
    """
    with contextlib.suppress(OSError, AttributeError):  # on other systems than Linux
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if not hasattr(os, 'sched_setaffinity') or _gpus():
        return
    cores = sorted(os.sched_getaffinity(0))
    own = [core for place, core in enumerate(cores) if place % workers == index % workers]
    os.sched_setaffinity(0, own or {cores[index % len(cores)]})
