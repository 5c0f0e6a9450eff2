"""Writes golden_transformers.json: what transformers makes of golden_small.py's weights.

    python tests/make_golden_transformers.py

Needs torch and transformers. Written with torch 2.13 and transformers 5.24, in float64.
"""

# pyright: reportMissingImports=false

import json

import golden_small as small
import golden_transformers as golden
import torch
import transformers


def figures(model: torch.nn.Module, size: int) -> list[list[float]]:
    """Logits of two images, with every entry of the state dict by formula."""
    entries = {
        name: torch.from_numpy(small.tensor(name, tuple(value.shape)))
        for name, value in model.state_dict().items()
        if not name.endswith('num_batches_tracked')
    }
    model.load_state_dict(entries, strict=False)
    images = torch.from_numpy(small.images(2, size)).permute(0, 3, 1, 2).double()
    with torch.no_grad():
        logits = model.double().eval()(images).logits
    return [[float(f'{value:.9g}') for value in row.tolist()] for row in logits]


def main() -> None:
    """Writes the file beside this one."""
    result = {}
    for name, (kind, fields, size) in golden.NETWORKS.items():
        config = getattr(transformers, f'{kind}Config')(num_labels=small.NUM_CLASSES, **fields)
        model = getattr(transformers, f'{kind}ForImageClassification')(config)
        shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
        result[name] = {'manifest': shapes, 'logits': figures(model, size)}
    golden.FILE.write_text(json.dumps(result) + '\n')


if __name__ == '__main__':
    main()
