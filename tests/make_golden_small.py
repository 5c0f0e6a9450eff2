"""Writes golden_small.json: what torch makes of golden_small.py's weights, in float64.

    python tests/make_golden_small.py

The networks are spelt out with torch.nn.functional, from the papers. Written with torch 2.13.
"""

# pyright: reportMissingImports=false

import json
import pathlib

import golden_small as small
import torch
import torch.nn.functional as F  # noqa: N812

State = dict[str, torch.Tensor]


class Network:
    """Makes each weight where it is first used, and counts what was made."""

    def __init__(self, training: bool):
        self.training = training
        self.params: State = {}
        self.running: State = {}

    def _entry(self, entries: State, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if name not in entries:
            value = torch.from_numpy(small.tensor(name, shape)).double()
            entries[name] = value.requires_grad_(self.training and entries is self.params)
        return entries[name]

    def conv(self, x, name, features, kernel, stride=1, bias=False):
        """A convolution padded (kernel - 1) // 2."""
        weight = self._entry(self.params, f'{name}.weight', (features, x.shape[1], kernel, kernel))
        offset = self._entry(self.params, f'{name}.bias', (features,)) if bias else None
        return F.conv2d(x, weight, offset, stride, (kernel - 1) // 2)

    def norm(self, x, name):
        """Batch normalisation."""
        running = [
            self._entry(self.running, f'{name}.running_{what}', (x.shape[1],))
            for what in ('mean', 'var')
        ]
        scale, bias = (
            self._entry(self.params, f'{name}.{what}', (x.shape[1],)) for what in ('weight', 'bias')
        )
        return F.batch_norm(x, *running, scale, bias, self.training, momentum=0.1, eps=1e-5)

    def linear(self, x, name, features):
        """A linear layer."""
        weight = self._entry(self.params, f'{name}.weight', (features, x.shape[1]))
        return F.linear(x, weight, self._entry(self.params, f'{name}.bias', (features,)))


def resnet18(net: Network, x: torch.Tensor) -> torch.Tensor:
    """He et al. 2015, table 1, named as torchvision does."""
    x = F.relu(net.norm(net.conv(x, 'conv1', 64, 7, stride=2), 'bn1'))
    x = F.max_pool2d(x, 3, 2, 1)
    for layer in (1, 2, 3, 4):
        width = 32 * 2**layer
        for block in (0, 1):
            name, stride = f'layer{layer}.{block}', 2 if layer > 1 and block == 0 else 1
            y = F.relu(net.norm(net.conv(x, f'{name}.conv1', width, 3, stride), f'{name}.bn1'))
            y = net.norm(net.conv(y, f'{name}.conv2', width, 3), f'{name}.bn2')
            if stride == 2:
                x = net.conv(x, f'{name}.downsample.0', width, 1, stride)
                x = net.norm(x, f'{name}.downsample.1')
            x = F.relu(x + y)
    return net.linear(x.mean((2, 3)), 'fc', small.NUM_CLASSES)


def resnet_small20(net: Network, x: torch.Tensor) -> torch.Tensor:
    """He et al. 2015, section 4.2, option A, named as pytorch_resnet_cifar10 does."""
    x = F.relu(net.norm(net.conv(x, 'conv1', 16, 3), 'bn1'))
    for layer in (1, 2, 3):
        width = 8 * 2**layer
        for block in (0, 1, 2):
            name, stride = f'layer{layer}.{block}', 2 if layer > 1 and block == 0 else 1
            y = F.relu(net.norm(net.conv(x, f'{name}.conv1', width, 3, stride), f'{name}.bn1'))
            y = net.norm(net.conv(y, f'{name}.conv2', width, 3), f'{name}.bn2')
            if stride == 2:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, width // 4, width // 4))
            x = F.relu(x + y)
    return net.linear(x.mean((2, 3)), 'linear', small.NUM_CLASSES)


def vgg11(net: Network, x: torch.Tensor, batch_norm: bool = False) -> torch.Tensor:
    """Simonyan & Zisserman 2014, column A, named as torchvision does; dropout off."""
    index = 0
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if width == 0:
            x = F.max_pool2d(x, 2)
            index += 1
            continue
        x = net.conv(x, f'features.{index}', width, 3, bias=True)
        if batch_norm:
            x = net.norm(x, f'features.{index + 1}')
        x = F.relu(x)
        index += 3 if batch_norm else 2
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    x = F.relu(net.linear(x, 'classifier.0', 4096))
    x = F.relu(net.linear(x, 'classifier.3', 4096))
    return net.linear(x, 'classifier.6', small.NUM_CLASSES)


def vgg11_bn(net: Network, x: torch.Tensor) -> torch.Tensor:
    """The same with batch normalisation."""
    return vgg11(net, x, batch_norm=True)


def figures(forward, size: int) -> dict[str, object]:
    """Logits of two images in evaluation; loss, gradients and statistics of four in training."""
    with torch.no_grad():
        logits = forward(Network(training=False), _images(2, size))
    net = Network(training=True)
    loss = F.cross_entropy(forward(net, _images(4, size)), torch.from_numpy(small.labels(4)))
    loss.backward()
    gradients = {name: value.grad.norm() for name, value in net.params.items()}
    return {
        'eval_logits': [[_round(value) for value in row] for row in logits],
        'loss': _round(loss),
        'gradient_norms': {name: _round(value) for name, value in gradients.items()},
        'running_norms': {name: _round(value.norm()) for name, value in net.running.items()},
    }


def _images(batch: int, size: int) -> torch.Tensor:
    return torch.from_numpy(small.images(batch, size)).permute(0, 3, 1, 2).double()


def _round(value: torch.Tensor) -> float:
    return float(f'{value.item():.9g}')


def main() -> None:
    """Writes the file beside this one."""
    networks = (resnet18, resnet_small20, vgg11, vgg11_bn)
    result = {f.__name__: figures(f, small.SIZE_PX[f.__name__]) for f in networks}
    pathlib.Path(small.FILE).write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
