"""The exercises of the section: a nested model's parameters, a tied model in training, why sharing is good."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from d2lparams.interface import MLP, SGD, Backend, unique
from d2lparams.scenarios.inputs import batch, built, formed, shapes_of, starting_values, tempered, values_in
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.tolerances import (
    Key,
    Look,
    State,
    gradient_bounds,
    loss_bound,
    output_bound,
    training_bounds,
)
from d2lparams.scenarios.training import MOMENTUM, TIED_TANH, UNTIED_TANH

# NestMLP of section 6.1: two hidden layers in an inner model, and an output layer.
NESTED = MLP(sizes=(20, 64, 32, 16), nested=True, dtype="float64")
STEPS = 20
RULE = SGD(0.125)


@scenario(section="6.2.4", title="The parameters of a nested model")
def nested_parameters(backend: Backend[Any], observe: Observer) -> None:
    """How are the parameters of a NestMLP reached: an inner model of two layers, and an output layer?

    Widths are those of section 6.1: 20 inputs, 64 and 32 hidden units inside, 16 outputs. The mean squared
    error is a mean over the outputs as well, in a gradient and in a step.
    """
    spec = formed(NESTED)
    model = built(backend, spec)
    uses = backend.parameters(model)
    observe.trait("access", [one.access for one in uses])
    observe.trait("names and shapes", [f"{one.native_name} {one.native_shape}" for one in uses])
    observe.trait("own listings", backend.listings(model))
    observe.invariant("shapes, canonical", [one.shape for one in uses], expected=shapes_of(spec))
    x, y = batch(spec, rows=2)
    values = starting_values(spec)
    last: Key = (spec.layers - 1, "bias")
    observe.invariant("output", backend.forward(model, x), atol=output_bound(spec, values, x))
    gradient = backend.gradients(model, x, y)[last]
    observe.invariant("gradient of the last bias", gradient, atol=gradient_bounds(spec, values, x, y)[last])
    looks = {"after": Look([1], lambda state: state.values[last])}
    within = training_bounds(spec, values, x, y, RULE, looks)["after"]
    backend.trainer(model, RULE).step(x, y)
    observe.invariant("last bias after a step", backend.parameter(model, *last).value, atol=within)


@scenario(section="6.2.4", title="A tied model in training")
def training_record(backend: Backend[Any], observe: Observer) -> None:
    """How do the parameters and gradients of each layer go along while a tied and an untied model are trained?

    Twenty steps of SGD with momentum from the same values. Before each step: the loss, the norm of each
    parameter and of its gradient, and the shared weight's values and gradient; within what rounding does to
    such a training, see `tolerances`.
    """
    values, rule = starting_values(formed(TIED_TANH)), tempered(MOMENTUM)
    for name, spec in (("tied", formed(TIED_TANH)), ("untied", formed(UNTIED_TANH))):
        model = built(backend, spec, values)
        x, y = batch(spec, rows=32)
        trainer = backend.trainer(model, rule)
        losses: list[float] = []
        norms: dict[str, list[float]] = {}
        gradient_norms: dict[str, list[float]] = {}
        weights, gradients = [], []
        for _ in range(STEPS):
            found = backend.gradients(model, x, y)
            for one in unique(backend.parameters(model)):
                key = f"layer {one.layer} {one.role}"
                norms.setdefault(key, []).append(float(np.linalg.norm(one.value)))
                gradient = found[one.layer, one.role]
                gradient_norms.setdefault(key, []).append(float(np.linalg.norm(gradient)))
            weights.append(backend.parameter(model, 1, "weight").value)
            gradients.append(found[1, "weight"])
            losses.append(trainer.step(x, y))
        stored = [(one.layer, one.role) for one in unique(backend.parameters(model))]
        steps, terms = range(STEPS), values_in(spec)
        looks = {
            "losses": Look(steps, lambda state: state.loss),
            "norms": Look(steps, partial(_norms, stored, "values"), terms),
            "gradient norms": Look(steps, partial(_norms, stored, "gradients"), terms),
            "weights": Look(steps, lambda state: state.values[1, "weight"]),
            "gradients": Look(steps, lambda state: state.gradients[1, "weight"]),
        }
        within = training_bounds(spec, values, x, y, rule, looks)
        observe.invariant(f"loss at each step, {name}", losses, atol=within["losses"])
        observe.invariant(f"norm of each parameter, {name}", norms, atol=within["norms"])
        observe.invariant(f"norm of each gradient, {name}", gradient_norms, atol=within["gradient norms"])
        observe.invariant(f"layer 1's weight at each step, {name}", weights, atol=within["weights"])
        observe.invariant(f"its gradient at each step, {name}", gradients, atol=within["gradients"])


@scenario(section="6.2.4", title="What sharing saves")
def what_sharing_saves(backend: Backend[Any], observe: Observer) -> None:
    """How many values and bytes does a shared layer save, and what does it cost in loss after training?

    A tied and an untied model start from the same values and take the same hundred steps of SGD with momentum,
    whose state is saved as well: one number for each value.
    """
    tied, untied, rule = formed(TIED_TANH), formed(UNTIED_TANH), tempered(MOMENTUM)
    values = starting_values(tied)
    x, y = batch(tied, rows=32)
    for name, spec in (("tied", tied), ("untied", untied)):
        model, expected = built(backend, spec, values), values_in(spec)
        stored = unique(backend.parameters(model))
        observe.invariant(f"values, {name}", sum(one.size for one in stored), expected=expected)
        size = expected * np.dtype(spec.dtype).itemsize
        observe.invariant(f"bytes, {name}", sum(one.nbytes for one in stored), expected=size)
        # What the framework counts are layers or arrays, which are not more than there are uses, or values.
        counts = {how: count for how, count in backend.counts(model).items() if count > 2 * spec.layers}
        others = {how: count for how, count in counts.items() if count != expected}
        observe.invariant(f"own counts that give another number of values, {name}", others, expected={})
        trainer = backend.trainer(model, rule)
        losses = [trainer.step(x, y) for _ in range(101)]
        kept = sum(int(np.prod(shape)) for shape in trainer.slots().values())
        observe.invariant(f"numbers that momentum keeps, {name}", kept, expected=expected)
        looks = {"end": Look([100], lambda state: state.loss)}
        within = training_bounds(spec, values, x, y, rule, looks)
        observe.invariant(f"loss at the start, {name}", losses[0], atol=loss_bound(spec, values, x, y))
        observe.invariant(f"loss after 100 steps, {name}", losses[-1], atol=within["end"])


def _norms(stored: Sequence[Key], what: str, state: State) -> dict[str, float]:
    """Of the values or of the gradient of each parameter that is stored."""
    norms = {key: float(np.linalg.norm(getattr(state, what)[key])) for key in stored}
    return {f"layer {layer} {role}": norm for (layer, role), norm in norms.items()}
