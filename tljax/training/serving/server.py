"""Serves the page of a run: the implementation of `tljax serve`."""

import argparse
import importlib
import importlib.util
import ipaddress
import logging
import pathlib
import socket
import sys
import warnings
from typing import Any

from PIL import Image

from tljax.records import run_copies
from tljax.training.robustness import subject
from tljax.training.serving import predictor, references
from tljax.training.serving.predictor import Predictor
from tljax.training.trained_run import TrainedRun
from tljax.types import InputError

THREADS = 8  # of them one computes, and the others wait for it or send the page
PACKAGES = ('flask', 'waitress')


def run(arguments: argparse.Namespace) -> int:
    """Serves the page of a run until it is interrupted.

    Args:
        arguments: the parsed command line of `tljax serve`.

    Returns:
        The exit code, 0.

    Raises:
        InputError: the run cannot be served, or the address cannot be used.
    """
    server = start(arguments)
    host, port = arguments.host, server.effective_port
    shown = f'[{host}]' if ':' in host else host
    if not is_loopback(host):
        print(
            f'Warning: {host} is reachable from other machines. Everybody who reaches it can use '
            'the network and see its training images; there is no password.',
            file=sys.stderr,
        )
    print(f'{arguments.run}: http://{shown}:{port}/ (Ctrl-C ends it)', flush=True)
    server.run()
    return 0


def start(arguments: argparse.Namespace) -> Any:
    """The server, which listens, and answers when its method `run` is called."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        names = ' and '.join(missing)
        raise InputError(f"tljax serve needs {names}: pip install 'tljax[serve]'")
    from tljax.training.serving import application

    # A header that states too many pixels is refused, which is all that needs to be said.
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    folder = run_copies.folder(arguments.run)
    answering = read(folder, arguments.training_images, arguments.ood)
    answering.warm_up()
    most_bytes = int(arguments.max_mb * 1e6)
    title = f'Predictions of {pathlib.PurePath(arguments.run).name}'
    return listening(
        application.make(answering, title, arguments.host, most_bytes),
        arguments.host,
        arguments.port,
        most_bytes,
    )


def read(folder: pathlib.Path, training_images: int, score: str) -> Predictor:
    """The predictor of a finished run.

    Args:
        folder: of the run.
        training_images: the largest number of training images to compare images with.
        score: the out-of-distribution score.

    Raises:
        InputError: the folder holds no finished run, or one that reads no images.
    """
    served = subject.read(folder, one_label=False)
    predictor.check(served.network)
    compared = references.read(served, training_images, score)
    calibration = TrainedRun(folder).result.get('calibration')
    return Predictor(served.network, calibration, compared)


def listening(application: Any, host: str, port: int, most_bytes: int) -> Any:
    """A server of waitress at an address; port 0 is any free one.

    Raises:
        InputError: the address cannot be used.
    """
    waitress = importlib.import_module('waitress')
    logging.getLogger('waitress.queue').setLevel(logging.ERROR)  # it warns of every waiting request
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        bound = socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise InputError(f'--host={host} --port={port}: {reason}') from error
    return waitress.create_server(
        application,
        sockets=[bound],
        threads=THREADS,
        ident=None,
        max_request_body_size=most_bytes,
        # Larger bodies than this would be written to a file.
        inbuf_overflow=2 * most_bytes,
        outbuf_overflow=2 * most_bytes,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host."""
    if host.lower() == 'localhost':
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
