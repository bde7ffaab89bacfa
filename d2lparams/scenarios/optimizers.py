"""Optimizers and ties: a tied parameter counts once. And the settings and formulas in which frameworks differ.

With the defaults, differences are traits. Each formula that a framework may follow stands in `formulas`; which
one it is, is found from its steps, and that it is one of them is an invariant. Learning rates and the like are
numbers that binary32 holds exactly (0.125, 0.875): MXNet and Keras keep some of them in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from d2lparams.interface import MLP, SGD, Adam, AdamW, Array, Backend, Optimizer, Trainer, Unsupported, unique
from d2lparams.scenarios import formulas
from d2lparams.scenarios.inputs import batch, built, formed, starting_values, values_in
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.sentences import first_sentence, sentence
from d2lparams.scenarios.tolerances import gradient_bounds, rounded_up, squares_rtol, unit_roundoff
from d2lparams.scenarios.training import MOMENTUM, TIED_TANH

DECAY = replace(MOMENTUM, weight_decay=0.125)
ADAM = Adam(learning_rate=2**-7, beta1=0.875, beta2=1 - 2**-10, epsilon=0.125)
# One weight and one bias, whose gradients for x = 1 are both as large as the target is small.
SMALLEST = MLP(sizes=(1, 1), dtype="float64")
TINY = 1e-7
ADAMW_IS_KNOWN = "AdamW, where there is one, follows a known formula"


@scenario(section="12.6", title="A tied parameter's state exists once")
def optimizer_state(backend: Backend[Any], observe: Observer) -> None:
    """Does an optimizer keep one state for a tied parameter, and how does it name it?

    The tied net has 121 values: momentum keeps as many numbers beside them, Adam twice as many.
    """
    spec = formed(TIED_TANH)
    x, y = batch(spec, rows=8)
    rules: tuple[tuple[str, Optimizer, int], ...] = (("momentum", MOMENTUM, 1), ("Adam", ADAM, 2))
    for name, rule, times in rules:
        expected = times * values_in(spec)
        trainer = backend.trainer(built(backend, spec), rule)
        trainer.step(x, y)
        slots = trainer.slots()
        observe.invariant(
            f"numbers kept by {name}", sum(int(np.prod(shape)) for shape in slots.values()), expected=expected
        )
        observe.trait(f"state of {name}", [f"{slot} {shape}" for slot, shape in slots.items()])


@scenario(section="6.2.2", title="What counts a tied parameter once")
def counted_once(backend: Backend[Any], observe: Observer) -> None:
    """Do the norm of all gradients and an L2 penalty, as a framework's users write them, count a tie once?

    By definition both sum over the parameters that there are, not over their uses. Within what a sum of squares
    loses in roundings: those of float32 for the norm, which some frameworks compute so.
    """
    spec = formed(TIED_TANH)
    optimizers, model = backend.optimizers(), built(backend, spec)
    count = values_in(spec)
    x, y = batch(spec, rows=8)
    gradients, parameters = backend.gradients(model, x, y), unique(backend.parameters(model))
    squares = sum(float(np.sum(gradients[one.layer, one.role].astype("float64") ** 2)) for one in parameters)
    how, norm = optimizers.global_norm(model, x, y)
    observe.trait("norm of all gradients by", how)
    observe.invariant("norm of all gradients", norm, expected=squares**0.5, rtol=squares_rtol(count, "float32"))
    how, penalty = optimizers.penalty(model)
    observe.trait("L2 penalty by", how)
    expected = sum(float(np.sum(one.value.astype("float64") ** 2)) for one in parameters)
    observe.invariant("L2 penalty", penalty, expected=expected, rtol=squares_rtol(count, spec.dtype))


@scenario(section="6.2.2", title="A tied parameter handed over twice")
def handed_over_twice(backend: Backend[Any], observe: Observer) -> None:
    """What if the optimizer is given one parameter for each use: does it step a tied one twice, or refuse?"""
    optimizers = backend.optimizers()
    spec = formed(TIED_TANH)
    once, model = built(backend, spec), built(backend, spec)
    x, y = batch(spec, rows=8)
    start = backend.parameter(model, 1, "weight").value
    backend.trainer(once, SGD(0.125)).step(x, y)
    expected = backend.parameter(once, 1, "weight").value - start
    # The step is found as a difference, so that the roundings are those of the weight before and after it.
    gradient = gradient_bounds(spec, starting_values(spec), x, y)[1, "weight"]
    rounding = 4 * unit_roundoff(spec.dtype) * float(np.max(np.abs(start)) + np.max(np.abs(expected)))
    within = rounded_up(0.125 * gradient + rounding)
    observe.invariant("the step when handed over once", expected, atol=within)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            optimizers.duplicated(model, SGD(0.125)).step(x, y)
            moved = backend.parameter(model, 1, "weight").value - start
            outcome = f"steps it {_ratio(moved, expected)} times"
        except Unsupported as reason:
            outcome = f"cannot be: {reason}"
        except Exception as error:
            outcome = f"refused: {sentence(error)}"
    observe.trait("the optimizer", outcome)
    said = [str(one.message) for one in told if "duplicate" in str(one.message).lower()]
    observe.trait("a warning", first_sentence(said[0]) if said else "none")


@scenario(section="12.6", title="Defaults of optimizers")
def optimizer_defaults(backend: Backend[Any], observe: Observer) -> None:
    """Which settings does each framework choose when nobody does: epsilon, weight decay, learning rate?"""
    defaults = backend.optimizers().defaults()
    for name in ("SGD", "Adam", "AdamW"):
        observe.trait(name, defaults.get(name, "has none"))


@scenario(section="12.10", title="Adam at a tiny gradient")
def adam_at_a_tiny_gradient(backend: Backend[Any], observe: Observer) -> None:
    """What does the first step of Adam do with a gradient of 1e-7, where epsilon is no longer small beside it?

    Without epsilon it would be the learning rate. With each framework's default epsilon, and with one epsilon
    for all of 1e-8; that a published formula gives the step is an invariant, which one is a trait.
    """
    default = backend.optimizers().defaults()["Adam"]
    chosen = float(next(default[key] for key in ("eps", "epsilon") if key in default))
    for name, epsilon in (("the default epsilon", chosen), ("an epsilon of 1e-8", 1e-8)):
        rule = Adam(learning_rate=0.125, epsilon=epsilon)
        model = built(backend, SMALLEST, {(0, "weight"): np.zeros((1, 1)), (0, "bias"): np.zeros(1)})
        x, y = np.ones((1, 1)), np.full((1, 1), -TINY / 2)
        backend.trainer(model, rule).step(x, y)
        step = -backend.parameter(model, 0, "bias").value
        place = formulas.follows(step, formulas.first_step(np.full(1, TINY), rule), np.zeros(1))
        observe.trait(f"step over learning rate, {name}", _digits(float(step[0]) / rule.learning_rate))
        observe.trait(f"epsilon is added, {name}", place)
        observe.invariant(f"a known formula, {name}", place != formulas.NEITHER, expected=True)


@scenario(section="3.7", title="Weight decay")
def weight_decay(backend: Backend[Any], observe: Observer) -> None:
    """Is weight decay part of the gradient, or taken from the weight apart? In SGD, and in AdamW.

    Two steps of SGD with momentum tell: decay that is part of the gradient is carried on by momentum. The
    shared weight is what is looked at; were it decayed once for each use, it would follow none of the formulas.
    """
    start, gradients, value = _two_steps(backend, DECAY)
    forms = {
        "added to the gradient": formulas.decay_in_gradient(start, gradients, DECAY),
        "taken from the weight apart": formulas.decay_apart(start, gradients, DECAY),
    }
    _observe_form(observe, "SGD's decay is", formulas.follows(value, forms, start))

    rule = AdamW(ADAM.learning_rate, ADAM.beta1, ADAM.beta2, ADAM.epsilon, weight_decay=0.125)
    spec = formed(TIED_TANH)
    model = built(backend, spec)
    x, y = batch(spec, rows=8)
    gradient = backend.gradients(model, x, y)[1, "weight"]
    try:
        backend.trainer(model, rule).step(x, y)
    except Unsupported as reason:
        observe.trait("AdamW takes from the weight", f"no AdamW: {reason}")
        observe.invariant(ADAMW_IS_KNOWN, True, expected=True)
        return
    value = backend.parameter(model, 1, "weight").value
    form = formulas.follows(value, formulas.adamw_first_step(start, gradient, rule), start)
    observe.trait("AdamW takes from the weight", form)
    observe.invariant(ADAMW_IS_KNOWN, form != formulas.NEITHER, expected=True)


@scenario(section="12.11", title="A new learning rate under momentum")
def learning_rate_change(backend: Backend[Any], observe: Observer) -> None:
    """When the learning rate falls from 0.125 to 0.03125, do the steps already in the velocity shrink with it?

    The two forms of momentum are the same as long as the rate is, and part ways when it changes.
    """
    rates = (0.125, 0.03125)
    start, gradients, value = _two_steps(backend, MOMENTUM, rates)
    forms = {
        "sum of gradients: all shrink": formulas.velocity_of_gradients(start, gradients, rates, 0.875),
        "sum of steps: they stay": formulas.velocity_of_steps(start, gradients, rates, 0.875),
    }
    _observe_form(observe, "velocity is a", formulas.follows(value, forms, start))


@scenario(section="12.5", title="A step that is told the batch size")
def step_and_batch_size(backend: Backend[Any], observe: Observer) -> None:
    """Does a step divide the gradient by a batch size that it is told, though the loss is a mean already?"""
    spec = formed(TIED_TANH)
    x, y = batch(spec, rows=8)
    moved = []
    try:
        for size in (1, 8):
            model = built(backend, spec)
            start = backend.parameter(model, 1, "weight").value
            backend.optimizers().scaled(model, SGD(0.125), size).step(x, y)
            moved.append(backend.parameter(model, 1, "weight").value - start)
    except Unsupported as reason:
        observe.trait("a step told 8 examples", f"cannot be told: {reason}")
        return
    observe.trait("a step told 8 examples", f"is {_ratio(*moved)} times as small as one told 1")


def _two_steps(
    backend: Backend[Any], rule: SGD, rates: Sequence[float] = ()
) -> tuple[Array, list[Array], Array]:
    """The shared weight before two steps, its gradient at each of them, and the weight afterwards."""
    spec = formed(TIED_TANH)
    model = built(backend, spec)
    x, y = batch(spec, rows=8)
    start, gradients = backend.parameter(model, 1, "weight").value, []
    trainer: Trainer = backend.trainer(model, rule)
    for index in range(2):
        gradients.append(backend.gradients(model, x, y)[1, "weight"])
        if index and rates:
            trainer.set_learning_rate(rates[index])
        trainer.step(x, y)
    return start, gradients, backend.parameter(model, 1, "weight").value


def _observe_form(observe: Observer, name: str, form: str) -> None:
    observe.trait(name, form)
    observe.invariant(f"{name} one of the known", form != formulas.NEITHER, expected=True)


def _ratio(step: Array, other: Array) -> str:
    """How many times as large one step is as another one, in the direction of that."""
    if not other.any():
        return "(the step is smaller than a rounding)"
    return _digits(float(np.sum(step * other) / np.sum(other**2)))


def _digits(number: float) -> str:
    """Three digits: more would show how a framework rounds, which is not what is asked."""
    return f"{number:.3g}"
