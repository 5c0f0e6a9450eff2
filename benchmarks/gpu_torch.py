"""Torch's side of benchmarks/gpu.py; runs in a Python that has torch and timm.

    python gpu_torch.py '{"name": "resnet50", "cut": null, "rows": 256, "size": 224, "steps": 20}'

Prints the images per second of a step on one resident batch: channels_last, autocast in bfloat16,
torch.compile. Frozen parameters have `requires_grad=False`, and their BatchNorm evaluates.
"""

# pyright: reportMissingImports=false

import json
import statistics
import sys
import time

import timm
import torch

# The prefixes of timm's names of what is frozen below a stage of ours.
FROZEN = {
    'stage4': ('conv1', 'bn1', 'layer1', 'layer2', 'layer3'),
    'block10': ('cls_token', 'pos_embed', 'patch_embed', *(f'blocks.{n}.' for n in range(9))),
}
ROUNDS = 3


def main():
    """Measures and prints."""
    request = json.loads(sys.argv[1])
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    size, rows = request['size'], request['rows']
    fields = {'img_size': size} if request['name'].startswith('vit') else {}
    net = timm.create_model(request['name'], num_classes=1000, **fields).to(device)
    net = net.to(memory_format=torch.channels_last).train()
    frozen = FROZEN.get(request['cut'], ())
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d) and name.startswith(frozen):
            module.eval()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not (frozen and name.startswith(frozen)))
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9)
    x = torch.randn(rows, 3, size, size, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(0, 1000, (rows,), device=device)
    compiled = torch.compile(net) if device.type == 'cuda' else net

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(compiled(x), y)
        loss.backward()
        optimizer.step()

    def run(steps):
        begun = time.perf_counter()
        for _ in range(steps):
            step()
        if device.type == 'cuda':
            torch.cuda.synchronize()
        return steps * rows / (time.perf_counter() - begun)

    run(3)
    print(f'{statistics.median(run(request["steps"]) for _ in range(ROUNDS)):,.0f}')


if __name__ == '__main__':
    main()
