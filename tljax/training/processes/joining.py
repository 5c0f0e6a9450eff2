"""Joins the other processes of a run, and prints who takes part."""

import os
import pathlib
import socket
import time

from tljax.training.processes import launchers, settings, watch
from tljax.training.processes.settings import Flags, Settings
from tljax.types import InputError

TIMEOUT_SECONDS = 300


class CoordinatorError(Exception):
    """The coordinator, or another process, did not answer in time."""


def join(flags: Flags, folder: pathlib.Path, timeout: float = TIMEOUT_SECONDS) -> Settings:
    """Joins the other processes of the run; JAX then sees the devices of all.

    A single process has nobody to join and sees all devices of its host.

    Args:
        flags: of the command line; the rest comes from the environment.
        folder: of the run.
        timeout: seconds in which all processes must have joined.

    Raises:
        InputError: a setting is missing, wrong, or contradicts another one.
        CoordinatorError: process 0 does not answer in time.
    """
    own = settings.resolve(flags, os.environ, launchers.visible_gpus(os.environ))
    if own.processes == 1:
        return own
    started = time.monotonic()
    if own.coordinator and own.process:
        _wait_for(own.coordinator, timeout)
    remaining = max(1, round(timeout - (time.monotonic() - started)))
    watching = watch.begin(own.process or 0, own.coordinator or '', folder, _late(own, timeout))
    _initialize(own, remaining)
    from jax._src import distributed  # JAX has no public access to its key-value store

    state = distributed.global_state
    watching.process, watching.address = state.process_id, state.coordinator_address or ''
    watching.start(state.client)
    return own


def _initialize(own: Settings, timeout: int) -> None:
    """Calls JAX's function of this purpose."""
    import jax

    try:
        jax.distributed.initialize(
            own.coordinator,
            own.processes,
            own.process,
            local_device_ids=own.local_devices,
            # JAX itself would give a process of SLURM one GPU, also if it is alone on its host.
            cluster_detection_method='deactivate' if own.coordinator else None,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=watch.HEARTBEAT_SECONDS,
        )
    except (ValueError, TypeError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise InputError(f'--distributed: {own.launcher}: {reason}') from error


def _wait_for(address: str, timeout: float) -> None:
    """Waits until process 0 accepts connections, because JAX would abort if it does not."""
    host, _, port = address.rpartition(':')
    until = time.monotonic() + timeout
    while True:
        left = until - time.monotonic()
        try:
            socket.create_connection((host.strip('[]'), int(port)), timeout=min(5, left)).close()
            return
        except OSError as error:
            if until - time.monotonic() <= 1:
                raise CoordinatorError(
                    f'--distributed: process 0 at {address} did not answer within {timeout:g} '
                    f'seconds: {error.strerror or error}. --coordinator_timeout sets the time'
                ) from error
        time.sleep(min(1, max(0, left)))


def _late(own: Settings, timeout: float) -> str:
    count = f'all {own.processes}' if own.processes else 'all'
    return (
        f'--distributed: not {count} processes joined at {own.coordinator or "the TPU pod"} within '
        f'{timeout:g} seconds; --coordinator_timeout sets the time'
    )


def lines(own: Settings, batch_size: int) -> list[str]:
    """The processes, their hosts and devices, and the part of each batch that they read.

    Args:
        own: what `join` returned.
        batch_size: images of a batch, over all processes.

    Raises:
        InputError: the processes have different numbers of devices.
    """
    import jax

    count = jax.process_count()
    kinds: dict[int, list[str]] = {process: [] for process in range(count)}
    for device in jax.devices():
        kinds[device.process_index].append(device.device_kind)
    counts = {process: len(kinds[process]) for process in kinds}
    if len(set(counts.values())) > 1:
        raise InputError(f'--distributed: the processes have unequal numbers of devices: {counts}')
    share = batch_size // count
    plural = 'es' if count > 1 else ''
    where = f', coordinator {own.coordinator}' if own.coordinator else ''
    result = [f'{count} process{plural} ({own.launcher}){where}, {jax.device_count()} devices:']
    for process, devices in kinds.items():
        rows = f'rows {process * share} to {(process + 1) * share - 1}'
        kind = ', '.join(sorted(set(devices)))
        result.append(
            f'  process {process} on {_host(process, count)}: {len(devices)} × {kind}; '
            f'reads {rows} of every batch of {batch_size}'
        )
    return result


def _host(process: int, count: int) -> str:
    """The name of the host of a process."""
    if count == 1:
        return socket.gethostname()
    from jax._src import distributed

    client = distributed.global_state.client
    assert client is not None
    return client.blocking_key_value_get(f'{watch.ROOT}host/{process}', 60_000)
