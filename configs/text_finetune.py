"""Topics of SciPy's docstrings from 10 labelled texts per class, with a pretrained LSTM.

tljax train --config=text_finetune

Step 3 of ULMFiT: gradual unfreezing of a network that was trained as a language model on other
documentation. With step 2, its weights are those of a language model of the same texts:

tljax train --config=text_language_model
tljax train --config=text_finetune --config.backbone.weights=runs/text_language_model

With 99 training texts and 11 for validation it does not beat training from scratch. Mean test
accuracy over 5 seeds is 17.5 % from `embedded:docs` and 20.1 % from scratch (paired difference -2.5
points, 95 % interval -10.8 to 5.8). See docs/text.md for what was tried.
"""

import tljax


def get_config() -> tljax.Experiment:
    """The classifier."""
    return tljax.Experiment(
        backbone=tljax.AWDLSTM(
            layers=2, hidden=160, embedding=64, vocabulary=6000, weights='embedded:docs',
            dropout_scale=0.5,
        ),
        data=tljax.Docstrings(),
        preprocessing=tljax.TextPreprocessing(most_tokens=128),
        per_class=10,
        validation_fraction=0.1,
        strategy=tljax.GradualUnfreeze(epochs_per_stage=5),
        optimizer=tljax.AdamW(learning_rate=1e-2, weight_decay=0.01),
        schedule=tljax.SlantedTriangular(),
        epochs=20,
        batch_size=20,
        evaluate_every_epochs=5,
        log_every_steps=20,
        baselines=(tljax.FromScratch(), tljax.LinearProbe()),
    )  # fmt: skip
