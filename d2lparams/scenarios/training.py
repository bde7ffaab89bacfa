"""Training steps on tied values.

Learning rates, momentum and Adam's rates are numbers that binary32 holds exactly (0.125, 0.875 and the like):
MXNet and Keras keep some of them in float32, and a rounded setting would look like a difference in the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from d2lparams.interface import SGD, Adam, Array, Backend, Trainer, unique
from d2lparams.scenarios.formulas import first_step, follows
from d2lparams.scenarios.inputs import (
    batch,
    built,
    formed,
    named,
    starting_values,
    tempered,
    values_in,
    values_of,
)
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.tolerances import Key, Look, State, loss_bound, training_bounds
from d2lparams.scenarios.tying import TIED, UNTIED

TIED_TANH = replace(TIED, activation="tanh")
UNTIED_TANH = replace(UNTIED, activation="tanh")
MOMENTUM = SGD(learning_rate=0.125, momentum=0.875)
# An epsilon too small to matter, and one too large to overlook.
ADAM = Adam(learning_rate=2**-7, beta1=0.875, beta2=1 - 2**-10, epsilon=2**-40)
ADAM_LARGE_EPSILON = replace(ADAM, epsilon=0.125)
# One that forgets the squares of gradients as fast as they fall.
ADAM_SHORT_MEMORY = replace(ADAM, beta2=0.5)
STEPS = 50


@scenario(section="6.2.2", title="Training a tied model")
def train_step(backend: Backend[Any], observe: Observer) -> None:
    """Does a step of SGD with momentum move a shared layer once, and do a hundred stay with the reference?

    Within what rounding does to such a training, see `tolerances`. The rule is v = momentum v + g,
    w = w - learning rate v. Two more steps are taken after a write, and on a batch of another size: what a
    trainer or a compiled step has kept from before must not be what is used.
    """
    spec = formed(TIED_TANH)
    model, values, rule = built(backend, spec), starting_values(spec), tempered(MOMENTUM)
    x, y = batch(spec, rows=32)
    looks = {
        "after 1": Look([1], _values),
        "after 100": Look([100], _values),
        "after a write": Look([101], _values),
        "another batch": Look([102], _values),
        "100th loss": Look([99], lambda state: state.loss),
    }
    first: Key = (0, "weight")
    other = x[::-2].copy(), y[::-2].copy()
    changes: dict[str, Any] = {"writes": {100: {first: values[first]}}, "batches": {101: other}}
    within = training_bounds(spec, values, x, y, rule, looks, **changes)
    trainer = backend.trainer(model, rule)
    losses = [trainer.step(x, y)]
    observe.invariant("loss before the first step", losses[0], atol=loss_bound(spec, values, x, y))
    after = values_of(backend, model)
    observe.invariant("parameters after 1 step", after, atol=within["after 1"], form="matrices")
    losses += [trainer.step(x, y) for _ in range(99)]
    after = values_of(backend, model)
    observe.invariant("parameters after 100 steps", after, atol=within["after 100"], form="matrices")
    observe.invariant("loss before the 100th step", losses[-1], atol=within["100th loss"])
    one, two = (backend.parameter(model, layer, "weight") for layer in (1, 2))
    still = one.storage == two.storage and np.array_equal(one.value, two.value)
    observe.invariant("still tied", still, expected=True)
    backend.assign(model, *first, values[first])
    trainer.step(x, y)
    after = values_of(backend, model)
    observe.invariant("parameters after a write and a step", after, atol=within["after a write"])
    trainer.step(*other)
    after = values_of(backend, model)
    observe.invariant("parameters after a step on another batch", after, atol=within["another batch"])


@scenario(section="6.2.2", title="Tied against untied, step by step")
def training_curves(backend: Backend[Any], observe: Observer) -> None:
    """Where do a tied and an untied model go from the same values, and do all frameworks take the same way?

    Both layers of the untied model start from the values that the tied one has once, so that both compute the
    same until the first step. The three numbers are those before each of 50 steps of SGD with momentum on one
    batch. Norms are over what is stored: the values and the gradient of the shared layer count once, and its
    gradient is the sum of its uses'. Within what rounding does to such a training, see `tolerances`.
    """
    tied, untied, rule = formed(TIED_TANH), formed(UNTIED_TANH), tempered(MOMENTUM)
    x, y = batch(tied, rows=32)
    curves: dict[str, dict[str, list[float]]] = {"loss": {}, "parameter norm": {}, "gradient norm": {}}
    within: dict[str, dict[str, float]] = {name: {} for name in curves}
    for name, spec in (("tied", tied), ("untied", untied)):
        values = starting_values(tied)
        model = built(backend, spec, values)
        stored = [(one.layer, one.role) for one in unique(backend.parameters(model))]
        steps, terms = range(STEPS), values_in(spec)
        looks = {
            "loss": Look(steps, lambda state: state.loss),
            "parameter norm": Look(steps, partial(_norm_of, stored, "values"), terms),
            "gradient norm": Look(steps, partial(_norm_of, stored, "gradients"), terms),
        }
        for curve, bound in training_bounds(spec, values, x, y, rule, looks).items():
            within[curve][name] = bound
        trainer = backend.trainer(model, rule)
        seen = [_before_and_step(backend, model, trainer, x, y) for _ in range(STEPS)]
        for line, numbers in zip(curves.values(), zip(*seen)):
            line[name] = list(numbers)
    for curve, line in curves.items():
        observe.invariant(curve, line, atol=within[curve], form="curves")


@scenario(section="6.2.2", title="Adam on a tied model")
def adam_steps(backend: Backend[Any], observe: Observer) -> None:
    """Do ten steps of Adam agree with the reference, and where does a framework add epsilon?

    With an epsilon of 2**-40 its place can hardly be seen, and the parameters agree within what the roundings
    of the step's size do to them, for MXNet and Keras compute that in float32, see `tolerances`. With an
    epsilon of 0.125 the first step tells where it is added: to the deviation after its bias is corrected
    (algorithm 1 of Kingma and Ba, 2015), or before (the variant at the end of their section 2), which makes it
    32 times larger here.
    """
    spec = formed(TIED_TANH)
    values = starting_values(spec)
    x, y = batch(spec, rows=32)
    model = built(backend, spec)
    trainer = backend.trainer(model, ADAM)
    looks = {"after 1": Look([1], _values), "after 10": Look([10], _values)}
    within = training_bounds(spec, values, x, y, ADAM, looks, either_epsilon=True)
    trainer.step(x, y)
    after = values_of(backend, model)
    observe.invariant("parameters after 1 step", after, atol=within["after 1"], form="matrices")
    for _ in range(9):
        trainer.step(x, y)
    after = values_of(backend, model)
    observe.invariant("parameters after 10 steps", after, atol=within["after 10"], form="matrices")

    model = built(backend, spec)
    trainer = backend.trainer(model, ADAM_SHORT_MEMORY)
    for _ in range(20):
        trainer.step(x, y)
    within = training_bounds(
        spec, values, x, y, ADAM_SHORT_MEMORY, {"after": Look([20], _values)}, either_epsilon=True
    )
    after = values_of(backend, model)
    observe.invariant("parameters after 20 steps of a short memory", after, atol=within["after"])

    model = built(backend, spec)
    gradient = backend.gradients(model, x, y)[1, "weight"]
    backend.trainer(model, ADAM_LARGE_EPSILON).step(x, y)
    step = values[1, "weight"] - backend.parameter(model, 1, "weight").value
    steps = first_step(gradient, ADAM_LARGE_EPSILON)
    observe.trait("epsilon is added", follows(step, steps, np.zeros_like(step)))


def _before_and_step(
    backend: Backend[Any], model: Any, trainer: Trainer, x: Array, y: Array
) -> tuple[float, float, float]:
    """Take a step, and tell the loss, the norm of the parameters and that of the gradient before it."""
    stored = unique(backend.parameters(model))
    gradients = backend.gradients(model, x, y)
    parameter_norm = _norm([one.value for one in stored])
    gradient_norm = _norm([gradients[one.layer, one.role] for one in stored])
    return trainer.step(x, y), parameter_norm, gradient_norm


def _values(state: State) -> dict[str, Array]:
    """As `values_of` gives them."""
    return named(state.values)


def _norm_of(stored: Sequence[Key], what: str, state: State) -> float:
    """Of the values or of the gradients of what is stored."""
    return _norm([getattr(state, what)[key] for key in stored])


def _norm(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of all numbers together."""
    return float(np.sqrt(sum(float(np.sum(np.square(array))) for array in arrays)))
