"""Settings of the environment; XLA's flags and caches must be set before JAX is imported."""

import os
import pathlib
import tempfile

# On CPU, computes float32 convolutions by Eigen instead of YNNPACK, whose gradients of 1x1 kernels
# are slow. `python -m benchmarks.xla_flag` measures it. Other platforms ignore the flag.
CPU_CONVOLUTIONS = '--xla_cpu_experimental_ynn_fusion_type=-individual_convolution'


def prepare() -> None:
    """Sets environment variables for JAX, except those that the user has set."""
    flags = os.environ.get('XLA_FLAGS', '')
    if CPU_CONVOLUTIONS.split('=')[0] not in flags:
        os.environ['XLA_FLAGS'] = f'{flags} {CPU_CONVOLUTIONS}'.strip()
    os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(cache_dir() / 'compiled'))
    # By default JAX does not cache compilations under a second, so none of a small network.
    os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')


def offline() -> bool:
    """Whether `TLJAX_OFFLINE` or `HF_HUB_OFFLINE` says to use cached files only."""
    values = (os.environ.get(name, '') for name in ('TLJAX_OFFLINE', 'HF_HUB_OFFLINE'))
    return any(value.strip().lower() in ('1', 'true', 'yes', 'on') for value in values)


def cache_dir() -> pathlib.Path:
    """The user's cache folder for tljax: `TLJAX_CACHE`, else `tljax` in the XDG cache folder.

    A user without a home folder has one for temporary files.
    """
    if folder := os.environ.get('TLJAX_CACHE'):
        return pathlib.Path(folder).expanduser()
    base = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
    try:
        return pathlib.Path(base).expanduser() / 'tljax'
    except RuntimeError:  # no HOME and no entry in passwd, as in some containers
        return pathlib.Path(tempfile.gettempdir()) / f'tljax-{os.getuid()}'
