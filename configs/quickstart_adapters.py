"""The quickstart with adapters on a frozen network: LoRA, scale and shift, or residual.

tljax train --config=quickstart_adapters:lora
tljax train --config=quickstart_adapters:scale_shift
tljax train --config=quickstart_adapters:residual

Differences from configs/quickstart.py: only the adapters and the head are trained, the running
statistics are fixed, and there are no baselines. Test accuracy with seed 0: 97.5, 97.0 and 97.4 %;
docs/adapters.md.
"""

import dataclasses

from configs import quickstart
from tljax.config.experiment import Experiment
from tljax.models.adapters import LoRA, ResidualAdapter, ScaleShift
from tljax.strategies.strategies import AdaptersOnly
from tljax.types import InputError, Norm

ADAPTERS = {'lora': LoRA(), 'scale_shift': ScaleShift(), 'residual': ResidualAdapter()}


def get_config(name: str = 'lora') -> Experiment:
    """The quickstart with one of the adapters."""
    if name not in ADAPTERS:
        raise InputError(f'the adapter is {name!r}, wanted one of {list(ADAPTERS)}')
    return dataclasses.replace(
        quickstart.get_config(),
        strategy=AdaptersOnly(),
        adapters=(dataclasses.replace(ADAPTERS[name]),),
        norm=Norm.FROZEN,
        baselines=(),
    )
