"""Flax modules of a given form: sequential or nested, with ties by module and by parameter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from backends.uses.jax import LEAVES, Path
from d2lparams.interface import MLP

_ACTIVATIONS = {"relu": nn.relu, "tanh": nn.tanh, "identity": lambda x: x}


class NestMLP(nn.Module):  # type: ignore[misc]
    """An inner model of dense layers, and an output layer."""

    net: nn.Module
    linear: nn.Module

    def __call__(self, x: Any) -> Any:
        """The output layer on what the inner model gives."""
        return self.linear(self.net(x))


def tied_class(kind: type[nn.Module], ties: Mapping[Path, Path]) -> Any:
    """A class of modules whose layers hold each other's parameters: `ties` are from a place to its source."""

    def share(variables: Any) -> Any:
        params = flatten_dict(variables.get("params", {}))
        params.update({place: params[source] for place, source in ties.items() if source in params})
        return {**variables, "params": unflatten_dict(params)}

    def drop(variables: Any) -> Any:
        params = flatten_dict(variables.get("params", {}))
        kept = {path: value for path, value in params.items() if path not in ties}
        return {**variables, "params": unflatten_dict(kept)}

    return nn.map_variables(kind, "params", trans_in_fn=share, trans_out_fn=drop, init=True)


def plan(spec: MLP) -> tuple[list[int | str], dict[Path, Path]]:
    """What is applied in order, and which places hold the parameters of which others.

    Returns:
        In order of application the number of a dense layer, that of its first use, or the name of an
        activation; and the ties of layers that are objects of their own.
    """
    order: list[int | str] = []
    for layer in range(spec.layers):
        order.append(spec.owner(layer) if spec.by == "module" else layer)
        if layer < spec.layers - 1:
            order.append(spec.activation)

    def place(layer: int) -> Path:
        if spec.nested:
            return ("linear",) if layer == spec.layers - 1 else ("net", f"layers_{2 * layer}")
        return (f"layers_{2 * layer}",)

    ties = {
        (*place(layer), LEAVES[role]): (*place(spec.owner(layer, role)), LEAVES[role])
        for layer in range(spec.layers)
        for role in spec.roles
        if spec.by == "parameter" and spec.owner(layer, role) != layer
    }
    return order, ties


@lru_cache(maxsize=128)
def module_of(spec: MLP) -> nn.Module:
    """The module of a model. It holds no values: models of one form share it, and what is compiled for it."""
    order, ties = plan(spec)
    dense = {
        layer: nn.Dense(spec.sizes[layer + 1], param_dtype=spec.dtype)
        for layer in order
        if isinstance(layer, int)
    }
    layers = [_ACTIVATIONS[one] if isinstance(one, str) else dense[one] for one in order]
    module = assembled(layers, spec.nested)
    return retyped(module, ties) if ties else module


def assembled(layers: Sequence[Any], nested: bool) -> nn.Module:
    """A module that applies these layers, the last one by itself where it is nested."""
    return NestMLP(nn.Sequential(layers[:-1]), layers[-1]) if nested else nn.Sequential(layers)


def retyped(module: nn.Module, ties: Mapping[Path, Path]) -> nn.Module:
    """The same layers in a module of the tied class."""
    own = [one.name for one in dataclasses.fields(module) if one.init and one.name not in ("parent", "name")]
    rebuilt: nn.Module = tied_class(type(module), ties)(**{name: getattr(module, name) for name in own})
    return rebuilt
