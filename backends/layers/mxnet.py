"""Gluon's layers: channels first, one matrix and one bias for all gates, two biases for each gate.

The parameters of a recurrent layer are those of its first and only level, `l0`; the gates of a matrix are
stacked along its first axis. A batch normalisation updates its statistics in the backward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy
from mxnet import autograd, gluon, np
from mxnet.gluon import nn, rnn

from backends.trainers.mxnet import array_of, mean_squared_error
from d2lparams.interface import Array, Layer, LayerKind, Layers, Part

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
# What a layer calls each canonical array that it holds as it is.
_PLAIN: dict[LayerKind, dict[str, str]] = {
    "dense": {"weight": "weight", "bias": "bias"},
    "conv2d": {"weight": "weight", "bias": "bias"},
    "batchnorm": {
        "weight": "gamma",
        "bias": "beta",
        "running mean": "running_mean",
        "running variance": "running_var",
    },
    "layernorm": {"weight": "gamma", "bias": "beta"},
    "embedding": {"weight": "weight"},
    "tied-embedding": {"weight": "weight"},
}
_GATES: dict[LayerKind, tuple[int, str]] = {"lstm": (4, "i f g o"), "gru": (3, "r z n")}
_AXES: dict[LayerKind, dict[str, str]] = {
    "dense": {"weight": "out, in", "bias": "out"},
    "conv2d": {"weight": "out, in, height, width", "bias": "out"},
    "batchnorm": dict.fromkeys(("gamma", "beta", "running_mean", "running_var"), "features"),
    "layernorm": dict.fromkeys(("gamma", "beta"), "features"),
    "embedding": {"weight": "vocabulary, width"},
    "tied-embedding": {"weight": "vocabulary, width"},
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
        found = []
        for name, one in native.collect_params().items():
            name = name.removeprefix(_owner(native).prefix)
            found.append(
                Part(
                    name,
                    tuple(one.shape),
                    numpy.dtype(one.dtype).name,
                    _axes(layer.kind, name),
                    one.grad_req != "null",
                )
            )
        return sorted(found, key=lambda part: not part.trained)

    def read(self, native: Any, layer: Layer) -> Values:
        """The gates apart, and the two biases of a gate added where only their sum counts."""
        prefix = _owner(native).prefix
        parameters = native.collect_params().items()
        held = {name.removeprefix(prefix): array_of(one.data()) for name, one in parameters}
        if layer.kind not in _GATES:
            return {canonical: held[name] for canonical, name in _PLAIN[layer.kind].items()}
        gates, _ = _GATES[layer.kind]
        apart = {name: value.reshape(gates, -1, *value.shape[1:]) for name, value in held.items()}
        weights = {"input weight": apart["l0_i2h_weight"], "hidden weight": apart["l0_h2h_weight"]}
        inputs, hidden = apart["l0_i2h_bias"], apart["l0_h2h_bias"]
        if layer.kind == "lstm":
            return {**weights, "bias": inputs + hidden}
        summed = numpy.concatenate([inputs[:2] + hidden[:2], inputs[2:]])
        return {**weights, "input bias": summed, "hidden bias": hidden[2]}

    def assign(self, native: Any, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write into the parameters; of two biases that are added, the hidden one becomes zero."""
        parameters = native.collect_params()
        prefix = _owner(native).prefix
        for name, value in _native_values(layer, values).items():
            parameters[prefix + name].set_data(np.array(value, dtype=layer.dtype))

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


def _owner(native: Any) -> Any:
    """The block whose name its parameters' names begin with."""
    return native.embedding if isinstance(native, TiedEmbedding) else native


def _axes(kind: LayerKind, name: str) -> str:
    if kind not in _GATES:
        return _AXES[kind][name]
    gates, order = _GATES[kind]
    last = {"l0_i2h_weight": ", in", "l0_h2h_weight": ", units"}.get(name, "")
    return f"{gates} * units{last} ({order})"


def _native_values(layer: Layer, values: Mapping[str, Array]) -> Values:
    if layer.kind not in _GATES:
        return {_PLAIN[layer.kind][name]: value for name, value in values.items()}
    found: Values = {}
    for name, value in values.items():
        if name in ("input weight", "hidden weight"):
            native = "l0_i2h_weight" if name == "input weight" else "l0_h2h_weight"
            found[native] = value.reshape(-1, value.shape[2])
        elif name in ("bias", "input bias"):
            found["l0_i2h_bias"] = value.reshape(-1)
            found.setdefault("l0_h2h_bias", numpy.zeros(value.size, value.dtype))
    if "hidden bias" in values:
        new = values["hidden bias"]
        found["l0_h2h_bias"] = numpy.concatenate([numpy.zeros(2 * new.size, new.dtype), new])
    return found


def _input(x: Array) -> Any:
    return np.array(x, dtype=x.dtype)
