"""Sections of SciPy's docstrings from 20 labelled texts per class, with a pretrained LSTM.

tljax train --config=text_finetune
tljax train --config=text_finetune:backward

Step 3 of ULMFiT: gradual unfreezing of a network that was trained as a language model on other
documentation, forward or backward. With step 2, its weights are those of a language model of the
same texts:

tljax train --config=text_language_model
tljax train --config=text_finetune --config.backbone.weights=runs/text_language_model

With 100 training texts and 10 for validation, mean test accuracy over 5 seeds: 63.5 % from
`embedded:docs`, 68.1 % backward, 68.7 % by both averaged, and 49.1 % from scratch (difference to
the first 14.3 points, 95 % interval 11.0 to 17.6). 15 s on one CPU core. See docs/text.md.
"""

import tljax

WEIGHTS = {'forward': 'embedded:docs', 'backward': 'embedded:docs_backward'}


def get_config(direction: str = 'forward') -> tljax.Experiment:
    """The classifier, which reads texts in one of the directions."""
    if direction not in WEIGHTS:
        raise tljax.InputError(f'the direction is {direction!r}, wanted one of {list(WEIGHTS)}')
    return tljax.Experiment(
        backbone=tljax.AWDLSTM(
            layers=2, hidden=160, embedding=64, vocabulary=6000, weights=WEIGHTS[direction],
            dropout_scale=0.5,
        ),
        data=tljax.DocstringSections(),
        preprocessing=tljax.TextPreprocessing(most_tokens=64, backward=direction == 'backward'),
        per_class=22,
        validation_fraction=0.1,
        strategy=tljax.GradualUnfreeze(epochs_per_stage=10),
        optimizer=tljax.AdamW(learning_rate=5e-3, weight_decay=0.01),
        schedule=tljax.SlantedTriangular(),
        epochs=40,
        batch_size=20,
        evaluate_every_epochs=10,
        log_every_steps=20,
        baselines=(tljax.FromScratch(), tljax.LinearProbe()),
    )  # fmt: skip
