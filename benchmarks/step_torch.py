"""Torch's side of benchmarks/step.py; runs in a Python that has torch and needs nothing else.

    python step_torch.py FOLDER NETWORK THREADS

Reads weights.npz and batch.npz in FOLDER, then a JSON request a line: `case`, the prefixes of names
that are `frozen`, and `form` (eager or channels_last). Answers each with the seconds of a forward
pass or of a training step, and at a case's first time with the norm of its gradient.
"""

# pyright: reportMissingImports=false

import json
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn


class Bottleneck(nn.Module):
    """torchvision's, by its names."""

    def __init__(self, channels, inner, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * inner)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or channels != 4 * inner:
            projection = nn.Conv2d(channels, 4 * inner, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * inner))

    def forward(self, x):
        """[B, C, H, W] to [B, 4 inner, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """torchvision's, by its names."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for index, blocks in enumerate((3, 4, 6, 3)):
            inner, layers = 64 * 2**index, []
            for number in range(blocks):
                stride = 2 if index and number == 0 else 1
                layers.append(Bottleneck(channels, inner, stride))
                channels = 4 * inner
            setattr(self, f'layer{index + 1}', nn.Sequential(*layers))
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x):
        """[B, 3, H, W] to logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class VGG16(nn.Module):
    """torchvision's without dropout, by its names."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(count):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(7)
        relu, none = nn.ReLU(inplace=True), nn.Identity
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096), relu, none(), nn.Linear(4096, 4096), relu, none(),
            nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, x):
        """[B, 3, H, W] to logits."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


class Side:
    """The networks, optimizers and images of every case and form."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        arrays = np.load(folder / 'weights.npz')
        self.weights = {key: torch.from_numpy(np.array(arrays[key])) for key in arrays}
        batch = np.load(folder / 'batch.npz')
        self.x = torch.from_numpy(batch['x']).permute(0, 3, 1, 2).contiguous()
        self.y = torch.from_numpy(batch['y']).long()
        self.made = {}

    def network(self, case, frozen, form):
        """The network and optimizer of a case, and whether they are new."""
        key = (case, form)
        if key in self.made:
            return (*self.made[key], False)
        self.made = {k: v for k, v in self.made.items() if k[0] == case}  # one case at a time
        net = {'resnet50': ResNet50, 'vgg16': VGG16}[self.name]()
        net.load_state_dict(self.weights, strict=False)
        if form == 'channels_last':
            net = net.to(memory_format=torch.channels_last)
        net.train(case != 'forward')
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d) and name.startswith(tuple(frozen)):
                module.eval()
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(case != 'forward' and not name.startswith(tuple(frozen)))
        trained = [p for p in net.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9) if trained else None
        self.made[key] = (net, optimizer)
        return net, optimizer, True

    def run(self, case, frozen, form):
        """The answer to a request."""
        net, optimizer, new = self.network(case, frozen, form)
        last = form == 'channels_last'
        x = self.x.contiguous(memory_format=torch.channels_last) if last else self.x
        begun = time.perf_counter()
        if optimizer is None:
            with torch.no_grad():
                logits = net(x)
            seconds = time.perf_counter() - begun
            np.save(self.folder / 'logits.npy', logits.numpy())
            return {'seconds': seconds}
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), self.y)
        loss.backward()
        optimizer.step()
        seconds = time.perf_counter() - begun
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        norm = float(torch.sqrt(sum((g.double() ** 2).sum() for g in grads))) if new else None
        return {'seconds': seconds, 'gradient_norm': norm}


def main():
    """Answers until the input ends."""
    torch.set_num_threads(int(sys.argv[3]))
    side = Side(pathlib.Path(sys.argv[1]), sys.argv[2])
    for line in sys.stdin:
        print(json.dumps(side.run(**json.loads(line))), flush=True)


if __name__ == '__main__':
    main()
