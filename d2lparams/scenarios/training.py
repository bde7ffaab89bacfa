"""Training steps on tied values.

Learning rates, momentum and Adam's rates are numbers that binary32 holds exactly (0.125, 0.875 and the like):
MXNet and Keras keep some of them in float32, and a rounded setting would look like a difference in the rule.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from d2lparams.interface import SGD, Adam, Backend
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


@scenario(section="6.2.2", title="Training a tied model")
def train_step(backend: Backend[Any], observe: Observer) -> None:
    """Does a step of SGD with momentum move a shared layer once, and do a hundred stay with the reference?

    All in float64. One step agrees within 1e-12 of the largest entry, a hundred within 1e-11: a rounding of
    1e-16 per operation, some thirty operations deep, carried along a hundred times without growing. The rule
    is v = momentum v + g, w = w - learning rate v.
    """
    model = built(backend, TIED_TANH)
    x, y = batch(TIED_TANH, rows=32)
    trainer = backend.trainer(model, MOMENTUM)
    losses = [trainer.step(x, y)]
    observe.invariant("loss before the first step", losses[0], rtol=1e-12)
    observe.invariant("parameters after 1 step", values_of(backend, model), rtol=1e-12)
    losses += [trainer.step(x, y) for _ in range(99)]
    observe.invariant("parameters after 100 steps", values_of(backend, model), rtol=1e-11)
    observe.invariant("loss before the 100th step", losses[-1], rtol=1e-11)
    one, two = (backend.parameter(model, layer, "weight") for layer in (1, 2))
    still = one.storage == two.storage and np.array_equal(one.value, two.value)
    observe.invariant("still tied", still, expected=True)


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
    observe.invariant("parameters after 1 step", values_of(backend, model), rtol=1e-6)
    for _ in range(9):
        trainer.step(x, y)
    observe.invariant("parameters after 10 steps", values_of(backend, model), rtol=1e-6)

    model, values = built(backend, TIED_TANH), starting_values(TIED_TANH)
    gradient = backend.gradients(model, x, y)[1, "weight"]
    backend.trainer(model, ADAM_LARGE_EPSILON).step(x, y)
    step = values[1, "weight"] - backend.parameter(model, 1, "weight").value
    steps = first_step(gradient, ADAM_LARGE_EPSILON)
    observe.trait("epsilon is added", follows(step, steps, np.zeros_like(step)))
