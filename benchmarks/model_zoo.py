"""Writes docs/networks.md: size, cost, parity and speed of every family of networks.

    python -m benchmarks.model_zoo

Parameters are counted from shapes, and multiply-adds come from XLA's analysis of the lowered
program, so no network of the second table is allocated or compiled. The parity error is that of
`tests/models`: logits or pooled features of small networks against those of the original library,
which are stored with the tests. The speed is measured for one member of each family; it needs about
2 GB of memory and some minutes. `--every_case` compares more networks, which takes much longer.
"""

import argparse
import dataclasses
import functools
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.model_zoo_networks import LICENCES, NETWORKS, Listed
from tests import golden_small
from tests.models import test_backbones, test_golden_networks
from tljax.models import stages
from tljax.models.stages import HEAD, Model
from tljax.weights import adapt

FILE = pathlib.Path(__file__).parents[1] / 'docs' / 'networks.md'
BATCH, REPEATS = 16, 5
OPENING = """# Networks

This page lists the image networks. `python -m benchmarks.model_zoo` measures them and writes it.
[text.md](text.md#the-network) describes the text network, [Which network?](which_network.md) helps
to choose, and [weights.md](weights.md#what-is-recognised) lists the parameter names and files that
are read. Other sizes of a family work too, through the fields of its class.

## Families

- **Parity error**: the largest difference between our output and that of the original library,
  divided by the largest output, in evaluation in float32: for {cases} of the family in
  `tests/golden_networks` or `tests/golden_small.json`, with several image sizes. The tests compare
  a small network under each of the names, in training too.
- **Images per CPU second**: the speed of the features of one network of the family (batch {batch},
  float32; {processor}). A CPU second is one second of one core.

| family | names compared | parity error | licence of published weights | images per CPU second |
| --- | --- | --- | --- | --- |
"""
SECOND = """
## Sizes

Parameters are those below the head. A linear head adds its width plus one for each class.
Multiply-adds are those of the features of one image: half of the floating-point operations that XLA
counts in the program before optimisation. XLA does not count multiplications with padding.

| family | network | in a config | parameters, M | multiply-adds, G | image, px | stages |
| --- | --- | --- | --- | --- | --- | --- |
"""


def model_of(listed: Listed, *, evaluated: bool = True) -> Model:
    """The network with a head of two classes.

    Args:
        listed: the network.
        evaluated: for images as they are usually evaluated; False for those of its position
            embeddings, which differ in DINOv2.
    """
    shown = listed.backbone.preprocessing()
    if listed.size_px and evaluated:
        shown = dataclasses.replace(shown, size_px=listed.size_px, resize_px=listed.size_px)
    return stages.build(listed.backbone, 2, preprocessing=shown)


def parameters(listed: Listed) -> int:
    """The number of parameters below the head, from their shapes."""
    params, _ = stages.shapes(model_of(listed, evaluated=False))
    below = {name: leaves for name, leaves in params.items() if name != HEAD}
    return sum(leaf.size for leaf in jax.tree.leaves(below))


def features(model: Model) -> Callable[..., jax.Array]:
    """The compiled function from parameters, statistics and images to the input of the head."""
    return jax.jit(lambda params, stats, x: stages.run(model, params, stats, x, stop=HEAD)[0])


def multiply_adds(model: Model) -> float:
    """Of one image, below the head."""
    px = model.images.size_px
    image = jax.ShapeDtypeStruct((1, px, px, 3), np.float32)
    run: Any = features(model)
    lowered = run.lower(*stages.shapes(model), image)
    return lowered.cost_analysis()['flops'] / 2


def speed(model: Model) -> float:
    """Images per second of CPU time; the median of several passes over random images."""
    params, stats = stages.init(model, jax.random.key(0))
    px = model.images.size_px
    x, run = jax.random.normal(jax.random.key(1), (BATCH, px, px, 3)), features(model)
    jax.block_until_ready(run(params, stats, x))  # compiles
    seconds = []
    for _ in range(REPEATS):
        begun = time.process_time()
        jax.block_until_ready(run(params, stats, x))
        seconds.append(time.process_time() - begun)
    return BATCH / statistics.median(seconds)


@dataclasses.dataclass(kw_only=True)
class Parity:
    """The naming schemes of a family that were compared, and the largest error."""

    namings: list[str] = dataclasses.field(default_factory=list)
    error: float = 0.0

    def add(self, ours: Any, wanted: Any) -> None:
        """Compares outputs."""
        wanted = np.asarray(wanted)
        error = np.abs(np.asarray(ours) - wanted).max() / np.abs(wanted).max()
        self.error = max(self.error, float(error))


def parities(*, every_case: bool = False) -> dict[str, Parity]:
    """By the class of the backbone, from the first figures of the tests or from all of them."""
    result: dict[str, Parity] = {}
    for name, plan in test_backbones.SMALL.items():
        images = golden_small.images(2, golden_small.SIZE_PX[name])
        network = test_backbones.Network(
            plan.backbone, golden_small.NUM_CLASSES, golden_small.tensor
        )
        wanted = golden_small.figures()[name]['eval_logits']
        own = result.setdefault(type(plan.backbone).__name__, Parity())
        own.namings = [next(iter(plan.backbone.port_tables()))]
        own.add(network.evaluate(images)[HEAD], wanted)
    for family, case in test_golden_networks.OF_ALL:
        wanted, pretrained = test_golden_networks.loaded(family, case)
        own = result.setdefault(type(pretrained.architecture.backbone).__name__, Parity())
        if wanted['naming'] not in own.namings:
            own.namings.append(wanted['naming'])
        if every_case or not own.error:
            for ours, expected in _compared(wanted, pretrained):
                own.add(ours, expected)
        test_golden_networks.loaded.cache_clear()
    return result


def _compared(wanted: Mapping[str, Any], pretrained: Any) -> Iterator[tuple[Any, Any]]:
    """Our outputs and the library's, for every size of images of a case."""
    for size, expected in wanted['outputs'].items():
        model = test_golden_networks.model_of(pretrained, int(size))
        adapted = adapt.adapt(pretrained, model, keep_head=HEAD in pretrained.params)
        run = functools.partial(test_golden_networks.outputs, pretrained, model)
        compiled = jax.jit(
            lambda *inputs, run=run: run(*inputs)[0],
            compiler_options=test_golden_networks.OPTIONS,
        )
        images = golden_small.images(2, int(size))
        yield compiled(adapted.params, adapted.stats, images), expected


def family_rows(errors: Mapping[str, Parity]) -> Iterator[str]:
    """The rows of the first table."""
    for family, networks in NETWORKS.items():
        name, listed = next((n, one) for n, one in networks.items() if one.measured)
        own = errors[family]
        yield (
            f'| `{family}` | {", ".join(own.namings)} | {own.error:.0e} | {LICENCES[family]} | '
            f'{name}: {speed(model_of(listed)):.1f} |'
        )


def network_rows() -> Iterator[str]:
    """The rows of the second table."""
    for family, networks in NETWORKS.items():
        for name, listed in networks.items():
            model = model_of(listed)
            yield (
                f'| `{family}` | {name} | `{listed.source}` | {parameters(listed) / 1e6:.3f} | '
                f'{multiply_adds(model) / 1e9:.2f} | {model.images.size_px} | '
                f'{stage_names(model)} |'
            )


def stage_names(model: Model) -> str:
    """`stem, stage1 … stage4, head`: rows of numbered stages by their ends."""
    names = list(model.names)
    result, start = [], 0
    for index, name in enumerate(names):
        stem = name.rstrip('0123456789')
        following = names[index + 1] if index + 1 < len(names) else ''
        if stem != name and following.rstrip('0123456789') == stem:
            continue
        run = names[start : index + 1]
        result += run if len(run) < 3 else [f'{run[0]} … {run[-1]}']
        start = index + 1
    return ', '.join(result)


def processor() -> str:
    """The model of the processor, and the number of its cores here."""
    info = pathlib.Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return f'{(names or [platform.processor()])[0]}, {len(names) or 1} cores'


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--out', type=pathlib.Path, default=FILE)
    parser.add_argument('--every_case', action='store_true')
    arguments = parser.parse_args()
    cases = 'every small network' if arguments.every_case else 'the first small network'
    lines = [OPENING.format(batch=BATCH, processor=processor(), cases=cases)]
    errors = parities(every_case=arguments.every_case)
    for rows in (family_rows(errors), [SECOND], network_rows()):
        for row in rows:
            print(row, flush=True)
            lines.append(row if row.endswith('\n') else f'{row}\n')
    arguments.out.write_text(''.join(lines))


if __name__ == '__main__':
    main()
