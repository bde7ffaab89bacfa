"""Layers that are one: the ways to tie them, what a write through one does, what their gradients do.

A layer can be shared as a module (the same layer object at several places) or as a parameter (several layer
objects that hold the same numbers). A framework that has only one of the two says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from d2lparams.interface import MLP, ROLES, Backend, DType, Parameter, firsts, partition, unique
from d2lparams.scenarios.inputs import batch, built, formed, starting_values, values_in
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.tolerances import gradient_bounds, output_bound

# The section's network with a shared layer: dense layers 1 and 2 are the same.
UNTIED = MLP(sizes=(4, 8, 8, 8, 1), dtype="float64")
TIED = replace(UNTIED, tied=((1, 2),))
BY_PARAMETER = replace(TIED, activation="tanh", by="parameter")
WEIGHT_ONLY = replace(BY_PARAMETER, roles=("weight",))
THREE_USES = MLP(sizes=(4, 8, 8, 8, 8, 1), activation="tanh", tied=((1, 2, 3),), dtype="float64")
# Interleaved, so that one who joins neighbours, or both ties, is found out.
TWO_TIES = MLP(sizes=(4, 8, 8, 8, 8, 8, 1), activation="tanh", tied=((1, 3), (2, 4)), dtype="float64")
# Layer 1 stands in the inner model and is the last layer of the whole one, too.
ACROSS_DEPTHS = MLP(sizes=(4, 8, 8, 8), activation="tanh", tied=((1, 2),), nested=True, dtype="float64")


@scenario(section="6.2.2", title="Tied by construction")
def tied_by_construction(backend: Backend[Any], observe: Observer) -> None:
    """Is a layer used twice one set of numbers, and how do a framework's own listings count it?

    The shared layer is written through its first use and read through its second.
    """
    _observe_tie(backend, observe, built(backend, formed(TIED)))


@scenario(section="6.2.2", title="Tied afterwards")
def tied_afterwards(backend: Backend[Any], observe: Observer) -> None:
    """What does it take to tie two layers of a model that is already built, and is the tie as good?

    Some frameworks put the shared layer into the place of the other, some only let a new model be built.
    """
    untied = built(backend, formed(UNTIED))
    model = backend.tie(untied, 2, to=1)
    observe.trait("what it takes", backend.tying["module"])
    observe.trait("the model", _what_became(backend, untied, model))
    _observe_tie(backend, observe, model)


@scenario(section="6.2.2", title="Tied by parameter")
def tied_by_parameter(backend: Backend[Any], observe: Observer) -> None:
    """Can two layer objects hold one weight and one bias, from the start or in a model already built?"""
    _observe_sharing(backend, observe, BY_PARAMETER)
    spec = formed(BY_PARAMETER)
    untied = built(backend, replace(spec, tied=()))
    afterwards = backend.tie(untied, 2, to=1, by="parameter")
    observe.trait("what it takes afterwards", backend.tying["parameter"])
    observe.invariant(
        "one storage afterwards", partition(backend.parameters(afterwards)), expected=_by_first_use(spec)
    )


@scenario(section="6.2.2", title="A weight tied and its bias not")
def tied_weight_only(backend: Backend[Any], observe: Observer) -> None:
    """Can two layers share their weight and have biases of their own?"""
    _observe_sharing(backend, observe, WEIGHT_ONLY)


@scenario(section="6.2.2", title="One layer used three times")
def tied_three_times(backend: Backend[Any], observe: Observer) -> None:
    """Are three uses of one layer one storage, and do their three gradients add up?"""
    _observe_sharing(backend, observe, THREE_USES)


@scenario(section="6.2.2", title="Two ties in one model")
def tied_twice_over(backend: Backend[Any], observe: Observer) -> None:
    """Do two ties, of layers 1 and 3 and of layers 2 and 4, stay two?"""
    _observe_sharing(backend, observe, TWO_TIES)


@scenario(section="6.2.2", title="A tie across depths")
def tied_across_depths(backend: Backend[Any], observe: Observer) -> None:
    """Can a layer inside an inner model be used again outside of it, and under which name is it listed then?"""
    _observe_sharing(backend, observe, ACROSS_DEPTHS)


@scenario(section="6.2.2", title="Tied gradients add up")
def tied_gradients_add_up(backend: Backend[Any], observe: Observer) -> None:
    """Is the gradient of a shared layer the sum of the gradients that its two uses would have alone?

    Alone: in an untied model with the same values in both layers. Within what the roundings of either can be.
    """
    precisions: tuple[DType, ...] = ("float64", "float32")
    for dtype in precisions:
        tied, untied = (replace(formed(one), activation="tanh", dtype=dtype) for one in (TIED, UNTIED))
        values = starting_values(tied)
        shared, separate = (built(backend, spec, values) for spec in (tied, untied))
        data = batch(tied, rows=6)
        together, alone = backend.gradients(shared, *data), backend.gradients(separate, *data)
        bounds = gradient_bounds(tied, values, *data)
        for role in ROLES:
            observe.invariant(
                f"shared {role}'s gradient, {dtype}",
                together[1, role],
                expected=alone[1, role] + alone[2, role],
                atol=bounds[1, role],
            )


def _observe_sharing(backend: Backend[Any], observe: Observer, spec: MLP) -> None:
    """What is to be seen of ties of any form: uses and storages, a write through the last use, the gradients.

    A shared parameter's gradient is held against the sum of those that its uses have in an untied model with
    the same values.
    """
    spec = formed(spec)
    model, values = built(backend, spec), starting_values(spec)
    uses = backend.parameters(model)
    observe.drawing("the tie", _graph(uses), form="ties")
    x, y = batch(spec, rows=6)
    observe.trait("names of the uses", [one.native_name for one in uses if one.role == "weight"])
    observe.trait("access to the uses", [one.access for one in uses if one.role == "weight"])
    observe.trait("own counts", backend.counts(model))
    observe.invariant("uses, by the first of one storage", partition(uses), expected=_by_first_use(spec))
    objects = firsts([one.module for one in uses if one.role == "weight"])
    owners = [spec.owner(layer) if spec.by == "module" else layer for layer in range(spec.layers)]
    observe.invariant("layers, by the first of one object", objects, expected=owners)
    observe.invariant("unique values", sum(one.size for one in unique(uses)), expected=values_in(spec))
    observe.invariant("output", backend.forward(model, x), atol=output_bound(spec, values, x))

    separate = built(backend, replace(spec, tied=(), by="module", roles=ROLES), values)
    together, alone = backend.gradients(model, x, y), backend.gradients(separate, x, y)
    bounds = gradient_bounds(spec, values, x, y)
    for group in spec.tied:
        for role in spec.roles:
            observe.invariant(
                f"gradient of the {role} of layers {_list(group)}",
                together[min(group), role],
                expected=sum(alone[layer, role] for layer in group),
                atol=bounds[min(group), role],
            )
    for group in spec.tied:
        value = values[max(group), "weight"][::-1].copy()
        backend.assign(model, max(group), "weight", value)
        through = [backend.parameter(model, layer, "weight").value for layer in group]
        values |= {(layer, "weight"): value for layer in group}
        shown = all(np.array_equal(one, value) for one in through)
        observe.invariant(f"a write shows in layers {_list(group)}", shown, expected=True)
    bound = output_bound(spec, values, x)
    observe.invariant("output after the writes", backend.forward(model, x), atol=bound)


def _graph(uses: Sequence[Parameter]) -> list[dict[str, Any]]:
    """Each use and the storage that it has, which is called by the place of its first use."""
    return [
        {"layer": use.layer, "role": use.role, "name": use.native_name, "storage": storage}
        for use, storage in zip(uses, partition(uses))
    ]


def _by_first_use(spec: MLP) -> list[int]:
    """By definition: for every use, the place of the first use of the same storage."""
    return firsts([(spec.owner(layer, role), role) for layer in range(spec.layers) for role in ROLES])


def _list(group: Sequence[int]) -> str:
    """1, 2 and 3."""
    *others, last = map(str, sorted(group))
    return f"{', '.join(others)} and {last}"


def _what_became(backend: Backend[Any], before: Any, after: Any) -> str:
    """What a tie did to the model that it was asked of."""
    if after is before:
        return "changed in place"
    weight = backend.parameter(after, 0, "weight").value
    backend.assign(after, 0, "weight", weight + 1)
    moved = not np.array_equal(backend.parameter(before, 0, "weight").value, weight)
    backend.assign(after, 0, "weight", weight)
    return "rebuilt; the old one shares its layers" if moved else "rebuilt; the old one stands apart"


def _observe_tie(backend: Backend[Any], observe: Observer, model: Any) -> None:
    """What is to be seen of a tie between dense layers 1 and 2, before and after a write through layer 1."""
    spec = formed(TIED)
    values = starting_values(spec)
    observe.drawing("the tie", _graph(backend.parameters(model)), form="ties")
    one, two = (backend.parameter(model, layer, "weight") for layer in (1, 2))
    x, _ = batch(spec, rows=2)
    bound = output_bound(spec, values, x)
    before = backend.forward(model, x)
    observe.trait("names of the two uses", [one.native_name, two.native_name])
    observe.trait("access to the two uses", [one.access, two.access])
    observe.trait("same parameter object", one.native is two.native)
    observe.invariant("one storage", one.storage == two.storage, expected=True)
    known = one.module is not None
    observe.invariant("one layer object", known and one.module == two.module, expected=True)
    observe.invariant("equal before the write", np.array_equal(one.value, two.value), expected=True)
    written = one.value
    written[0, 0] = 100.0
    backend.assign(model, 1, "weight", written)
    values |= {(layer, "weight"): written for layer in (1, 2)}
    after = backend.forward(model, x)
    one, two = (backend.parameter(model, layer, "weight") for layer in (1, 2))
    observe.invariant("equal after the write", np.array_equal(one.value, two.value), expected=True)
    observe.invariant("[0, 0] through the other use", two.value[0, 0], expected=100.0)
    observe.invariant("output before the write", before, atol=bound)
    observe.invariant("output after the write", after, atol=output_bound(spec, values, x))
    sizes = [parameter.size for parameter in unique(backend.parameters(model))]
    observe.invariant("unique values", sum(sizes), expected=values_in(spec))
    observe.trait("own listings", backend.listings(model))
    observe.trait("own counts", backend.counts(model))
