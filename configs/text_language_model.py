"""Fine-tunes a language model on SciPy's docstrings, without their topics.

tljax train --config=text_language_model

Step 2 of ULMFiT. Step 1 is the language model of other documentation that tljax ships, step 3
configs/text_finetune.py.
"""

import tljax


def get_config() -> tljax.Experiment:
    """The language model."""
    return tljax.Experiment(
        backbone=tljax.AWDLSTM(
            layers=2, hidden=160, embedding=64, vocabulary=6000, weights='embedded:docs',
            language_model=True, embedding_dropout=0.02, input_dropout=0.25, weight_dropout=0.2,
            hidden_dropout=0.15, output_dropout=0.1, dropout_scale=0.5,
        ),
        head='pretrained',
        data=tljax.NextTokens(texts=tljax.Docstrings()),
        strategy=tljax.Discriminative(lowest=0.3),
        optimizer=tljax.AdamW(learning_rate=4e-3, weight_decay=0.01),
        schedule=tljax.SlantedTriangular(),
        loss=tljax.TokenCrossEntropy(),
        clip_norm=1.0,
        epochs=3,
        batch_size=32,
    )  # fmt: skip
