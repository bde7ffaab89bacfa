"""Two layers that are one: how they are tied, what a write through one does, what their gradients do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from d2lparams.interface import MLP, ROLES, Backend, DType, unique
from d2lparams.scenarios.inputs import assign, batch, starting_values
from d2lparams.scenarios.registry import Observer, scenario

# The section's network with a shared layer: dense layers 1 and 2 are the same.
UNTIED = MLP(sizes=(4, 8, 8, 8, 1), dtype="float64")
TIED = replace(UNTIED, tied=((1, 2),))


@scenario(section="6.2.2", title="Tied by construction")
def tied_by_construction(backend: Backend[Any], observe: Observer) -> None:
    """Is a layer used twice one set of numbers, and how do a framework's own listings count it?

    The shared layer is written through its first use and read through its second.
    """
    model = backend.mlp(TIED)
    assign(backend, model, starting_values(TIED))
    _observe_tie(backend, observe, model)


@scenario(section="6.2.2", title="Tied afterwards")
def tied_afterwards(backend: Backend[Any], observe: Observer) -> None:
    """What does it take to tie two layers of a model that is already built, and is the tie as good?

    Some frameworks put the shared layer into the place of the other, some only let a new model be built.
    """
    untied = backend.mlp(UNTIED)
    assign(backend, untied, starting_values(UNTIED))
    model = backend.tie(untied, 2, to=1)
    observe.trait("what it takes", backend.tying)
    observe.trait("the model", _what_became(backend, untied, model))
    _observe_tie(backend, observe, model)


@scenario(section="6.2.2", title="Tied gradients add up")
def tied_gradients_add_up(backend: Backend[Any], observe: Observer) -> None:
    """Is the gradient of a shared layer the sum of the gradients that its two uses would have alone?

    Alone: in an untied model with the same values in both layers. In float64 within 1e-12 of the largest
    entry, in float32 within 1e-5; sums of at most 8 terms in four layers lose a few units in the last place.
    """
    precisions: tuple[tuple[DType, float], ...] = (("float64", 1e-12), ("float32", 1e-5))
    for dtype, rtol in precisions:
        tied, untied = (replace(spec, activation="tanh", dtype=dtype) for spec in (TIED, UNTIED))
        shared, separate = backend.mlp(tied), backend.mlp(untied)
        for model in (shared, separate):
            assign(backend, model, starting_values(tied))
        data = batch(tied, rows=6)
        together, alone = backend.gradients(shared, *data), backend.gradients(separate, *data)
        for role in ROLES:
            observe.invariant(
                f"shared {role}'s gradient, {dtype}",
                together[1, role],
                expected=alone[1, role] + alone[2, role],
                rtol=rtol,
            )


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
    one, two = (backend.parameter(model, layer, "weight") for layer in (1, 2))
    x, _ = batch(TIED, rows=2)
    before = backend.forward(model, x)
    observe.trait("names of the two uses", [one.native_name, two.native_name])
    observe.trait("access to the two uses", [one.access, two.access])
    observe.trait("same parameter object", one.native is two.native)
    observe.invariant("one storage", one.storage == two.storage, expected=True)
    observe.invariant("equal before the write", np.array_equal(one.value, two.value), expected=True)
    written = one.value
    written[0, 0] = 100.0
    backend.assign(model, 1, "weight", written)
    after = backend.forward(model, x)
    one, two = (backend.parameter(model, layer, "weight") for layer in (1, 2))
    observe.invariant("equal after the write", np.array_equal(one.value, two.value), expected=True)
    observe.invariant("[0, 0] through the other use", two.value[0, 0], expected=100.0)
    observe.invariant("output before the write", before, rtol=1e-12)
    observe.invariant("output after the write", after, rtol=1e-12)
    sizes = [parameter.size for parameter in unique(backend.parameters(model))]
    observe.invariant("unique values", sum(sizes), expected=121)
    observe.trait("own listings", backend.listings(model))
    observe.trait("own counts", backend.counts(model))
