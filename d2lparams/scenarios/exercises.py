"""The exercises of the section: a nested model's parameters, a tied model in training, why sharing is good."""

from __future__ import annotations

from typing import Any

import numpy as np

from d2lparams.interface import MLP, SGD, Backend, unique
from d2lparams.scenarios.inputs import batch, built, starting_values
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.training import MOMENTUM, TIED_TANH, UNTIED_TANH

# NestMLP of section 6.1: two hidden layers in an inner model, and an output layer.
NESTED = MLP(sizes=(20, 64, 32, 16), nested=True, dtype="float64")
STEPS = 20


@scenario(section="6.2.4", title="The parameters of a nested model")
def nested_parameters(backend: Backend[Any], observe: Observer) -> None:
    """How are the parameters of a NestMLP reached: an inner model of two layers, and an output layer?

    Widths are those of section 6.1: 20 inputs, 64 and 32 hidden units inside, 16 outputs. The mean squared
    error is a mean over the outputs as well, in a gradient and in a step; within 1e-12 of the largest entry,
    and sums of at most 64 terms in three layers lose some tens of units in the last place.
    """
    model = built(backend, NESTED)
    uses = backend.parameters(model)
    observe.trait("access", [one.access for one in uses])
    observe.trait("names and shapes", [f"{one.native_name} {one.native_shape}" for one in uses])
    observe.trait("own listings", backend.listings(model))
    observe.invariant(
        "shapes, canonical",
        [one.shape for one in uses],
        expected=[(64, 20), (64,), (32, 64), (32,), (16, 32), (16,)],
    )
    x, y = batch(NESTED, rows=2)
    observe.invariant("output", backend.forward(model, x), rtol=1e-12)
    gradient = backend.gradients(model, x, y)[2, "bias"]
    observe.invariant("gradient of the last bias", gradient, rtol=1e-12)
    backend.trainer(model, SGD(0.125)).step(x, y)
    observe.invariant("last bias after a step", backend.parameter(model, 2, "bias").value, rtol=1e-12)


@scenario(section="6.2.4", title="A tied model in training")
def training_record(backend: Backend[Any], observe: Observer) -> None:
    """How do the parameters and gradients of each layer go along while a tied and an untied model are trained?

    Twenty steps of SGD with momentum from the same values. Before each step: the loss, the norm of each
    parameter and of its gradient, and the shared weight's values and gradient. In float64 within 1e-11 of the
    largest entry.
    """
    for name, spec in (("tied", TIED_TANH), ("untied", UNTIED_TANH)):
        model = built(backend, spec, starting_values(TIED_TANH))
        x, y = batch(spec, rows=32)
        trainer = backend.trainer(model, MOMENTUM)
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
        observe.invariant(f"loss at each step, {name}", losses, rtol=1e-11)
        observe.invariant(f"norm of each parameter, {name}", norms, rtol=1e-11)
        observe.invariant(f"norm of each gradient, {name}", gradient_norms, rtol=1e-11)
        observe.invariant(f"layer 1's weight at each step, {name}", weights, rtol=1e-11)
        observe.invariant(f"its gradient at each step, {name}", gradients, rtol=1e-10)


@scenario(section="6.2.4", title="What sharing saves")
def what_sharing_saves(backend: Backend[Any], observe: Observer) -> None:
    """How many values and bytes does a shared layer save, and what does it cost in loss after training?

    A tied and an untied model start from the same values and take the same hundred steps of SGD with momentum,
    whose state is saved as well: one number for each value.
    """
    x, y = batch(TIED_TANH, rows=32)
    for name, spec, expected in (("tied", TIED_TANH, 121), ("untied", UNTIED_TANH, 193)):
        model = built(backend, spec, starting_values(TIED_TANH))
        stored = unique(backend.parameters(model))
        observe.invariant(f"values, {name}", sum(one.size for one in stored), expected=expected)
        observe.invariant(f"bytes, {name}", sum(one.nbytes for one in stored), expected=8 * expected)
        # What the framework counts are layers or arrays, which are not more than there are uses, or values.
        counts = {how: count for how, count in backend.counts(model).items() if count > 2 * spec.layers}
        others = {how: count for how, count in counts.items() if count != expected}
        observe.invariant(f"own counts that give another number of values, {name}", others, expected={})
        trainer = backend.trainer(model, MOMENTUM)
        losses = [trainer.step(x, y) for _ in range(101)]
        kept = sum(int(np.prod(shape)) for shape in trainer.slots().values())
        observe.invariant(f"numbers that momentum keeps, {name}", kept, expected=expected)
        observe.invariant(f"loss at the start, {name}", losses[0], rtol=1e-12)
        observe.invariant(f"loss after 100 steps, {name}", losses[-1], rtol=1e-11)
