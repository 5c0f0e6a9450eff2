"""A process of a small run without training: `python member.py PORT PROCESS ACTION [SECONDS]`.

It joins another one, adds numbers of both again and again, and does what ACTION says after a while.
SECONDS replaces JAX's heartbeat, so that a test need not wait for it.
"""

import os
import pathlib
import sys

from tljax.training.processes import joining, watch
from tljax.training.processes.settings import Flags


class FaultError(Exception):
    """A fault of this process alone."""


def add(until):
    """Sums over the devices of all processes, `until` times."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from tljax import devices

    mesh = devices.make_mesh()
    rows = np.ones(jax.local_device_count(), np.float32)
    array = jax.make_array_from_process_local_data(devices.split(mesh), rows)
    total = jax.jit(jnp.sum, out_shardings=devices.replicated(mesh))
    for _ in range(until):
        float(total(array))


def main(port, process, action, seconds=None):
    """Runs the member."""
    if seconds:
        watch.HEARTBEAT_SECONDS = int(seconds)
        watch.RENEWAL_SECONDS, watch.STALE_SECONDS = 0.2, int(seconds) / 3
        watch.FAILURE_SECONDS = 1.0
    flags = Flags(coordinator=f'localhost:{port}', processes=2, process=int(process))
    own = joining.join(flags, pathlib.Path(), timeout=3 if action == 'late' else 60)
    print(*joining.lines(own, 8), sep='\n', flush=True)
    try:
        with watch.blames_ended_processes():
            add(20)
            if action == 'kill':
                os.kill(os.getpid(), 9)
            if action == 'abort':
                os.abort()
            if action == 'fail':
                raise FaultError
            if action == 'end':
                return
            add(10**9)
    except FaultError:
        watch.leave(2)
        sys.exit(2)


if __name__ == '__main__':
    main(*sys.argv[1:])
