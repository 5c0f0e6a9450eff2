"""ViT-S/16 on a folder of images: all trained, the head at ten times the backbone's learning rate.

tljax train --config=vit_finetune --config.data.path=DIR

DIR contains {train,test}/<class>/*.jpg. Differences from configs/resnet50_finetune.py: the network,
with weights from the Hugging Face hub (pip install 'tljax[hub]'); all parameters are trained;
AdamW; a cosine schedule with warm-up.

    --config.backbone.weights=FILE               your own file, in any library's names
    --config.head=pretrained                     keeps the head of weights for the same classes

No result is stated, because ViT's ImageNet weights were not available.
"""

import dataclasses

from configs import resnet50_finetune
from tljax.config.experiment import Experiment
from tljax.models.backbones.vit import ViT
from tljax.strategies.optimizers import AdamW
from tljax.strategies.schedules import Cosine
from tljax.strategies.strategies import FineTune


def get_config() -> Experiment:
    """The experiment."""
    return dataclasses.replace(
        resnet50_finetune.get_config(),
        backbone=ViT(width=384, weights='hf:timm/vit_small_patch16_224.augreg_in21k_ft_in1k'),
        strategy=FineTune(backbone_scale=0.1),
        optimizer=AdamW(learning_rate=1e-3, weight_decay=0.05),
        schedule=Cosine(warmup_epochs=1),
    )
