"""Layers of Keras: channels last, kernels (in, out), a recurrent layer's gates side by side in one kernel."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from d2lparams.interface import Array, Layer, LayerKind, Layers, Part, Unsupported

_CLASSES: dict[LayerKind, str] = {
    "dense": "Dense",
    "conv2d": "Conv2D",
    "batchnorm": "BatchNormalization",
    "layernorm": "LayerNormalization",
    "lstm": "LSTM",
    "gru": "GRU",
    "embedding": "Embedding",
    "tied-embedding": "ReversibleEmbedding",
}

_AXES: dict[LayerKind, tuple[str, ...]] = {
    "dense": ("in, out", "out"),
    "conv2d": ("height, width, in, out", "out"),
    "batchnorm": ("features",) * 4,
    "layernorm": ("features",) * 2,
    "lstm": ("in, 4 * units (i f g o)", "units, 4 * units (i f g o)", "4 * units (i f g o)"),
    "gru": ("in, 3 * units (z r n)", "units, 3 * units (z r n)", "input and hidden, 3 * units (z r n)"),
    "embedding": ("vocabulary, width",),
    "tied-embedding": ("vocabulary, width",),
}

# What decides what a layer computes; a signature has much more.
_SETTINGS: dict[LayerKind, tuple[str, ...]] = {
    "dense": ("activation", "use_bias"),
    "conv2d": ("strides", "padding", "activation", "use_bias"),
    "batchnorm": ("axis", "momentum", "epsilon", "center", "scale"),
    "layernorm": ("axis", "epsilon", "center", "scale"),
    "lstm": ("activation", "recurrent_activation", "use_bias", "unit_forget_bias"),
    "gru": ("activation", "recurrent_activation", "use_bias", "reset_after"),
    "embedding": ("mask_zero",),
    "tied-embedding": ("tie_weights", "logit_soft_cap", "mask_zero"),
}

_NORMALISED = ("weight", "bias", "running mean", "running variance")
# Keras' order of gates is update, reset, new; the canonical one is reset, update, new. It is its own inverse.
_GATES = [1, 0, 2]


class TensorFlowLayers(Layers[Any]):
    """Layers of Keras; each holds its variables in a fixed order."""

    def build(self, layer: Layer) -> Any:
        """A layer with its variables."""
        epsilon = {} if layer.epsilon is None else {"epsilon": layer.epsilon}
        arguments: dict[LayerKind, tuple[tuple[Any, ...], dict[str, Any]]] = {
            "dense": ((layer.outputs,), {}),
            "conv2d": ((layer.outputs, layer.kernel), {}),
            "batchnorm": ((), epsilon),
            "layernorm": ((), epsilon),
            "lstm": ((layer.outputs,), {"return_sequences": True}),
            "gru": ((layer.outputs,), {"return_sequences": True}),
            "embedding": ((layer.inputs, layer.outputs), {}),
            "tied-embedding": ((layer.inputs, layer.outputs), {}),
        }
        axes: dict[LayerKind, tuple[int | None, ...]] = {
            "conv2d": (None, None, None, layer.inputs),
            "lstm": (None, None, layer.inputs),
            "gru": (None, None, layer.inputs),
            "embedding": (None,),
            "tied-embedding": (None,),
        }
        positional, named = arguments[layer.kind]
        native = _class(layer.kind)(*positional, **named, dtype=layer.dtype)
        native.build(axes.get(layer.kind, (None, layer.inputs)))
        return native

    def parts(self, native: Any, layer: Layer) -> list[Part]:
        """The variables of `layer.weights`, which has those that are not trained last."""
        return [
            Part(one.name, tuple(one.shape), one.dtype, axes, one.trainable)
            for one, axes in zip(native.weights, _AXES[layer.kind], strict=True)
        ]

    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        """Copies in canonical form."""
        values = [np.array(one) for one in native.get_weights()]
        if layer.kind == "dense":
            return {"weight": values[0].T, "bias": values[1]}
        if layer.kind == "conv2d":
            return {"weight": values[0].transpose(3, 2, 0, 1), "bias": values[1]}
        if layer.kind in ("batchnorm", "layernorm"):
            return dict(zip(_NORMALISED, values))
        if layer.kind == "lstm":
            names = ("input weight", "hidden weight", "bias")
            return {name: _by_gate(value, 4) for name, value in zip(names, values)}
        if layer.kind == "gru":
            inputs, hidden = (_by_gate(value, 3)[_GATES] for value in values[:2])
            given, past = (_by_gate(value, 3)[_GATES] for value in values[2])
            return {
                "input weight": inputs,
                "hidden weight": hidden,
                "input bias": np.stack([given[0] + past[0], given[1] + past[1], given[2]]),
                "hidden bias": past[2],
            }
        return {"weight": values[0]}

    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write all values at once."""
        native.set_weights(_native(layer.kind, {**self.read(native, layer), **values}))

    def forward(self, native: Any, layer: Layer, x: Array, *, training: bool = False) -> Array:
        """The output; images are transposed to channels last and back."""
        if layer.kind == "conv2d":
            return np.array(native(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
        if layer.kind == "batchnorm":
            return np.array(native(x, training=training))
        if layer.kind == "tied-embedding":
            return np.array(_logits(native, x))
        return np.array(native(x))

    def gradients(self, native: Any, layer: Layer, x: Array, y: Array) -> dict[str, Array]:
        """Of the matrix that embeds and projects."""
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((_logits(native, x) - y) ** 2)
        # The part of the embedding alone is a list of rows; together with the other part it is a matrix.
        return {"weight": np.array(tape.gradient(loss, native.embeddings.value))}

    def defaults(self, kind: LayerKind) -> dict[str, Any]:
        """From the signature of the class."""
        found = inspect.signature(_class(kind).__init__).parameters
        return {name: _plain(found[name].default) for name in _SETTINGS[kind]}


def _class(kind: LayerKind) -> Any:
    found = getattr(keras.layers, _CLASSES[kind], None)
    if found is None:
        raise Unsupported(f"Keras {keras.__version__} has no layer {_CLASSES[kind]}, which newer ones have")
    return found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, tuple) else value


def _logits(native: Any, x: Array) -> Any:
    return native(native(x), reverse=True)


def _by_gate(value: Array, gates: int) -> Array:
    """(..., gates * units) as (gates, units, ...)."""
    apart = value.reshape(*value.shape[:-1], gates, -1)
    return np.moveaxis(np.moveaxis(apart, -1, 0), -1, 0)


def _side_by_side(value: Array) -> Array:
    """(gates, units, ...) as (..., gates * units)."""
    last = np.moveaxis(np.moveaxis(value, 0, -1), 0, -1)
    return last.reshape(*last.shape[:-2], -1)


def _native(kind: LayerKind, values: Mapping[str, Array]) -> list[Array]:
    """Values in the order and the form of `layer.weights`."""
    if kind == "dense":
        return [values["weight"].T, values["bias"]]
    if kind == "conv2d":
        return [values["weight"].transpose(2, 3, 1, 0), values["bias"]]
    if kind in ("batchnorm", "layernorm"):
        return [values[name] for name in _NORMALISED if name in values]
    if kind == "lstm":
        return [_side_by_side(values[name]) for name in ("input weight", "hidden weight", "bias")]
    if kind == "gru":
        past = np.zeros_like(values["input bias"])
        past[2] = values["hidden bias"]
        biases = [_side_by_side(one[_GATES]) for one in (values["input bias"], past)]
        weights = [_side_by_side(values[name][_GATES]) for name in ("input weight", "hidden weight")]
        return [*weights, np.stack(biases)]
    return [values["weight"]]
