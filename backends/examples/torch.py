"""The examples as a user of PyTorch writes them: a Sequential, and two classes with a `forward`."""

from __future__ import annotations

from typing import Any

from torch import nn

from d2lparams.interface import Example, Unsupported


class Tagger(nn.Module):  # type: ignore[misc]
    """An LSTM, and a dense layer on every step."""

    def __init__(self, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, batch_first=True)
        self.output = nn.Linear(units, outputs)

    def forward(self, x: Any) -> Any:
        """(n, time, inputs) to (n, time, outputs)."""
        return self.output(self.lstm(x)[0])


class LanguageModel(nn.Module):  # type: ignore[misc]
    """An embedding, an LSTM, and logits by the embedding's own matrix."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.projection = nn.Linear(width, vocabulary, bias=False)
        self.projection.weight = self.embedding.weight

    def forward(self, x: Any) -> Any:
        """(n, time) whole numbers to (n, time, vocabulary)."""
        return self.projection(self.lstm(self.embedding(x))[0])


def build(example: Example) -> nn.Module:
    """One of the examples that are no multilayer perceptron.

    Raises:
        Unsupported: for one that is not written here.
    """
    if example.name == "lenet":
        return nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),
            nn.Sigmoid(),
            nn.AvgPool2d(kernel_size=2, stride=2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.Sigmoid(),
            nn.AvgPool2d(kernel_size=2, stride=2),
            nn.Flatten(),
            nn.Linear(64, 12),
            nn.Sigmoid(),
            nn.Linear(12, 10),
            nn.Sigmoid(),
            nn.Linear(10, 4),
        )
    if example.name == "lstm":
        return Tagger(4, 8, 3)
    if example.name == "language-model":
        return LanguageModel(example.tokens, 6)
    raise Unsupported(f"this backend builds no {example.name}")
