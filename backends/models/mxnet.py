"""Gluon blocks of a given form: sequential or nested, with ties by module and by parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxnet import gluon
from mxnet.gluon import nn

from d2lparams.interface import MLP, ROLES, Role


class NestMLP(gluon.HybridBlock):  # type: ignore[misc]
    """An inner model of dense layers, and an output layer."""

    def __init__(self, net: Any, linear: Any, **options: Any) -> None:
        super().__init__(**options)
        self.net = net
        self.linear = linear

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803  (Gluon's own name)
        """The output layer on what the inner model gives."""
        return self.linear(self.net(x))


def activations(spec: MLP) -> tuple[list[str | None], bool]:
    """The activation after each dense layer, and whether they have to be blocks of their own.

    A Dense holds its activation. Where one block stands at places with different ones, it cannot.
    """
    one = None if spec.activation == "identity" else spec.activation
    native: list[str | None] = [*[one] * (spec.layers - 1), None]
    shared = spec.layers if spec.by == "module" else 0
    return native, any(native[spec.owner(layer)] != native[layer] for layer in range(shared))


def blocks_of(spec: MLP, prefix: str) -> list[Any]:
    """The blocks in order of application."""
    native, separate = activations(spec)
    dense: list[Any] = []
    blocks: list[Any] = []
    for layer, activation in enumerate(native):
        outputs, inputs = spec.weight_shape(layer)
        owner = spec.owner(layer, spec.roles[0])
        if owner != layer and spec.by == "module":
            dense.append(dense[owner])
        else:
            tied = None if owner == layer else taken_from(dense[owner], spec.roles, f"{prefix}dense{layer}_")
            dense.append(
                nn.Dense(
                    outputs,
                    activation=None if separate else activation,
                    in_units=0 if spec.lazy else inputs,
                    params=tied,
                )
            )
        blocks.append(dense[layer])
        if separate and activation:
            blocks.append(nn.Activation(activation))
    return blocks


def taken_from(other: Any, roles: Sequence[Role], prefix: str, own: Any = None) -> Any:
    """What a new block takes its parameters from: another block, and for those that it keeps, its own."""
    if set(roles) == set(ROLES):
        return other.params
    # A bias that is not shared would be made anew under the other bias's name, and collide with it in
    # collect_params. A dictionary with names of its own may list the other weight under such a name.
    taken = gluon.ParameterDict(prefix)
    for role in ROLES:
        native = getattr(other if role in roles else own, role, None)
        if native is not None:
            taken.update({prefix + role: native})
    return taken
