"""The names of AWD-LSTM's entries in fastai, and of plain LSTMs in torch and Keras."""

from collections.abc import Sequence

from tljax.models import port_rules
from tljax.models.port_rules import LINEAR, PortRule

Table = tuple[PortRule, ...]
EMBEDDING = 'params/embed/embedding'
LAYER = 'params/lstm{k+1}'


def _layers(raw: str, module: str) -> Table:
    """The layers of torch; `raw` names hidden-to-hidden weights, `module` begins other names."""
    return (
        PortRule(raw, f'{LAYER}/hidden/kernel', LINEAR),
        PortRule(f'{module}weight_ih_l0', f'{LAYER}/input/kernel', LINEAR),
        PortRule(f'{module}bias_ih_l0', f'{LAYER}/input/bias'),
        PortRule(f'{module}bias_hh_l0', f'{LAYER}/hidden/bias'),
    )


def _fastai(prefix: str, *, raw: bool = True) -> Table:
    """The encoder: fastai 1 and 2 store the embedding twice.

    fastai 1 also stores the weights that the last forward pass used, after dropout; they are
    dropped. Without `raw`, those of a network without weight dropout are the weights.
    """
    module = f'{prefix}rnns.{{k}}.module.'
    raw_name, used_name = f'{prefix}rnns.{{k}}.weight_hh_l0_raw', f'{module}weight_hh_l0'
    layers = _layers(raw_name if raw else used_name, module)
    return (
        PortRule(f'{prefix}encoder.weight', EMBEDDING),
        _copy(f'{prefix}encoder_dp.emb.weight', f'{prefix}encoder.weight'),
        *layers,
        *((PortRule(used_name, None),) if raw else ()),
    )


def _copy(name: str, original: str) -> PortRule:
    """A second entry with the embedding."""
    return PortRule(
        name, None, exported_with=EMBEDDING, exported_as=lambda leaf: leaf, copy_of=original
    )


def _encoders(first: str, *others: str, raw: bool = True) -> Table:
    """The encoder under the prefix of a kind of file; other prefixes are read too."""
    read = [rule for prefix in others for rule in port_rules.aliases(_fastai(prefix, raw=raw))]
    return (*_fastai(first, raw=raw), *read)


def _norm(foreign: str, ours: str) -> Table:
    return port_rules.batch_norm(foreign, f'head/{ours}')


# fastai/text/models/core.py: SequentialRNN(SentenceEncoder, PoolingLinearClassifier). `0.` is the
# prefix of language models, and files of `save_encoder` have none.
FASTAI_1 = (
    *_norm('1.layers.0', 'norm1'),
    *port_rules.layer('1.layers.2', 'head/hidden1', LINEAR),
    *_norm('1.layers.4', 'norm2'),
    *port_rules.layer('1.layers.6', 'head/linear', LINEAR),
)
FASTAI_2 = (
    *_norm('1.layers.0.0', 'norm1'),
    PortRule('1.layers.0.2.weight', 'params/head/hidden1/kernel', LINEAR),
    *_norm('1.layers.1.0', 'norm2'),
    PortRule('1.layers.1.2.weight', 'params/head/linear/kernel', LINEAR),
)
CLASSIFIERS = {
    with_bias: {
        name: (*_encoders('0.module.', '0.', ''), *head),
        f'{name} without weight dropout': (*_encoders('0.module.', '0.', '', raw=False), *head),
    }
    for with_bias, name, head in ((True, 'fastai 1', FASTAI_1), (False, 'fastai 2', FASTAI_2))
}


def classifier(with_bias: bool) -> dict[str, Table]:
    """The tables of classifiers: fastai 1 with biases of linear layers, fastai 2 without."""
    return CLASSIFIERS[with_bias]


DECODER = (
    _copy('1.decoder.weight', '0.encoder.weight'),
    PortRule('1.decoder.bias', 'params/head/linear/bias'),
)
TIED = {
    'fastai': (*_encoders('0.'), *DECODER),
    'fastai without weight dropout': (*_encoders('0.', raw=False), *DECODER),
}


def _plain(embedding: str, lstm: str, output: str) -> Table:
    """One `torch.nn.LSTM` of several layers between an embedding and a linear layer."""
    return (
        PortRule(f'{embedding}.weight', EMBEDDING),
        PortRule(f'{lstm}.weight_hh_l{{k}}', f'{LAYER}/hidden/kernel', LINEAR),
        PortRule(f'{lstm}.weight_ih_l{{k}}', f'{LAYER}/input/kernel', LINEAR),
        PortRule(f'{lstm}.bias_ih_l{{k}}', f'{LAYER}/input/bias'),
        PortRule(f'{lstm}.bias_hh_l{{k}}', f'{LAYER}/hidden/bias'),
        *port_rules.head(output),
    )


def _keras(end: str) -> Table:
    """Keras: kernels are not transposed, and there is one bias; `end` follows every name."""
    return (
        PortRule(f'embedding/embeddings{end}', EMBEDDING),
        PortRule(f'lstm_{{k+1}}/recurrent_kernel{end}', f'{LAYER}/hidden/kernel'),
        PortRule(f'lstm_{{k+1}}/kernel{end}', f'{LAYER}/input/kernel'),
        PortRule(f'lstm_{{k+1}}/bias{end}', f'{LAYER}/input/bias'),
        PortRule(f'dense/kernel{end}', 'params/head/linear/kernel'),
        PortRule(f'dense/bias{end}', 'params/head/linear/bias'),
    )


# The names of pytorch/examples, word_language_model/model.py, and other usual ones.
UNTIED: dict[str, Sequence[PortRule]] = {
    'torch': _plain('encoder', 'rnn', 'decoder'),
    'torch, lstm': _plain('embedding', 'lstm', 'fc'),
    'torch, linear': _plain('embedding', 'lstm', 'linear'),
}
ONE_BIAS: dict[str, Sequence[PortRule]] = {'keras': _keras(':0'), 'keras 3': _keras('')}
