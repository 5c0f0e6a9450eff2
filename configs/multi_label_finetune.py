"""ResNet-50 on a list of images with several labels each, or none.

python -m tljax.main --config=configs/multi_label_finetune.py --config.data.path=LIST

LIST is CSV, `path,label[,split]` with labels separated by `;`, or JSON lines: docs/data.md. Delta
to configs/resnet50_finetune.py: the source and the loss; the mean average precision picks the
checkpoint.

    --config.balance=weigh                       what is there weighs as much as what is not

No result is stated: no set of photographs with several labels could be had where this was written.
"""

import dataclasses

from configs import resnet50_finetune
from tljax.config.experiment import Experiment
from tljax.data.manifest import Manifest
from tljax.metrics.losses import BinaryCrossEntropy


def get_config() -> Experiment:
    """The experiment."""
    return dataclasses.replace(
        resnet50_finetune.get_config(),
        data=Manifest(path='LIST'),
        loss=BinaryCrossEntropy(),
    )
