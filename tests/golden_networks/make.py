"""Writes the figures of other libraries' networks with weights by formula, in float64.

    python -m tests.golden_networks.make FAMILY [FAMILY ...]

The networks of a family are in `make_<family>.py`. Needs torch, timm and transformers. Written with
torch 2.14, torchvision 0.29, timm 1.0.31 and transformers 5.24.
"""

# pyright: reportMissingImports=false

import dataclasses
import importlib
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tests import golden_small
from tests.golden_networks import figures


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A network of another library.

    Attributes:
        module: made with stochastic depth, if the case tests it.
        backbone: the class and the fields that tljax has to recognise.
        naming: the table that names the entries.
        size: of the images in training, and by default in evaluation.
        outputs: the outputs [B, F] of the module for images [B, 3, H, W].
        sizes: of the images in evaluation; () for `size` alone.
        rename: the name of an entry in the file, if it differs from the module's.
        options: what is stated beside the entries, as in config.json.
        prefix: of the names of the network's entries, as in a checkpoint of a training.
        without: the beginnings of the names of entries that the file omits.
    """

    module: torch.nn.Module
    backbone: Mapping[str, Any]
    naming: str
    size: int
    outputs: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor] = lambda m, x: m(x)
    sizes: Sequence[int] = ()
    rename: Callable[[str], str] = lambda name: name
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prefix: str = ''
    without: tuple[str, ...] = ()


def fixed_stochastic_depth() -> Callable[[], None]:
    """Replaces the random masks of timm and torchvision by `figures.keeps`; returns a reset."""
    import timm.layers.drop
    import torchvision

    calls = itertools.count()

    def masked(x: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
        if not training or rate == 0:
            return x
        keep = torch.from_numpy(figures.keeps(next(calls))).to(x.dtype)
        return x * keep.reshape(-1, *(1,) * (x.ndim - 1)) / (1 - rate)

    timm.layers.drop.DropPath.forward = lambda self, x: masked(x, self.drop_prob, self.training)
    torchvision.ops.StochasticDepth.forward = lambda self, x: masked(x, self.p, self.training)

    def reset() -> None:
        nonlocal calls
        calls = itertools.count()

    return reset


def measured(case: Case) -> dict[str, Any]:
    """The figures of a case."""
    module = case.module
    shapes = {
        case.rename(name): list(value.shape)
        for name, value in module.state_dict().items()
        if not name.startswith(case.without or ('\0',))
    }
    filled = figures.entries(shapes)
    state = {
        name: torch.from_numpy(filled[case.rename(name)])
        for name in module.state_dict()
        if not name.startswith(case.without or ('\0',))
    }
    module.load_state_dict(state, strict=False)
    module.double()
    result = {
        'naming': case.naming,
        'backbone': case.backbone,
        'manifest': shapes,
        'options': case.options,
        'prefix': case.prefix,
        'size': case.size,
        'outputs': {},
    }
    module.eval()
    for size in case.sizes or (case.size,):
        with torch.no_grad():
            outputs = case.outputs(module, images(2, size))
        result['outputs'][str(size)] = [rounded(row) for row in outputs.tolist()]
    module.train()
    outputs = case.outputs(module, images(figures.BATCH, case.size))
    weights = torch.from_numpy(figures.weights_of_loss(tuple(outputs.shape)))
    loss = (outputs * weights).sum()
    loss.backward()
    norms = {
        case.rename(name): float(p.grad.norm())
        for name, p in module.named_parameters()
        if p.grad is not None and case.rename(name) in shapes
    }
    running = {
        case.rename(name): float(value.norm())
        for name, value in module.state_dict().items()
        if name.endswith(('running_mean', 'running_var'))
    }
    return result | {
        'loss': rounded([float(loss.detach())])[0],
        'gradient_norms': dict(zip(norms, rounded(norms.values()), strict=True)),
        'running_norms': dict(zip(running, rounded(running.values()), strict=True)),
    }


def images(batch: int, size: int) -> torch.Tensor:
    """Normalised images [B, 3, H, W] float64."""
    return torch.from_numpy(golden_small.images(batch, size)).permute(0, 3, 1, 2).double()


def rounded(values: Any) -> list[float]:
    """Each value to `figures.DIGITS` digits."""
    return [float(f'{value:.{figures.DIGITS}g}') for value in values]


def main() -> None:
    """Writes the file of each family."""
    reset = fixed_stochastic_depth()
    for family in sys.argv[1:]:
        result = {}
        for name, case in importlib.import_module(f'tests.golden_networks.make_{family}').cases():
            reset()
            result[name] = measured(case)
        (figures.FOLDER / f'{family}.json').write_text(json.dumps(result) + '\n')


if __name__ == '__main__':
    main()
