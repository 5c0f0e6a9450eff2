"""What a norm policy does, as `types.Norm` describes it.

It decides which stages follow the statistics of the batch, and which scales and biases are frozen
in addition to the rules. BatchNorm of any other stage uses its running statistics and keeps them.
"""

from collections.abc import Collection

from tljax.strategies import stage_rules
from tljax.types import Norm, Params


def updated_stages(
    norm: Norm, trainable: Collection[str], names: Collection[str]
) -> frozenset[str]:
    """The stages whose BatchNorm uses and updates the statistics of the batch.

    Args:
        norm: the policy.
        trainable: the stages with a trainable leaf.
        names: all stages.
    """
    stages = {Norm.AUTO: trainable, Norm.LIVE: names, Norm.STATISTICS_ONLY: names}
    return frozenset(stages.get(norm, ()))


def frozen_leaves(norm: Norm, params: Params) -> list[str]:
    """The paths of the scales and biases that the policy freezes.

    Args:
        norm: the policy.
        params: the parameters or their shapes.
    """
    if norm not in (Norm.FROZEN, Norm.STATISTICS_ONLY):
        return []
    layers = stage_rules.norm_layers(params)
    return [f'{layer}/{leaf}' for layer in layers for leaf in ('scale', 'bias')]
