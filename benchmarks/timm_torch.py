"""One network of each family on CPU against timm's in torch, by turns.

    python -m benchmarks.timm_torch --torch=PYTHON [--network NAME ...] [--repeats=7]

PYTHON is the interpreter of an environment with torch and timm. Each library runs in a process of
its own that waits while the other is timed. Both have the same random weights and images; the
logits are compared first. `forward` is in evaluation; `step` is the loss in training mode, the
gradient of all parameters and the new running statistics, without an optimizer. torch is timed as
it is and with channels_last, and the faster one is the reference.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# timm's names, with our class and its fields. The padding is the one that costs torch the least.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    'resnet50': ('ResNet', {'depth': 50}),
    'vgg16': ('VGG', {'depth': 16, 'dropout': 0.0}),
    'vit_small_patch16_224': ('ViT', {'width': 384}),
    'convnext_tiny': ('ConvNeXt', {}),
    'resnext50_32x4d': ('ResNet', {'depth': 50, 'groups': 32, 'width_per_group': 4}),
    'efficientnet_lite0': ('EfficientNetLite', {'same_padding': False, 'epsilon': 1e-5}),
    'efficientnet_b0': ('EfficientNet', {}),
}
KINDS = ('forward', 'step')
FORMS = ('', ' channels_last')
TOLERANCE = 1e-3  # of the largest logit
CLASSES = 10


def main() -> None:
    """Measures and prints, or answers the process that measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--torch', default='python')
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--network', choices=NETWORKS, nargs='+', default=list(NETWORKS))
    parser.add_argument('--kind', choices=KINDS, nargs='+', default=list(KINDS))
    parser.add_argument('--worker', choices=('jax', 'torch'))
    parser.add_argument('--folder', type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.worker:
        _answer(_of_jax if arguments.worker == 'jax' else _of_torch, arguments)
        return
    print('| network | what | tljax, s | torch, s | channels_last, s | torch / tljax |')
    print('| --- | --- | --- | --- | --- | --- |')
    for name in arguments.network:
        with tempfile.TemporaryDirectory() as folder:
            _measure(name, pathlib.Path(folder), arguments)


def _measure(name: str, folder: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Prints the rows of a network."""
    ours = _started(sys.executable, 'jax', name, folder, arguments)
    ask(ours, 'save')  # its weights, images and logits
    theirs = _started(arguments.torch, 'torch', name, folder, arguments)
    ask(theirs, 'save')
    wanted, logits = (np.load(folder / f'{library}.npy') for library in ('torch', 'jax'))
    off = float(np.abs(wanted - logits).max() / np.abs(wanted).max())
    assert off < TOLERANCE, f'{name}: logits differ by {off:.1e}'
    for kind in arguments.kind:
        ask(ours, kind)  # compiles
        for form in FORMS:
            ask(theirs, kind + form)
        rounds = [
            (ask(ours, kind), *(ask(theirs, kind + form) for form in FORMS))
            for _ in range(arguments.repeats)
        ]
        medians = [statistics.median(side) for side in zip(*rounds, strict=True)]
        best = medians.index(min(medians[1:]))
        ratios = sorted(one[best] / one[0] for one in rounds)
        spread = f'{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})'
        cells = ' | '.join(f'{seconds:.2f}' for seconds in medians)
        print(f'| {name} | {kind} | {cells} | {spread} |', flush=True)
    for process in (ours, theirs):
        process.communicate()


def _started(
    python: str, library: str, name: str, folder: pathlib.Path, arguments: argparse.Namespace
) -> subprocess.Popen[str]:
    command = [python, '-m', 'benchmarks.timm_torch', f'--worker={library}', f'--folder={folder}']
    command += [f'--network={name}', f'--batch={arguments.batch}', f'--size={arguments.size}']
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], kind: str) -> float:
    """The seconds of one call in a process."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f'{kind}\n')
    process.stdin.flush()
    return float(process.stdout.readline())


def _answer(made: Callable[..., dict[str, Callable[[], Any]]], arguments: Any) -> None:
    calls = made(arguments.network[0], arguments.batch, arguments.size, arguments.folder)
    for line in sys.stdin:
        begun = time.perf_counter()
        calls[line.rstrip('\n')]()
        print(time.perf_counter() - begun, flush=True)


def _of_jax(name: str, batch: int, size: int, folder: pathlib.Path) -> dict[str, Callable[[], Any]]:
    import jax
    import jax.numpy as jnp

    import tljax
    from tljax import tree
    from tljax.models import layers, port, stages
    from tljax.types import Preprocessing

    kind, fields = NETWORKS[name]
    backbone = getattr(tljax, kind)(**fields)
    model = stages.build(
        backbone, CLASSES, preprocessing=Preprocessing(size_px=size, resize_px=size)
    )
    params, stats = stages.init(model, jax.random.key(0))
    kernel = params['head']['linear']['kernel']  # from zeros no gradient flows below it
    params['head']['linear']['kernel'] = jax.random.normal(jax.random.key(2), kernel.shape) / 10
    x = jax.random.normal(jax.random.key(1), (batch, size, size, 3))
    targets = jax.nn.one_hot(jnp.arange(batch) % CLASSES, CLASSES)

    def loss(params, stats, x):
        logits, stats = stages.run(model, params, stats, x, trainable=model.names)
        return -(targets * jax.nn.log_softmax(logits)).sum(-1).mean(), stats

    forward = jax.jit(lambda *inputs: stages.run(model, *inputs)[0])
    # As `tljax.training.compiled_step` compiles it.
    gradient = jax.value_and_grad(loss, has_aux=True)
    step = jax.jit(gradient, compiler_options=layers.KEEP_BARRIERS)

    def save():
        leaves = tree.flatten({'params': params, 'batch_stats': stats})
        host = {path: np.asarray(leaf) for path, leaf in leaves.items()}
        arrays = port.to_foreign(host, backbone.port_tables()['timm'])
        np.savez(folder / 'weights.npz', allow_pickle=False, **arrays)
        np.save(folder / 'x.npy', x)
        np.save(folder / 'jax.npy', forward(params, stats, x))

    return {
        'save': save,
        'forward': lambda: jax.block_until_ready(forward(params, stats, x)),
        'step': lambda: jax.block_until_ready(step(params, stats, x)),
    }


def _of_torch(
    name: str, batch: int, size: int, folder: pathlib.Path
) -> dict[str, Callable[[], Any]]:
    import timm  # pyright: ignore[reportMissingImports]
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    fields = {'img_size': size} if name.startswith('vit') else {}
    module = timm.create_model(name, num_classes=CLASSES, **fields)
    arrays = np.load(folder / 'weights.npz')
    missing, unexpected = module.load_state_dict(
        {key: torch.from_numpy(arrays[key]) for key in arrays}, strict=False
    )
    missing = [key for key in missing if not key.endswith('num_batches_tracked')]
    assert not missing, missing
    assert not unexpected, unexpected
    for dropout in module.modules():
        if isinstance(dropout, torch.nn.Dropout):
            dropout.p = 0.0
    images = torch.from_numpy(np.load(folder / 'x.npy')).permute(0, 3, 1, 2)
    layouts = {'': torch.contiguous_format, ' channels_last': torch.channels_last}
    inputs = {form: images.contiguous(memory_format=layouts[form]) for form in FORMS}
    targets = torch.arange(batch) % CLASSES

    def forward(form):
        module.to(memory_format=layouts[form]).eval()
        with torch.no_grad():
            return module(inputs[form])

    def step(form):
        module.to(memory_format=layouts[form]).train()
        module.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs[form]), targets).backward()

    calls: dict[str, Callable[[], Any]] = {
        'save': lambda: np.save(folder / 'torch.npy', forward('').numpy())
    }
    for form in FORMS:
        calls[f'forward{form}'] = lambda form=form: forward(form)
        calls[f'step{form}'] = lambda form=form: step(form)
    return calls


if __name__ == '__main__':
    main()
