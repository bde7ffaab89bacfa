"""Linen's layers, one at a time; how each keeps its arrays stands in `conventions`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from backends.conventions.jax import CONVENTIONS
from backends.uses.jax import Model, Path
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

_CLASSES: dict[LayerKind, type[nn.Module]] = {
    "dense": nn.Dense,
    "conv2d": nn.Conv,
    "batchnorm": nn.BatchNorm,
    "layernorm": nn.LayerNorm,
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
    "embedding": nn.Embed,
    "tied-embedding": nn.Embed,
}


class JaxLayers(Layers[Model]):
    """A layer is the pair of a module and its variables."""

    def build(self, layer: Layer) -> Model:
        """A layer that has had its first batch; there are no variables before."""
        if layer.dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        module = _module(layer)
        settings = {"use_running_average": True} if layer.kind == "batchnorm" else {}
        return module, module.init(jax.random.key(0), _first(layer), **settings)

    def parts(self, native: Model, layer: Layer) -> list[Part]:
        """The leaves of the variables, collection by collection; "params" is the one that is trained."""
        kind = _kind(layer)
        axes = {name: axes_in_words(kind, row) for row in CONVENTIONS[kind] for name in row.names}
        leaves = flatten_dict(native[1]).items()
        return [
            Part(".".join(path[1:]), tuple(leaf.shape), str(leaf.dtype), axes[_name(path)], path[0] == "params")
            for path, leaf in sorted(leaves, key=lambda leaf: leaf[0][0] != "params")
        ]

    def read(self, native: Model, layer: Layer) -> dict[str, Array]:
        """The leaves, each gate's put on the first axis."""
        kind = _kind(layer)
        leaves = {_name(path): np.asarray(leaf) for path, leaf in flatten_dict(native[1]).items()}
        canonical = to_canonical(kind, CONVENTIONS[kind], leaves)
        return {name: np.array(value) for name, value in with_summed_biases(kind, canonical).items()}

    def assign(self, native: Model, layer: Layer, values: Mapping[str, Array]) -> None:
        """Put new leaves into the variables; there is one bias for each gate, and nothing to set to zero."""
        _, variables = native
        kind, leaves = _kind(layer), flatten_dict(variables)
        places = {_name(path): path for path in leaves}
        for name, value in to_native(kind, CONVENTIONS[kind], with_two_biases(kind, values)):
            leaves[places[name]] = jnp.array(value, leaves[places[name]].dtype)
        variables.update(unflatten_dict(leaves))

    def forward(self, native: Model, layer: Layer, x: Array, *, training: bool = False) -> Array:
        """By `module.apply`; the statistics that it returns in training are put into the variables."""
        module, variables = native
        if layer.kind == "conv2d":
            return np.moveaxis(np.asarray(module.apply(variables, np.moveaxis(x, 1, -1))), -1, 1)
        if layer.kind == "tied-embedding":
            return np.asarray(_logits(module, variables, x))
        if layer.kind != "batchnorm":
            return np.asarray(module.apply(variables, x))
        if not training:
            return np.asarray(module.apply(variables, x, use_running_average=True))
        output, updated = module.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        variables.update(updated)
        return np.asarray(output)

    def gradients(self, native: Model, layer: Layer, x: Array, y: Array) -> dict[str, Array]:
        """Of one leaf, which both uses read."""
        module, variables = native
        gradient = jax.grad(lambda variables: jnp.mean((_logits(module, variables, x) - y) ** 2))(variables)
        return {"weight": np.asarray(gradient["params"]["embedding"])}

    def defaults(self, kind: LayerKind) -> dict[str, Any]:
        """The fields of the module's class that hold numbers or names, and the gates' functions."""
        found: dict[str, Any] = {}
        for field in dataclasses.fields(_CLASSES[kind]):
            if isinstance(field.default, (bool, int, float, str)):
                found[field.name] = field.default
            elif field.name in ("gate_fn", "activation_fn"):
                found[field.name] = getattr(field.default, "__name__", str(field.default))
        return found


def _module(layer: Layer) -> nn.Module:
    settings: dict[str, Any] = {"param_dtype": layer.dtype}
    if layer.epsilon is not None and layer.kind in ("batchnorm", "layernorm"):
        settings["epsilon"] = layer.epsilon
    match layer.kind:
        case "conv2d":
            return nn.Conv(layer.outputs, layer.kernel, padding="VALID", **settings)
        case "batchnorm" | "layernorm":
            return _CLASSES[layer.kind](**settings)
        case "lstm" | "gru":
            return nn.RNN(_CLASSES[layer.kind](layer.outputs, **settings))
        case "embedding" | "tied-embedding":
            return nn.Embed(layer.inputs, layer.outputs, **settings)
    return nn.Dense(layer.outputs, **settings)


def _first(layer: Layer) -> Any:
    """A first batch, from which linen takes the width of the input."""
    match layer.kind:
        case "embedding" | "tied-embedding":
            return jnp.zeros(1, "int32")
        case "conv2d":
            return jnp.zeros((1, *layer.kernel, layer.inputs), layer.dtype)
        case "lstm" | "gru":
            return jnp.zeros((1, 1, layer.inputs), layer.dtype)
    return jnp.zeros((1, layer.inputs), layer.dtype)


def _logits(module: nn.Module, variables: Any, x: Any) -> Any:
    """An embedding, and the same matrix as output projection: `attend`."""
    return module.apply(variables, x, method=lambda embed, x: embed.attend(embed(x)))


def _kind(layer: Layer) -> Kind:
    return "embedding" if layer.kind == "tied-embedding" else layer.kind


def _name(path: Path) -> str:
    """A leaf's name as the conventions have it: within its collection, and within a recurrent layer's cell."""
    return ".".join(path[1:]).removeprefix("cell.")
