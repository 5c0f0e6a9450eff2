"""VGG-16 fine-tuned on a folder of images, as in introductory articles.

tljax train --config=vgg16_finetune --config.data.path=DIR

DIR contains {train,test}/<class>/*.jpg. The last layer is replaced and all parameters are trained:
cross-entropy, SGD with momentum and weight decay, learning rate ÷10 every two epochs, evaluated on
validation and test every epoch. The result is that of the checkpoint with the best validation
accuracy (validation is 10 % of `train`).

    --config.cut_after=stage5                    also removes both 4096-wide layers
    --config.backbone.weights=FILE               your own file instead of torchvision's

No result is stated, because VGG-16's ImageNet weights were not available.
"""

from tljax.augment import HorizontalFlip, RandomCrop
from tljax.config.experiment import Experiment
from tljax.data.folder import Folder
from tljax.models.backbones.vgg import VGG
from tljax.strategies.optimizers import SGD
from tljax.strategies.schedules import Step
from tljax.strategies.strategies import FineTune


def get_config() -> Experiment:
    """The experiment."""
    return Experiment(
        backbone=VGG(depth=16, weights='torchvision:vgg16-397923af'),
        cut_after='fc7',
        data=Folder(path='DIR'),
        strategy=FineTune(),
        optimizer=SGD(learning_rate=1e-3, momentum=0.9, weight_decay=5e-4),
        schedule=Step(every_epochs=2, factor=0.1),
        augmentations=(RandomCrop(size_px=224), HorizontalFlip()),
        epochs=6,
        batch_size=32,
        evaluate=('val', 'test'),
    )
