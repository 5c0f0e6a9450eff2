"""How many planted wrong labels are among the likely label errors of the training images.

    python benchmarks/label_errors.py ../shared/data/clothing10 \
        ../shared/data/weights/resnet18-ktb-small-f9db5f80.pth

5 % of the training images get the label of another class, drawn at random. The features are those
of the pretrained network, and each image is judged by linear probes fitted without it.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np

import tljax


def plant(folder: pathlib.Path, out: pathlib.Path, share: float, seed: int) -> set[str]:
    """Writes a list of the training images, some with a wrong label; returns these images."""
    images = sorted((folder / 'train').glob('*/*'))
    classes = sorted({image.parent.name for image in images})
    rng = np.random.default_rng(seed)
    wrong = set(rng.choice(len(images), round(share * len(images)), replace=False).tolist())
    lines, planted = ['path,label,split'], set()
    for place, image in enumerate(images):
        label = image.parent.name
        if place in wrong:
            label = str(rng.choice([name for name in classes if name != label]))
            planted.add(str(image.relative_to(folder / 'train')))
        lines.append(f'{image.absolute()},{label},train')
    held = sorted((folder / 'test').glob('*/*'))
    lines += [f'{image.absolute()},{image.parent.name},test' for image in held]
    out.write_text('\n'.join(lines))
    return planted


def main() -> None:
    """Prints, for each seed, the planted labels that are listed and the length of the list."""
    line = argparse.ArgumentParser(description=__doc__)
    line.add_argument('data', type=pathlib.Path)
    line.add_argument('weights')
    line.add_argument('--share', type=float, default=0.05)
    line.add_argument('--seeds', type=int, default=3)
    given = line.parse_args()
    shares = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / 'list.csv'
            planted = plant(given.data, path, given.share, seed)
            experiment = tljax.Experiment(
                backbone=tljax.ResNet(depth=18, weights=given.weights),
                data=tljax.Manifest(path=str(path)),
                strategy=tljax.LinearProbe(),
                optimizer=tljax.SGD(learning_rate=0.1),
                validation_fraction=0.0,
            )
            start = time.perf_counter()
            found = tljax.likely_training_errors(experiment)
            seconds = time.perf_counter() - start
        names = ['/'.join(error.path.split('/')[-2:]) for error in found]
        hits = sum(name in planted for name in names)
        first = sum(name in planted for name in names[: len(planted)])
        shares.append(hits / len(planted))
        print(
            f'seed {seed}: {hits} of {len(planted)} planted labels are among {len(found)} likely '
            f'errors, {first} among the first {len(planted)}; {seconds:.0f} s'
        )
    print(f'mean share {np.mean(shares):.0%}')


if __name__ == '__main__':
    main()
