"""PyTorch's layers, one at a time; how each keeps its arrays stands in `conventions`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from backends.conventions.torch import CONVENTIONS
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
    "dense": nn.Linear,
    "conv2d": nn.Conv2d,
    "batchnorm": nn.BatchNorm1d,
    "layernorm": nn.LayerNorm,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "embedding": nn.Embedding,
}
_RECURRENT = ("lstm", "gru")
_LEVEL = "_l0"  # what PyTorch puts behind the names of the first level's arrays


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
        if layer.kind in _RECURRENT:
            options["batch_first"] = True
        native: nn.Module = _CLASSES[layer.kind](*sizes, **options)
        return native

    def parts(self, native: nn.Module, layer: Layer) -> list[Part]:
        """Parameters, then buffers; without `num_batches_tracked`, which counts and is no array."""
        kind = _kind(layer)
        axes = {row.name: axes_in_words(kind, row) for row in CONVENTIONS[kind]}
        parameters = [(name, one, True) for name, one in native.named_parameters()]
        buffers = [(name, one, False) for name, one in native.named_buffers() if one.ndim]
        return [
            Part(
                name,
                tuple(one.shape),
                str(one.dtype).removeprefix("torch."),
                axes[name.rpartition(".")[2].removesuffix(_LEVEL)],
                trained,
            )
            for name, one, trained in parameters + buffers
        ]

    def read(self, native: nn.Module, layer: Layer) -> Values:
        """Copies of the arrays; of two biases what they do."""
        kind = _kind(layer)
        arrays = {name: _array(one) for name, one in _held(native, layer).items()}
        return with_summed_biases(kind, to_canonical(kind, CONVENTIONS[kind], arrays))

    def assign(self, native: nn.Module, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write into the arrays; of two biases the second is zero where canonical form has one."""
        kind, held = _kind(layer), _held(native, layer)
        with torch.no_grad():
            for name, value in to_native(kind, CONVENTIONS[kind], with_two_biases(kind, values)):
                held[name].copy_(torch.from_numpy(np.array(value)))

    def forward(self, native: nn.Module, layer: Layer, x: Array, *, training: bool = False) -> Array:
        """The output, in the mode that is asked for."""
        native.train(training)
        with torch.no_grad():
            output = native(torch.from_numpy(x))
        return _array(output[0] if layer.kind in _RECURRENT else output)

    def gradients(self, native: nn.Module, layer: Layer, x: Array, y: Array) -> Values:
        """By `backward`; both uses add to the gradient of the one parameter."""
        native.zero_grad()
        nn.functional.mse_loss(native(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        return {"weight": _array(native.embedding.weight.grad)}

    def defaults(self, kind: LayerKind) -> dict[str, Any]:
        """What the signature has; a recurrent layer's is that of its base class."""
        if kind == "tied-embedding":
            return self.defaults("embedding")
        of = nn.RNNBase if kind in _RECURRENT else _CLASSES[kind]
        found = {name: one.default for name, one in inspect.signature(of).parameters.items()}
        # `nn.GRU` refuses the projection that its base class has.
        hidden = ("proj_size",) if kind == "gru" else ()
        return {
            name: value
            for name, value in found.items()
            if isinstance(value, (bool, int, float, str)) and not name.startswith("_") and name not in hidden
        }


def _kind(layer: Layer) -> Kind:
    """What the arrays are of."""
    return "embedding" if layer.kind == "tied-embedding" else layer.kind


def _held(native: nn.Module, layer: Layer) -> dict[str, Any]:
    """The tensors, by the convention's names."""
    owner = native.embedding if layer.kind == "tied-embedding" else native
    level = _LEVEL if layer.kind in _RECURRENT else ""
    return {row.name: getattr(owner, row.name + level) for row in CONVENTIONS[_kind(layer)]}


def _array(tensor: Any) -> Array:
    return np.array(tensor.detach().numpy())
