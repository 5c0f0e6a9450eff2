"""ViT-S/16 on a folder of images: everything trains, the head ten times faster than the rest.

python -m tljax.main --config=configs/vit_finetune.py --config.data.path=DIR

DIR holds {train,test}/<class>/*.jpg. Delta to configs/resnet50_finetune.py: the network, with
weights of the Hugging Face hub (pip install 'tljax[hub]'), all of it training, AdamW, and a cosine
with warm-up.

    --config.backbone.weights=FILE               a file of your own, under any library's names
    --config.head=pretrained                     keeps the head of weights for the same classes

No result is stated: ViT's ImageNet weights could not be had where this was written.
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
