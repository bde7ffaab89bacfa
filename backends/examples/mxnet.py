"""The examples as a user of Gluon writes them: a sequential block, and two classes.

The classes are no hybrid ones: in MXNet 1.9 with NumPy semantics, a graph around a recurrent layer that makes
its own first states takes the size of a batch for zero.
"""

from __future__ import annotations

from typing import Any

from mxnet import gluon, np
from mxnet.gluon import nn, rnn

from d2lparams.interface import Example, Unsupported


class Tagger(gluon.Block):  # type: ignore[misc]
    """An LSTM, and a dense layer on every step."""

    def __init__(self, units: int, outputs: int) -> None:
        super().__init__()
        self.lstm = rnn.LSTM(units, layout="NTC")
        self.output = nn.Dense(outputs, flatten=False)

    def forward(self, x: Any) -> Any:
        """(n, time, inputs) to (n, time, outputs)."""
        return self.output(self.lstm(x))


class LanguageModel(gluon.Block):  # type: ignore[misc]
    """An embedding, an LSTM, and logits by the embedding's own matrix."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = rnn.LSTM(width, layout="NTC")
        self.projection = nn.Dense(
            vocabulary, use_bias=False, flatten=False, in_units=width, params=self.embedding.params
        )

    def forward(self, x: Any) -> Any:
        """(n, time) whole numbers to (n, time, vocabulary)."""
        return self.projection(self.lstm(self.embedding(x)))


def build(example: Example) -> Any:
    """A model with its first values; the first batch tells Gluon how many inputs each layer has.

    Raises:
        Unsupported: for an example that is not written here.
    """
    match example.name:
        case "lenet":
            net = _lenet()
        case "lstm":
            net = Tagger(8, 3)
        case "language-model":
            net = LanguageModel(example.tokens, 6)
        case _:
            raise Unsupported(f"this backend builds no {example.name}")
    net.initialize()
    net(np.zeros((1, *example.inputs), dtype="int32" if example.tokens else "float32"))
    return net


def _lenet() -> Any:
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(channels=6, kernel_size=5, padding=2, activation="sigmoid"),
        nn.AvgPool2D(pool_size=2, strides=2),
        nn.Conv2D(channels=16, kernel_size=5, activation="sigmoid"),
        nn.AvgPool2D(pool_size=2, strides=2),
        # Dense flattens what it is given.
        nn.Dense(12, activation="sigmoid"),
        nn.Dense(10, activation="sigmoid"),
        nn.Dense(4),
    )
    return net
