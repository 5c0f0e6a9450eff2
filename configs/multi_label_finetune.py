"""ResNet-50 on a list of images with several labels each, or none.

tljax train --config=multi_label_finetune --config.data.path=LIST

LIST is CSV, `path,label[,split]` with labels separated by `;`, or JSON lines: docs/data.md.
Differences from configs/resnet50_finetune.py: the data source and the loss. The mean average
precision selects the checkpoint.

    --config.balance=weigh                       gives present and absent labels equal weight

No result is stated, because no photographs with several labels were available.
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
