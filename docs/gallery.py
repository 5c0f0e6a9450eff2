"""Every augmentation once, on two photographs, with ranges that are wide enough to see.

tljax augment --config=docs/gallery.py:places --each --rows=2 --out=docs/augment_places.jpg

The photographs are sample images of scikit-learn; their licences are in its
`datasets/images/README.txt`.
"""

import dataclasses

import numpy as np
from sklearn.datasets import load_sample_images

from tljax import augment
from tljax.config.experiment import Experiment
from tljax.models.backbones.resnet import ResNet
from tljax.strategies.optimizers import SGD
from tljax.strategies.strategies import FromScratch
from tljax.types import Examples


@dataclasses.dataclass(slots=True, kw_only=True)
class Photographs:
    """The two sample photographs of scikit-learn."""

    def splits(self) -> dict[str, Examples]:
        """The same images for training and testing."""
        examples = Examples(
            load=load_sample_images().images.__getitem__,
            labels=np.arange(2, dtype=np.int32),
            ids=np.arange(2),
            class_names=('china', 'flower'),
        )
        return {'train': examples, 'test': examples}


def get_config(which: str = 'places') -> Experiment:
    """The gallery: `places`, `values`, `batch`, or `policy`, a common combination."""
    return Experiment(
        backbone=ResNet(depth=50),
        data=Photographs(),
        strategy=FromScratch(),
        optimizer=SGD(),
        augmentations=LISTS[which],
    )


LISTS = {
    'places': (
        augment.HorizontalFlip(probability=1.0),
        augment.VerticalFlip(probability=1.0),
        augment.QuarterTurn(),
        augment.Rotate(degrees=45.0),
        augment.Shear(horizontal_degrees=30.0, vertical_degrees=10.0),
        augment.Scale(factor=2.0),
        augment.Translate(side_share=0.3),
        augment.Perspective(side_share=0.35),
        augment.Elastic(side_share=0.12),
        augment.RandomCrop(size_px=128),
        augment.RandomResizedCrop(area_max=0.5),
        augment.Affine(rotate_degrees=40.0, shear_degrees=20.0, scale_factor=1.4, shift_share=0.2),
    ),
    'values': (
        augment.Brightness(strength=0.7),
        augment.Contrast(strength=0.8),
        augment.Saturation(strength=1.0),
        augment.Sharpness(strength=8.0),
        augment.Hue(degrees=120.0),
        augment.Grayscale(probability=1.0),
        augment.Invert(probability=1.0),
        augment.Solarize(probability=1.0),
        augment.Posterize(probability=1.0, bits=2),
        augment.AutoContrast(probability=1.0),
        augment.Equalize(probability=1.0),
        augment.Blur(probability=1.0, sigma_min_px=2.0, sigma_max_px=4.0),
        augment.GaussianNoise(max_levels=80.0),
        augment.SaltAndPepper(pixel_share=0.3),
        augment.Cutout(side_share=0.4),
        augment.RandomErasing(probability=1.0),
    ),
    'batch': (
        augment.MixUp(alpha=1.0),
        augment.CutMix(),
        augment.MixUpOrCutMix(),
        augment.RandAugment(),
        augment.RandAugment(layers=4),
        augment.TrivialAugment(),
        augment.AugMix(),
        augment.AugMix(magnitude=10.0),
    ),
    'policy': (
        augment.Copy(),
        augment.RandomResizedCrop(),
        augment.HorizontalFlip(),
        augment.RandAugment(),
        augment.RandomErasing(),
    ),
}
