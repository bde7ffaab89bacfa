"""Gluon's layers, each with one level where it is recurrent; how they keep their arrays is in the conventions.

The parameters of a recurrent layer are those of its first and only level, `l0`. A batch normalisation updates
its statistics in the backward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy
from mxnet import autograd, gluon, np
from mxnet.gluon import nn, rnn

from backends.conventions.mxnet import CONVENTIONS
from backends.trainers.mxnet import array_of, mean_squared_error
from d2lparams.interface import (
    Array,
    Kind,
    Layer,
    LayerKind,
    Layers,
    Part,
    axes_in_words,
    to_canonical,
    to_native,
    with_summed_biases,
    with_two_biases,
)

Values = dict[str, Array]

_CLASSES: dict[LayerKind, Any] = {
    "dense": nn.Dense,
    "conv2d": nn.Conv2D,
    "batchnorm": nn.BatchNorm,
    "layernorm": nn.LayerNorm,
    "lstm": rnn.LSTM,
    "gru": rnn.GRU,
    "embedding": nn.Embedding,
}
# Arguments that say how large a layer is or what it is made of, and not what it does.
_SIZES = (
    "self",
    "kwargs",
    "prefix",
    "params",
    "units",
    "in_units",
    "channels",
    "in_channels",
    "kernel_size",
    "hidden_size",
    "input_size",
    "input_dim",
    "output_dim",
)


class TiedEmbedding(gluon.HybridBlock):  # type: ignore[misc]
    """An embedding, and a dense layer without bias that is built on its parameters."""

    def __init__(self, vocabulary: int, width: int, dtype: str) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, dtype=dtype)
        self.projection = nn.Dense(
            vocabulary,
            use_bias=False,
            flatten=False,
            in_units=width,
            dtype=dtype,
            params=self.embedding.params,
        )

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803  (Gluon's own name)
        """Logits over the vocabulary."""
        return self.projection(self.embedding(x))


class MXNetLayers(Layers[Any]):
    """Blocks of Gluon."""

    def build(self, layer: Layer) -> Any:
        """A block with its values; they are drawn in float32, for MXNet cannot draw others, and then cast."""
        native = _block(layer)
        native.initialize()
        native.cast(layer.dtype)
        return native

    def parts(self, native: Any, layer: Layer) -> list[Part]:
        """The parameters that `collect_params` lists; the statistics have no gradient."""
        kind, level = _convention(layer.kind)
        axes = {level + row.name: axes_in_words(kind, row) for row in CONVENTIONS[kind]}
        found = [
            Part(name, tuple(one.shape), numpy.dtype(one.dtype).name, axes[name], one.grad_req != "null")
            for name, one in _held(native).items()
        ]
        return sorted(found, key=lambda part: not part.trained)

    def read(self, native: Any, layer: Layer) -> Values:
        """The gates apart, and the two biases of a gate added where only their sum counts."""
        kind, level = _convention(layer.kind)
        held = {name.removeprefix(level): array_of(one.data()) for name, one in _held(native).items()}
        return with_summed_biases(kind, to_canonical(kind, CONVENTIONS[kind], held))

    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write into the parameters; of two biases that are added, the hidden one becomes zero."""
        kind, level = _convention(layer.kind)
        held = _held(native)
        for name, value in to_native(kind, CONVENTIONS[kind], with_two_biases(kind, values)):
            held[level + name].set_data(np.array(value, dtype=layer.dtype))

    def forward(self, native: Any, layer: Layer, x: Array, *, training: bool = False) -> Array:
        """The block's own call; in training with a backward pass, for it is what updates the statistics."""
        if not training:
            return array_of(native(_input(x)))
        with autograd.record():
            output = native(_input(x))
        output.backward()
        return array_of(output)

    def gradients(self, native: Any, layer: Layer, x: Array, y: Array) -> Values:
        """Of the one matrix, with the contributions of both uses."""
        mean_squared_error(native, _input(x), np.array(y, dtype=y.dtype))
        return {"weight": array_of(native.embedding.weight.grad())}

    def defaults(self, kind: LayerKind) -> dict[str, Any]:
        """From the signature; of a tied embedding there is none."""
        if kind == "tied-embedding":
            return {}
        found = {
            name: one.default
            for name, one in inspect.signature(_CLASSES[kind].__init__).parameters.items()
            if name not in _SIZES and "initializer" not in name
        }
        return {name: str(one) if isinstance(one, tuple) else one for name, one in found.items()}


def _block(layer: Layer) -> Any:
    inputs, outputs = layer.inputs, layer.outputs
    epsilon = {} if layer.epsilon is None else {"epsilon": layer.epsilon}
    match layer.kind:
        case "dense":
            return nn.Dense(outputs, in_units=inputs)
        case "conv2d":
            return nn.Conv2D(outputs, layer.kernel, in_channels=inputs)
        case "batchnorm":
            return nn.BatchNorm(in_channels=inputs, **epsilon)
        case "layernorm":
            return nn.LayerNorm(in_channels=inputs, **epsilon)
        case "lstm":
            return rnn.LSTM(outputs, layout="NTC", input_size=inputs)
        case "gru":
            return rnn.GRU(outputs, layout="NTC", input_size=inputs)
        case "embedding":
            return nn.Embedding(inputs, outputs)
        case "tied-embedding":
            return TiedEmbedding(inputs, outputs, "float32")


def _convention(kind: LayerKind) -> tuple[Kind, str]:
    """Where the table has a kind, and what stands before its names in a layer of one level."""
    if kind == "tied-embedding":
        return "embedding", ""
    return kind, "l0_" if kind in ("lstm", "gru") else ""


def _held(native: Any) -> dict[str, Any]:
    """The parameters, by their names without that of the block which owns them."""
    owner = native.embedding if isinstance(native, TiedEmbedding) else native
    return {name.removeprefix(owner.prefix): one for name, one in native.collect_params().items()}


def _input(x: Array) -> Any:
    return np.array(x, dtype=x.dtype)
