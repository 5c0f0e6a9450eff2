"""Strategies on handwritten digits with 10 labels per class.

tljax sweep --config=sweeps/strategies
tljax sweep --config=sweeps/strategies --sweep=norms

`strategies` trains the quickstart with each strategy, and `norms` fine-tunes with each norm
policy. Results: docs/strategies.md.
"""

import tljax
from configs import quickstart

STRATEGIES = (
    tljax.FromScratch(),
    tljax.LinearProbe(),
    tljax.FineTune(),
    tljax.FineTune(backbone_scale=0.1),
    tljax.FreezeBelow(stage='stage2'),
    tljax.FreezeBelow(stage='stage3'),
    tljax.Surgical(stages=('stage1',)),
    tljax.Surgical(stages=('stage3',)),
    tljax.BiasOnly(),
    tljax.NormOnly(),
    tljax.LayerwiseDecay(rate=0.75),
    tljax.Discriminative(),
    tljax.LPFT(),
    tljax.GradualUnfreeze(epochs_per_stage=12.0),
    tljax.AutoRGN(),
)


def get_config() -> tljax.Experiment:
    """The quickstart."""
    return quickstart.get_config()


def sweep() -> dict[str, tljax.Product]:
    """Both sweeps share the folder."""
    # Head first trains its head for 6 of the 60 epochs. At the full rate, networks without the
    # statistics of the batch diverge, so the norm policies have a tenth of it.
    strategies = tljax.Chain(
        tljax.Axis('strategy', STRATEGIES, baseline=tljax.FineTune()),
        tljax.Zip(
            tljax.Axis('strategy', [tljax.HeadFirst(head_epochs=6.0)]),
            tljax.Axis('epochs', [54.0]),
        ),
    )
    norms = tljax.Product(
        tljax.Axis('strategy', [tljax.FineTune(learning_rate_scale=0.1)]),
        tljax.Axis('norm', list(tljax.Norm), baseline=tljax.Norm.AUTO),
    )
    seeds = tljax.Seeds(3)
    return {
        'strategies': tljax.Product(strategies, seeds),
        'norms': tljax.Product(norms, seeds),
    }
