"""Losses, scores and kinds of task. The modules that have public names load when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, ('calibration', 'label_errors', 'scaling', 'selective', 'slices')
)
