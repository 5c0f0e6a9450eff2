"""Fine-tunes a language model on parts of SciPy's docstrings, without their labels.

tljax train --config=text_language_model
tljax train --config=text_language_model:backward

Step 2 of ULMFiT. Step 1 is the language model of other documentation that tljax ships, step 3
configs/text_finetune.py.
"""

import tljax

WEIGHTS = {'forward': 'embedded:docs', 'backward': 'embedded:docs_backward'}


def get_config(direction: str = 'forward') -> tljax.Experiment:
    """The language model, which reads texts in one of the directions."""
    if direction not in WEIGHTS:
        raise tljax.InputError(f'the direction is {direction!r}, wanted one of {list(WEIGHTS)}')
    return tljax.Experiment(
        backbone=tljax.AWDLSTM(
            layers=2, hidden=160, embedding=64, vocabulary=6000, weights=WEIGHTS[direction],
            language_model=True, embedding_dropout=0.02, input_dropout=0.25, weight_dropout=0.2,
            hidden_dropout=0.15, output_dropout=0.1, dropout_scale=0.5,
        ),
        head='pretrained',
        data=tljax.NextTokens(texts=tljax.DocstringSections()),
        preprocessing=tljax.TextPreprocessing(backward=direction == 'backward'),
        strategy=tljax.Discriminative(lowest=0.3),
        optimizer=tljax.AdamW(learning_rate=4e-3, weight_decay=0.01),
        schedule=tljax.SlantedTriangular(),
        loss=tljax.TokenCrossEntropy(),
        clip_norm=1.0,
        epochs=3,
        batch_size=32,
    )  # fmt: skip
