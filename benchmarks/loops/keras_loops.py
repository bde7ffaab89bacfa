"""Keras as its users train step by step: `train_on_batch`, on whatever backend it has here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from nets import Loop, Net


def model_of(net: Net) -> Any:
    """A Sequential, with activations in the layers as Keras users write them."""
    layers = [
        keras.layers.Dense(width, activation=net.activation if place < len(net.sizes) - 2 else None)
        for place, width in enumerate(net.sizes[1:])
    ]
    if net.tied:
        layers[2] = layers[1]
    return keras.Sequential([keras.Input(net.sizes[:1]), *layers])


def on_batch(net: Net) -> Loop:
    """`compile` with its defaults, and `train_on_batch`."""
    model = model_of(net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True) if net.labels else "mse"
    model.compile(optimizer=keras.optimizers.SGD(net.rate), loss=loss)

    def step(x: Any, y: Any) -> float:
        return float(model.train_on_batch(x, y))

    return Loop(step, lambda x, y, steps: np.array([step(x, y) for _ in range(steps)]))


CANDIDATES: dict[str, Callable[[Net], Loop]] = {"train_on_batch": on_batch}
