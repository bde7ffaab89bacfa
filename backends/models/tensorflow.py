"""Keras models of a given form: sequential or nested, with ties by module."""

from __future__ import annotations

from typing import Any

import keras

from d2lparams.interface import MLP


@keras.saving.register_keras_serializable()
class NestMLP(keras.Model):  # type: ignore[misc]
    """An inner model of dense layers, and an output layer."""

    def __init__(self, net: Any, linear: Any, **options: Any) -> None:
        super().__init__(**options)
        self.net = net
        self.linear = linear

    def build(self, input_shape: Any) -> None:
        """Make the variables that are not there yet; a layer that is built again would get new ones."""
        if not self.net.built:
            self.net.build(input_shape)
        if not self.linear.built:
            self.linear.build(self.net.compute_output_shape(input_shape))

    def call(self, x: Any) -> Any:
        """The output layer on what the inner model gives."""
        return self.linear(self.net(x))

    def get_config(self) -> dict[str, Any]:
        """What `from_config` builds another one of; each layer is written down by itself."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("net", "linear")}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A new model, built of new layers."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("net", "linear")}
        return cls(**{**config, **parts})


def plan(spec: MLP) -> tuple[dict[int, tuple[int, str | None]], list[int | str]]:
    """The dense layers to be made, and what is applied in order.

    Returns:
        Units and activation of each dense layer that is there, by its number; and in order of application the
        number of a dense layer or the name of an activation that is a layer of its own.
    """
    native = ["linear" if spec.activation == "identity" else spec.activation] * (spec.layers - 1) + ["linear"]
    # A Dense holds its activation. Where one layer stands at places with different ones, it cannot.
    separate = any(native[spec.owner(layer)] != native[layer] for layer in range(spec.layers))
    made: dict[int, tuple[int, str | None]] = {}
    order: list[int | str] = []
    for layer, activation in enumerate(native):
        owner = spec.owner(layer)
        made.setdefault(owner, (spec.sizes[layer + 1], None if separate else activation))
        order.append(owner)
        if separate and layer < spec.layers - 1:
            order.append(activation)
    return made, order


def assembled(layers: list[Any], width: int | None, dtype: str, nested: bool) -> keras.Model:
    """A model of these layers; without a width it is built by its first batch."""
    inputs = [] if width is None else [keras.Input((width,), dtype=dtype)]
    if not nested:
        return keras.Sequential([*inputs, *layers])
    model = NestMLP(keras.Sequential([*inputs, *layers[:-1]]), layers[-1], dtype=dtype)
    if width is not None:
        model.build((None, width))
    return model
