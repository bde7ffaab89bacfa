"""The examples as a user of Keras writes them: sequential and functional models, images with channels last."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from d2lparams.interface import Example, Unsupported


def build(example: Example) -> Any:
    """A model with its first values.

    Raises:
        Unsupported: for an example that is not written here, or that this Keras has no layer for.
    """
    match example.name:
        case "lenet":
            return _lenet(example)
        case "lstm":
            return keras.Sequential(
                [keras.Input(example.inputs), layers.LSTM(8, return_sequences=True), layers.Dense(3)]
            )
        case "language-model":
            return _language_model(example)
    raise Unsupported(f"this backend builds no {example.name}")


def _lenet(example: Example) -> Any:
    channels, height, width = example.inputs
    return keras.Sequential(
        [
            keras.Input((height, width, channels)),
            layers.Conv2D(6, 5, padding="same", activation="sigmoid"),
            layers.AveragePooling2D(2),
            layers.Conv2D(16, 5, activation="sigmoid"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(12, activation="sigmoid"),
            layers.Dense(10, activation="sigmoid"),
            layers.Dense(4),
        ]
    )


def _language_model(example: Example) -> Any:
    """Logits by the embedding's own matrix."""
    if not hasattr(layers, "ReversibleEmbedding"):
        raise Unsupported(f"Keras {keras.__version__} has no layer ReversibleEmbedding, which newer ones have")
    tokens = keras.Input(example.inputs, dtype="int32")
    embedding = layers.ReversibleEmbedding(example.tokens, 6)
    hidden = layers.LSTM(6, return_sequences=True)(embedding(tokens))
    return keras.Model(tokens, embedding(hidden, reverse=True))
