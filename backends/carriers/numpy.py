"""What the reference's networks hold: dense layers in order of application, every array canonical."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from backends.conventions.numpy import CONVENTIONS
from d2lparams.interface import Array, Carrier, NativeArray, NativeLayer, Step, Structure


class NumpyCarrier(Carrier[Any]):
    """Carries the parameters of a `Network`.

    Args:
        activations: what gives the input and the output of every layer, of (model, x).
        loss_and_gradients: what gives the loss, and the gradients by the id of the array, of (model, x, y).
    """

    conventions = CONVENTIONS

    def __init__(
        self,
        activations: Callable[[Any, Array], list[Array]],
        loss_and_gradients: Callable[[Any, Array, Array], tuple[float, dict[int, Array]]],
    ) -> None:
        self._activations = activations
        self._loss_and_gradients = loss_and_gradients

    def structure(self, model: Any, x: Array | None) -> Structure:
        """Every entry of the network's list."""
        layers = [
            NativeLayer(
                path, "dense", CONVENTIONS["dense"], tuple(_array(layer, role) for role in ("weight", "bias"))
            )
            for path, layer in _uses(model)
        ]
        return Structure(tuple(layers), ordered=True)

    def forward(self, model: Any, x: Array) -> Array:
        """The last activation, float64."""
        return self._activations(model, x)[-1]

    def outputs(self, model: Any, x: Array) -> list[tuple[str, Array]]:
        """What each dense layer gives, before its activation."""
        inputs = self._activations(model, x)
        return [
            (path, given @ layer.weight.astype("float64").T + layer.bias)
            for (path, layer), given in zip(_uses(model), inputs)
        ]

    def step(self, model: Any, x: Array, y: Array, learning_rate: float) -> Step:
        """By the chain rule; each array moves once."""
        output = self._activations(model, x)[-1]
        loss, gradients = self._loss_and_gradients(model, x, y)
        arrays = {id(one): one for layer in model.layers for one in (layer.weight, layer.bias)}
        for name, array in arrays.items():
            array[...] = array - learning_rate * gradients[name]
        moved: dict[Hashable, Array] = {name: gradients[name] for name in arrays}
        return Step(output, loss, moved)


def _uses(model: Any) -> list[tuple[str, Any]]:
    return [(f"layers[{index}]", layer) for index, layer in enumerate(model.layers)]


def _array(layer: Any, role: str) -> NativeArray:
    array: Array = getattr(layer, role)

    def write(value: Array) -> None:
        np.copyto(array, value)

    return NativeArray(role, array.shape, str(array.dtype), id(array), lambda: array, write)
