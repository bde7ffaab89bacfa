"""Keras' layers, one at a time; how each keeps its arrays stands in `conventions`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from backends.carriers.tensorflow import arrays_of
from backends.conventions.tensorflow import CONVENTIONS
from backends.known.tensorflow import storage_of
from d2lparams.interface import (
    Array,
    Kind,
    Layer,
    LayerKind,
    Layers,
    Part,
    Unsupported,
    axes_in_words,
    to_canonical,
    to_native,
    with_summed_biases,
    with_two_biases,
)

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


class TensorFlowLayers(Layers[Any]):
    """Layers of Keras."""

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
        kind = _kind(layer)
        axes = {
            one.storage: axes_in_words(kind, row)
            for row in CONVENTIONS[kind]
            for one in arrays_of(native, [row])
        }
        return [
            Part(one.name, tuple(one.shape), one.dtype, axes[storage_of(one)], one.trainable)
            for one in native.weights
        ]

    def read(self, native: Any, layer: Layer) -> dict[str, Array]:
        """Copies in canonical form."""
        kind = _kind(layer)
        arrays = {one.name: np.array(one.read()) for one in arrays_of(native, CONVENTIONS[kind])}
        return with_summed_biases(kind, to_canonical(kind, CONVENTIONS[kind], arrays))

    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write values; of two biases that are added, the second is zero."""
        kind = _kind(layer)
        held = {one.name: one for one in arrays_of(native, CONVENTIONS[kind])}
        for name, value in to_native(kind, CONVENTIONS[kind], with_two_biases(kind, values)):
            held[name].write(value)

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


def _kind(layer: Layer) -> Kind:
    """What the arrays are of."""
    return "embedding" if layer.kind == "tied-embedding" else layer.kind
