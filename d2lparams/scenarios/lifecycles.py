"""Tied models through a framework's own ways to copy, save, rebuild, cast and transform: are they still tied?

One scenario for each way of tying. What is looked at, and what the words mean, stands in `examination`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from d2lparams.interface import MLP, SGD, Array, Backend, Lifecycle, Unsupported
from d2lparams.scenarios.examination import IS_THE_ORIGINAL, SHARES, SILENT, examine, observe_twin
from d2lparams.scenarios.inputs import batch, built, formed, named, starting_values, values_of
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.scenarios.tolerances import Look, State, output_bound, training_bounds
from d2lparams.scenarios.tying import ACROSS_DEPTHS, THREE_USES, TIED, TWO_TIES

BY_MODULE = replace(TIED, activation="tanh", dtype="float32")
BY_PARAMETER = replace(BY_MODULE, by="parameter")
# The ways whose names promise another model, with storages of its own.
COPIES = ("deepcopy", "pickle", "save and load", "whole-model file", "copy values")
RULE = SGD(0.125)


@scenario(section="6.2.2", title="Life cycles of a layer tied by module")
def life_cycles_by_module(backend: Backend[Any], observe: Observer) -> None:
    """Which ways to copy, save, rebuild, cast or transform a model keep a layer that is used twice?

    The same layer object stands at two places. Kept; broken, silently; changed, with another output; corrupted,
    where the original was damaged; or refused, with an error. "Kept, but" cannot be trained any more.
    """
    _live(backend, observe, BY_MODULE)


@scenario(section="6.2.2", title="Life cycles of a layer tied by parameter")
def life_cycles_by_parameter(backend: Backend[Any], observe: Observer) -> None:
    """Which ways to copy, save, rebuild, cast or transform a model keep two layers on the same parameters?

    Two layer objects hold one weight and one bias. The outcomes are those of a layer tied by module.
    """
    _live(backend, observe, BY_PARAMETER)


@scenario(section="6.2.2", title="Life cycles of a shared weight with biases apart")
def life_cycles_of_a_weight(backend: Backend[Any], observe: Observer) -> None:
    """Which ways keep two layers on the same weight when each has a bias of its own?"""
    _live(backend, observe, replace(BY_PARAMETER, roles=("weight",)))


@scenario(section="6.2.2", title="Life cycles of a layer used three times", full=True)
def life_cycles_of_three_uses(backend: Backend[Any], observe: Observer) -> None:
    """Which ways keep a layer that is used three times?"""
    _live(backend, observe, replace(THREE_USES, dtype="float32"))


@scenario(section="6.2.2", title="Life cycles of two ties", full=True)
def life_cycles_of_two_ties(backend: Backend[Any], observe: Observer) -> None:
    """Which ways keep two ties that are interleaved in one model, and do not join them?"""
    _live(backend, observe, replace(TWO_TIES, dtype="float32"))


@scenario(section="6.2.2", title="Life cycles of a tie across depths", full=True)
def life_cycles_across_depths(backend: Backend[Any], observe: Observer) -> None:
    """Which ways keep a layer inside an inner model that is used again outside of it?"""
    _live(backend, observe, replace(ACROSS_DEPTHS, dtype="float32"))


@scenario(section="6.2.2", title="Life cycles of a tie with the last layer", full=True)
def life_cycles_of_the_last_layer(backend: Backend[Any], observe: Observer) -> None:
    """Which ways keep a tie that nothing follows, so that a net without its second use would still fit?"""
    _live(backend, observe, replace(ACROSS_DEPTHS, nested=False, dtype="float32"))


def _live(backend: Backend[Any], observe: Observer, spec: MLP) -> None:
    """Every life cycle, each on a model of its own; before them a step of a model that lives none."""
    spec = formed(spec)
    values = starting_values(spec)
    with backend.fresh():
        model = built(backend, spec)
        x, y = batch(spec, rows=8)
        observe.invariant("output, untouched", backend.forward(model, x), atol=output_bound(spec, values, x))
        backend.trainer(model, RULE).step(x, y)
        within = training_bounds(spec, values, x, y, RULE, {"after": Look([1], _values)})["after"]
        observe.invariant("parameters after a step, untouched", values_of(backend, model), atol=within)
        twin = observe_twin(backend, spec)
    together = []
    for lifecycle in backend.lifecycles():
        with backend.fresh():
            seen = examine(backend, lifecycle, spec, twin)
            script = _script(backend, lifecycle, spec, seen.outcome) if seen.outcome in SILENT else ""
        observe.outcome(lifecycle.name, seen.outcome, how=lifecycle.how, evidence=seen.evidence, script=script)
        if lifecycle.name in COPIES and seen.evidence.get("original") in (IS_THE_ORIGINAL, SHARES):
            together.append(lifecycle.name)
    observe.invariant("copies that do not stand apart", together, expected=[])


def _script(backend: Backend[Any], lifecycle: Lifecycle[Any], spec: MLP, outcome: str) -> str:
    """The program that shows it, or "" where the backend has none to show: the outcome stands without it."""
    try:
        return backend.script(lifecycle, spec, outcome)
    except Unsupported:
        return ""


def _values(state: State) -> dict[str, Array]:
    return named(state.values)
