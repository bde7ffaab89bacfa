"""Training steps on tied values.

Learning rates, momentum and Adam's rates are numbers that binary32 holds exactly (0.125, 0.875 and the like):
MXNet and Keras keep some of them in float32, and a rounded setting would look like a difference in the rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from d2lparams.interface import SGD, Adam, Array, Backend, Trainer, unique
from d2lparams.scenarios.formulas import first_step, follows
from d2lparams.scenarios.inputs import batch, built, starting_values, values_of
from d2lparams.scenarios.registry import Observer, scenario
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

    All in float64. One step agrees within 1e-12 of the largest entry, a hundred within 1e-11: a rounding of
    1e-16 per operation, some thirty operations deep, carried along a hundred times without growing. The rule
    is v = momentum v + g, w = w - learning rate v. Two more steps are taken after a write, and on a batch of
    another size: what a trainer or a compiled step has kept from before must not be what is used.
    """
    model = built(backend, TIED_TANH)
    x, y = batch(TIED_TANH, rows=32)
    trainer = backend.trainer(model, MOMENTUM)
    losses = [trainer.step(x, y)]
    observe.invariant("loss before the first step", losses[0], rtol=1e-12)
    observe.invariant("parameters after 1 step", values_of(backend, model), rtol=1e-12, form="matrices")
    losses += [trainer.step(x, y) for _ in range(99)]
    observe.invariant("parameters after 100 steps", values_of(backend, model), rtol=1e-11, form="matrices")
    observe.invariant("loss before the 100th step", losses[-1], rtol=1e-11)
    one, two = (backend.parameter(model, layer, "weight") for layer in (1, 2))
    still = one.storage == two.storage and np.array_equal(one.value, two.value)
    observe.invariant("still tied", still, expected=True)
    backend.assign(model, 0, "weight", starting_values(TIED_TANH)[0, "weight"])
    trainer.step(x, y)
    observe.invariant("parameters after a write and a step", values_of(backend, model), rtol=1e-11)
    trainer.step(x[::-2].copy(), y[::-2].copy())
    observe.invariant("parameters after a step on another batch", values_of(backend, model), rtol=1e-11)


@scenario(section="6.2.2", title="Tied against untied, step by step")
def training_curves(backend: Backend[Any], observe: Observer) -> None:
    """Where do a tied and an untied model go from the same values, and do all frameworks take the same way?

    Both layers of the untied model start from the values that the tied one has once, so that both compute the
    same until the first step. The three numbers are those before each of 50 steps of SGD with momentum on one
    batch. Norms are over what is stored: the values and the gradient of the shared layer count once, and its
    gradient is the sum of its uses'. All in float64, and within 1e-11 of the largest entry, as 100 steps are in
    `train-step`: a loss and a norm are some hundred operations more on values that agree so, whose roundings
    of 1e-16 do not reach that.
    """
    x, y = batch(TIED_TANH, rows=32)
    curves: dict[str, dict[str, list[float]]] = {"loss": {}, "parameter norm": {}, "gradient norm": {}}
    for name, spec in (("tied", TIED_TANH), ("untied", UNTIED_TANH)):
        model = built(backend, spec, starting_values(TIED_TANH))
        trainer = backend.trainer(model, MOMENTUM)
        seen = [_before_and_step(backend, model, trainer, x, y) for _ in range(STEPS)]
        for curve, numbers in zip(curves.values(), zip(*seen)):
            curve[name] = list(numbers)
    for name, curve in curves.items():
        observe.invariant(name, curve, rtol=1e-11, form="curves")


@scenario(section="6.2.2", title="Adam on a tied model")
def adam_steps(backend: Backend[Any], observe: Observer) -> None:
    """Do ten steps of Adam agree with the reference, and where does a framework add epsilon?

    With an epsilon of 2**-40 its place cannot be seen, and the parameters agree within 1e-6 of the largest
    entry (MXNet and Keras compute the step size in float32). With an epsilon of 0.125 the first step tells
    where it is added: to the deviation after its bias is corrected (algorithm 1 of Kingma and Ba, 2015), or
    before (the variant at the end of their section 2), which makes it 32 times larger here.
    """
    x, y = batch(TIED_TANH, rows=32)
    model = built(backend, TIED_TANH)
    trainer = backend.trainer(model, ADAM)
    trainer.step(x, y)
    observe.invariant("parameters after 1 step", values_of(backend, model), rtol=1e-6, form="matrices")
    for _ in range(9):
        trainer.step(x, y)
    observe.invariant("parameters after 10 steps", values_of(backend, model), rtol=1e-6, form="matrices")

    model = built(backend, TIED_TANH)
    trainer = backend.trainer(model, ADAM_SHORT_MEMORY)
    for _ in range(20):
        trainer.step(x, y)
    observe.invariant("parameters after 20 steps of a short memory", values_of(backend, model), rtol=1e-6)

    model, values = built(backend, TIED_TANH), starting_values(TIED_TANH)
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


def _norm(arrays: Sequence[Array]) -> float:
    """The Euclidean norm of all numbers together."""
    return float(np.sqrt(sum(float(np.sum(np.square(array))) for array in arrays)))
