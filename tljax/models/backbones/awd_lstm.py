"""AWD-LSTM (Merity et al. 2017), the recurrent network of ULMFiT (Howard & Ruder 2018)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn

from tljax import tree
from tljax.models import recurrent
from tljax.models.backbones import awd_lstm_tables
from tljax.models.port_rules import PortRule
from tljax.types import TextPreprocessing

EMBEDDING = 'params/embed/embedding'
FASTAI_PADDING = 1  # in fastai's vocabularies
RATES = (
    'embedding_dropout', 'input_dropout', 'weight_dropout', 'hidden_dropout', 'output_dropout',
    'classifier_dropout',
)  # fmt: skip
# Fields that change neither the embedding nor the layers.
HEAD_FIELDS = ('language_model', 'tied', 'classifier_hidden', 'classifier_bias', 'dropout_scale')
CLASSIFIER = ('1.layers.', 'params/head/norm1/')  # beginnings of names in classifiers


@dataclasses.dataclass(slots=True, kw_only=True)
class AWDLSTM:
    """Stages `embed, lstm1 ... lstmN` of [B, T, F + 1]; the last feature marks padding by 0.

    The head is a classifier on concat pooling or, for a language model, predicts each next token.
    The default rates of dropout are fastai's for classifiers. Its language models have 0.02, 0.25,
    0.2, 0.15 and 0.1 of embedding, input, weight, hidden and output.

    Attributes:
        layers: the number of LSTM layers.
        hidden: features of all layers but the last.
        embedding: features of a token.
        last_hidden: features of the last layer; None for as many as `embedding`, which a tied
            decoder needs.
        vocabulary: V.
        padding: the number of the padding token.
        language_model: whether the head predicts the next token.
        tied: whether that head's kernel is the embedding.
        embedding_dropout: the rate at which words are dropped.
        input_dropout: before the first layer, one mask for all tokens of a row.
        weight_dropout: of the hidden-to-hidden weights.
        hidden_dropout: before the other layers.
        output_dropout: after the last layer.
        classifier_dropout: before the last layer of the classifier.
        dropout_scale: multiplies all rates, as fastai's `drop_mult`.
        classifier_hidden: features of the classifier's hidden layer.
        classifier_bias: whether the classifier's layers have biases; not in fastai 2.
        two_biases: see `recurrent.LSTM`.
        weights: pretrained weights (see the folder `weights`); None for random ones.
    """

    layers: int = 3
    hidden: int = 1152
    embedding: int = 400
    last_hidden: int | None = None
    vocabulary: int = 60_000
    padding: int = FASTAI_PADDING
    language_model: bool = False
    tied: bool = True
    embedding_dropout: float = 0.05
    input_dropout: float = 0.4
    weight_dropout: float = 0.5
    hidden_dropout: float = 0.3
    output_dropout: float = 0.4
    classifier_dropout: float = 0.1
    dropout_scale: float = 1.0
    classifier_hidden: int = 50
    classifier_bias: bool = True
    two_biases: bool = True
    weights: str | None = None

    def problems(self) -> list[str]:
        """Messages for `validate`."""
        sizes = ('layers', 'hidden', 'embedding', 'vocabulary', 'classifier_hidden')
        problems = [
            f'{name} is {getattr(self, name)}, wanted more than 0'
            for name in sizes
            if getattr(self, name) < 1
        ]
        if self.last_hidden is not None and self.last_hidden < 1:
            problems.append(f'last_hidden is {self.last_hidden}, wanted more than 0')
        if not 0 <= self.padding < self.vocabulary:
            problems.append(f'padding is {self.padding}, wanted 0 <= x < {self.vocabulary}')
        if not self.dropout_scale >= 0:
            problems.append(f'dropout_scale is {self.dropout_scale}, wanted 0 or more')
        problems += [
            f'{name} times dropout_scale is {self._rate(name)}, wanted 0 <= x < 1'
            for name in RATES
            if not 0 <= self._rate(name) < 1
        ]
        if self.language_model and self.tied and self.widths[-1] != self.embedding:
            problems.append(
                f'last_hidden is {self.last_hidden}, wanted embedding, {self.embedding}, because '
                'tied is True'
            )
        return problems

    def _rate(self, name: str) -> float:
        return getattr(self, name) * self.dropout_scale

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of every layer."""
        last = self.embedding if self.last_hidden is None else self.last_hidden
        return (*(self.hidden,) * (self.layers - 1), last)

    def stages(self) -> dict[str, nn.Module]:
        """Stages in forward order, without the head."""
        result: dict[str, nn.Module] = {
            'embed': recurrent.Embed(
                self.vocabulary, self.embedding, self.padding, self._rate('embedding_dropout')
            )
        }
        for index, width in enumerate(self.widths):
            result[f'lstm{index + 1}'] = recurrent.LSTM(
                width,
                input_dropout=self._rate('hidden_dropout' if index else 'input_dropout'),
                weight_dropout=self._rate('weight_dropout'),
                two_biases=self.two_biases,
            )
        return result

    def head(self, num_classes: int) -> nn.Module:
        """A classifier on concat pooling, or a linear layer for the next token."""
        if self.language_model:
            return recurrent.Decoder(num_classes, self._rate('output_dropout'), self.tied)
        return recurrent.ConcatPoolHead(
            num_classes,
            hidden=self.classifier_hidden,
            dropout=self._rate('output_dropout'),
            hidden_dropout=self._rate('classifier_dropout'),
            use_bias=self.classifier_bias,
        )

    def preprocessing(self) -> TextPreprocessing:
        """Without a vocabulary, which a bare file of weights does not have."""
        return TextPreprocessing()

    def port_tables(self) -> Mapping[str, Sequence[PortRule]]:
        """The names of fastai 1 and 2; of a language model in torch or Keras, plain names."""
        if not self.language_model:
            return awd_lstm_tables.classifier(self.classifier_bias)
        if self.tied:
            return awd_lstm_tables.TIED
        return awd_lstm_tables.UNTIED if self.two_biases else awd_lstm_tables.ONE_BIAS

    def as_stored(self, own: Any, names: Sequence[str]) -> 'AWDLSTM':
        """The member that weights are of: with another kind of head and other rates of dropout.

        Args:
            own: the network that the weights state; None if they state none.
            names: of their entries.
        """
        if isinstance(own, AWDLSTM):
            fields = {name: getattr(own, name) for name in (*HEAD_FIELDS, *RATES)}
            return dataclasses.replace(self, **fields)
        classifies = any(name.startswith(CLASSIFIER) for name in names)
        if self.language_model or classifies:
            return self
        tied = any(name.startswith(('1.', 'params/')) for name in names)
        tied = tied and 'params/head/linear/kernel' not in names
        return dataclasses.replace(self, language_model=True, tied=tied)

    @classmethod
    def variants(cls) -> Sequence['AWDLSTM']:
        """Classifiers with and without biases, and language models by their decoder and biases."""
        return (
            cls(),
            cls(classifier_bias=False),
            cls(language_model=True),
            cls(language_model=True, tied=False),
            cls(language_model=True, tied=False, two_biases=False),
        )

    def fitted(self, shapes: Mapping[str, tuple[int, ...]], naming: str) -> 'AWDLSTM | None':
        """All sizes from the embedding, the layers and the head."""
        table = shapes.get(EMBEDDING, ())
        layers = sum(tree.matches('params/lstm*/hidden/kernel', path) for path in shapes)
        kernels = [shapes.get(f'params/lstm{k}/hidden/kernel', ()) for k in range(1, layers + 1)]
        if len(table) != 2 or not kernels or any(len(one) != 2 for one in kernels):
            return None
        vocabulary, embedding = table
        last = kernels[-1][0]
        classifier = shapes.get('params/head/hidden1/kernel', ())
        network = dataclasses.replace(
            self,
            layers=layers,
            hidden=kernels[0][0],
            embedding=embedding,
            last_hidden=None if last == embedding else last,
            vocabulary=vocabulary,
            padding=min(FASTAI_PADDING, vocabulary - 1),
            classifier_hidden=classifier[1] if len(classifier) == 2 else self.classifier_hidden,
        )
        return network._of_own_paths(shapes) if naming == 'tljax' else network

    def _of_own_paths(self, shapes: Mapping[str, tuple[int, ...]]) -> 'AWDLSTM':
        """The kind of head and of biases, which our own paths show."""
        classifies = 'params/head/norm1/scale' in shapes
        head = any(path.startswith('params/head/') for path in shapes)
        return dataclasses.replace(
            self,
            language_model=head and not classifies,
            tied=not head or classifies or 'params/head/linear/kernel' not in shapes,
            classifier_bias=not classifies or 'params/head/linear/bias' in shapes,
            two_biases='params/lstm1/hidden/bias' in shapes,
        )
