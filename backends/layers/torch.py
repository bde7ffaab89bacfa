"""PyTorch's layers: gates stand in one matrix, one under the other, and a recurrent layer has two biases."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from d2lparams.interface import Array, Layer, LayerKind, Layers, Part

Values = dict[str, Array]

_CLASSES: dict[LayerKind, Any] = {
    "dense": nn.Linear,
    "conv2d": nn.Conv2d,
    "batchnorm": nn.BatchNorm1d,
    "layernorm": nn.LayerNorm,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "embedding": nn.Embedding,
}

# Canonical names that are not PyTorch's own, of layers whose arrays are canonical as they stand.
_NATIVE = {"running mean": "running_mean", "running variance": "running_var"}
_CANONICAL: dict[LayerKind, tuple[str, ...]] = {
    "dense": ("weight", "bias"),
    "conv2d": ("weight", "bias"),
    "batchnorm": ("weight", "bias", "running mean", "running variance"),
    "layernorm": ("weight", "bias"),
    "embedding": ("weight",),
}
_GATES: dict[LayerKind, str] = {"lstm": "4 * units (i f g o)", "gru": "3 * units (r z n)"}


def _recurrent_axes(gates: str) -> dict[str, str]:
    return {
        "weight_ih_l0": f"{gates}, in",
        "weight_hh_l0": f"{gates}, units",
        "bias_ih_l0": gates,
        "bias_hh_l0": gates,
    }


_AXES: dict[LayerKind, dict[str, str]] = {
    "dense": {"weight": "out, in", "bias": "out"},
    "conv2d": {"weight": "out, in, height, width", "bias": "out"},
    "batchnorm": dict.fromkeys(("weight", "bias", "running_mean", "running_var"), "features"),
    "layernorm": dict.fromkeys(("weight", "bias"), "features"),
    "lstm": _recurrent_axes(_GATES["lstm"]),
    "gru": _recurrent_axes(_GATES["gru"]),
    "embedding": {"weight": "vocabulary, width"},
    "tied-embedding": {"embedding.weight": "vocabulary, width"},
}


class TiedEmbedding(nn.Module):  # type: ignore[misc]
    """An embedding whose weight is also that of the projection onto the vocabulary."""

    def __init__(self, vocabulary: int, width: int, dtype: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width, dtype=dtype)
        self.projection = nn.Linear(width, vocabulary, bias=False, dtype=dtype)
        self.projection.weight = self.embedding.weight

    def forward(self, x: Any) -> Any:
        """The logits of what follows each token."""
        return self.projection(self.embedding(x))


class TorchLayers(Layers[nn.Module]):
    """Layers of `torch.nn`."""

    def build(self, layer: Layer) -> nn.Module:
        """A layer as its class makes it."""
        dtype = getattr(torch, layer.dtype)
        if layer.kind == "tied-embedding":
            return TiedEmbedding(layer.inputs, layer.outputs, dtype)
        sizes: tuple[Any, ...] = (layer.inputs, layer.outputs)
        options: dict[str, Any] = {"dtype": dtype}
        if layer.kind == "conv2d":
            sizes = (*sizes, layer.kernel)
        if layer.kind in ("batchnorm", "layernorm"):
            sizes = (layer.inputs,)
            options |= {} if layer.epsilon is None else {"eps": layer.epsilon}
        if layer.kind in _GATES:
            options["batch_first"] = True
        native: nn.Module = _CLASSES[layer.kind](*sizes, **options)
        return native

    def parts(self, native: nn.Module, layer: Layer) -> list[Part]:
        """Parameters, then buffers; without `num_batches_tracked`, which counts and is no array."""
        parameters = [(name, one, True) for name, one in native.named_parameters()]
        buffers = [(name, one, False) for name, one in native.named_buffers() if one.ndim]
        return [
            Part(
                name,
                tuple(one.shape),
                str(one.dtype).removeprefix("torch."),
                _AXES[layer.kind][name],
                trained,
            )
            for name, one, trained in parameters + buffers
        ]

    def read(self, native: nn.Module, layer: Layer) -> Values:
        """Copies of the arrays, the gates of a recurrent layer on an axis of their own."""
        if layer.kind == "tied-embedding":
            return {"weight": _array(native.embedding.weight)}
        if layer.kind not in _GATES:
            return {name: _array(_native(native, name)) for name in _CANONICAL[layer.kind]}
        inputs, hidden, bias, other = (_gates(one, layer) for one in _recurrent(native))
        weights = {"input weight": inputs, "hidden weight": hidden}
        if layer.kind == "lstm":
            return {**weights, "bias": bias + other}
        # The new gate's hidden bias stands inside of the reset gate, and cannot be added to the other.
        added = np.concatenate([bias[:2] + other[:2], bias[2:]])
        return {**weights, "input bias": added, "hidden bias": other[2]}

    def assign(self, native: nn.Module, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write into the arrays; of two biases the second is zero where canonical form has one."""
        if layer.kind == "tied-embedding":
            _write(native.embedding.weight, values["weight"])
        elif layer.kind not in _GATES:
            for name, value in values.items():
                _write(_native(native, name), value)
        else:
            inputs, hidden, bias, other = _recurrent(native)
            _write(inputs, values["input weight"])
            _write(hidden, values["hidden weight"])
            _write(bias, values["bias" if layer.kind == "lstm" else "input bias"])
            second = np.zeros(other.shape, layer.dtype)
            if layer.kind == "gru":
                second[2 * layer.outputs :] = values["hidden bias"]
            _write(other, second)

    def forward(self, native: nn.Module, layer: Layer, x: Array, *, training: bool = False) -> Array:
        """The output, in the mode that is asked for."""
        native.train(training)
        with torch.no_grad():
            output = native(torch.from_numpy(x))
        return _array(output[0] if layer.kind in _GATES else output)

    def gradients(self, native: nn.Module, layer: Layer, x: Array, y: Array) -> Values:
        """By `backward`; both uses add to the gradient of the one parameter."""
        native.zero_grad()
        nn.functional.mse_loss(native(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        return {"weight": _array(native.embedding.weight.grad)}

    def defaults(self, kind: LayerKind) -> dict[str, Any]:
        """What the signature has; a recurrent layer's is that of its base class."""
        if kind == "tied-embedding":
            return self.defaults("embedding")
        of = nn.RNNBase if kind in _GATES else _CLASSES[kind]
        found = {name: one.default for name, one in inspect.signature(of).parameters.items()}
        # `nn.GRU` refuses the projection that its base class has.
        hidden = ("proj_size",) if kind == "gru" else ()
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, (bool, int, float, str)) and not name.startswith("_") and name not in hidden
        }


def _native(native: nn.Module, name: str) -> Any:
    return getattr(native, _NATIVE.get(name, name))


def _recurrent(native: nn.Module) -> list[Any]:
    """Input weight, hidden weight, input bias, hidden bias."""
    return [getattr(native, name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]


def _gates(native: Any, layer: Layer) -> Array:
    """A copy with the gates on the first axis."""
    values = _array(native)
    return values.reshape(-1, layer.outputs, *values.shape[1:])


def _write(native: Any, value: Array) -> None:
    with torch.no_grad():
        native.copy_(torch.from_numpy(value.reshape(native.shape)))


def _array(tensor: Any) -> Array:
    return np.array(tensor.detach().numpy())
