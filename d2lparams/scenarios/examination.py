"""What a life cycle does to a tied model: found by living it, on a model that has a twin that does not.

Both start from the same values. Then the result's output, its training step and a write through one use of a
shared parameter are held against the twin's, and the original against what it was. A twin's output and step are
held against the reference by the scenario. Numbers are float32; two are the same when they are as close as two
right answers are, see `tolerances`.

The outcome is the first of these that applies:

    corrupted  the original was damaged, though the result does not share its storage
    refused    an error was raised
    changed    the output is another one, or the number of layers, or the training of what is not shared
    broken     what was one storage is several, or a write or a training step shows that it is
    kept       none of these; where what came out cannot be trained, the evidence says so as a "but"
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from d2lparams.interface import MLP, Adam, Array, Backend, Lifecycle, Parameter, Unsupported, partition, unique
from d2lparams.scenarios.inputs import Values, batch, built, starting_values
from d2lparams.scenarios.sentences import first_sentence, sentence
from d2lparams.scenarios.tolerances import Key, Look, State, output, output_bound, training_bounds

# Adam, because it is not linear: two uses that are stepped apart, be it in one storage, do not end where one
# does. An epsilon of the size of the gradients keeps it from turning their rounding into steps.
STEP = Adam(learning_rate=0.125, beta1=0.875, beta2=0.75, epsilon=0.125)
IS_THE_ORIGINAL, SHARES = "is what came out", "shares its storage with what came out"
SILENT = ("broken", "changed", "corrupted")
"""The outcomes that nobody is told of; each has a script that shows it."""


@dataclass(frozen=True)
class Examined:
    """What came out.

    Attributes:
        outcome: one word, see above.
        evidence: what was seen, by what was looked at, in short sentences.
    """

    outcome: str
    evidence: dict[str, str]


@dataclass(frozen=True)
class Twin:
    """What a model that lives nothing does: the same for every life cycle of models of its form.

    Attributes:
        output: for the batch's x.
        counts: the framework's own.
        places: for every use, the place of the first use of the same storage.
        values: how many there are, each storage once.
        stepped: the values of every use after a training step.
        written: the values of every use after a write into each shared parameter, which follows the step.
        final: the output after both.
        within: how far another output may be from `output`.
        stepped_within: and, for every use, other values from those `stepped` or `written`.
        final_within: and another output from `final`.
    """

    output: Array
    counts: dict[str, int]
    places: list[int]
    values: int
    stepped: list[Array]
    written: list[Array]
    final: Array
    within: float
    stepped_within: list[float]
    final_within: float


def observe_twin(backend: Backend[Any], spec: MLP) -> Twin:
    """Let a twin take a step and a write."""
    model, values = built(backend, spec), starting_values(spec)
    x, y = batch(spec, rows=8)
    given, counts = backend.forward(model, x), backend.counts(model)
    backend.trainer(model, STEP).step(x, y)
    uses = backend.parameters(model)
    places, stepped = partition(uses), [one.value for one in uses]
    for place in sorted({first for first in places if places.count(first) > 1}):
        one = uses[place]
        backend.assign(model, one.layer, one.role, stepped[place][::-1].copy())
    written = [one.value for one in backend.parameters(model)]
    final = backend.forward(model, x)
    keys = [(one.layer, one.role) for one in uses]
    shared = [keys[place] for place in range(len(keys)) if places.count(places[place]) > 1]

    def after_the_writes(state: State) -> Array:
        turned: Values = {key: state.values[key][::-1] for key in shared}
        return output(spec, {**state.values, **turned}, x)

    looks = {str(key): Look([1], partial(_values_at, key)) for key in keys}
    bounds = training_bounds(spec, values, x, y, STEP, {**looks, "final": Look([1], after_the_writes)})
    # What a write leaves is computed with roundings of its own.
    final_within = bounds["final"] + output_bound(spec, dict(zip(keys, written)), x)
    return Twin(
        given,
        counts,
        places,
        _stored(uses),
        stepped,
        written,
        final,
        within=output_bound(spec, values, x),
        stepped_within=[bounds[str(key)] for key in keys],
        final_within=final_within,
    )


def _values_at(key: Key, state: State) -> Array:
    return state.values[key]


def examine(backend: Backend[Any], lifecycle: Lifecycle[Any], spec: MLP, twin: Twin | None = None) -> Examined:
    """Live a life cycle on a model of the given form, and look at what came out.

    Args:
        backend: whose life cycle it is.
        lifecycle: what is lived.
        spec: the form of the model.
        twin: what a model of this form does that lives nothing; None finds out.

    Raises:
        Unsupported: when the framework cannot build such a model.
    """
    twin = twin or observe_twin(backend, spec)
    original = built(backend, spec)
    x, _ = batch(spec, rows=8)
    kept = [one.value for one in backend.parameters(original)]
    evidence: dict[str, str] = {}
    result = None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = lifecycle.apply(original, lambda: backend.mlp(spec), x)
        except Exception as error:
            evidence["error"] = sentence(error)
    if said := [str(one.message) for one in told if _speaks(one.category)]:
        evidence["warning"] = first_sentence(said[0])
    damage = "" if result is original else _damage(backend, original, kept, twin, x)
    if "error" in evidence or damage:
        evidence["original"] = damage or "as it was"
        return Examined("corrupted" if damage else "refused", evidence)
    shares = result is original or bool(_storages(backend, result) & _storages(backend, original))
    outcome = _judge(backend, result, twin, spec, evidence)
    if result is original:
        evidence["original"] = IS_THE_ORIGINAL
    elif shares:
        evidence["original"] = SHARES
    else:
        damage = _damage(backend, original, kept, twin, x)
        evidence["original"] = f"{damage}, after a step and a write in what came out" if damage else "as it was"
        outcome = "corrupted" if damage else outcome
    return Examined(outcome, evidence)


def apart(value: Array, other: Array) -> float:
    """The largest distance; infinity for another shape, or where something is not finite."""
    if value.shape != other.shape:
        return np.inf
    distance = float(np.max(np.abs(np.asarray(value, "float64") - other)))
    return distance if np.isfinite(distance) else np.inf


def off(value: Array, other: Array) -> float:
    """The largest distance, relative to the largest magnitude of the other; infinity for another shape."""
    if value.shape != other.shape:
        return np.inf
    distance = float(np.max(np.abs(np.asarray(value, "float64") - other)))
    scale = float(np.max(np.abs(other)))
    return distance / scale if scale and np.isfinite(distance) else distance and np.inf


def _judge(backend: Backend[Any], result: Any, twin: Twin, spec: MLP, evidence: dict[str, str]) -> str:
    """Hold what came out against the twin; what is seen is added to the evidence."""
    x, _ = batch(spec, rows=8)
    result_output = backend.forward(result, x)
    same = apart(result_output, twin.output) <= twin.within
    distance = off(result_output, twin.output)
    evidence["output"] = "the same" if same else f"off by {_brief(distance)} of the largest"
    uses = backend.parameters(result)
    layers = 1 + max(one.layer for one in uses)
    if layers != spec.layers:
        evidence["layers"] = f"{layers} where there were {spec.layers}"
    if not same or len(uses) != len(twin.places):
        return "changed"
    places = partition(uses)
    evidence["storages"] = _against(len(set(places)), len(set(twin.places)))
    evidence["values"] = _against(_stored(uses), twin.values)
    for how, number in backend.counts(result).items():
        if number != twin.counts.get(how, number):
            evidence[how] = _against(number, twin.counts[how])
    # The step comes first: it shows what training does to uses that still have equal values.
    strayed = _step(backend, result, twin, spec, evidence)
    written = _write(backend, result, twin, x, evidence)
    shared = [twin.places.count(first) > 1 for first in twin.places]
    if any(not shared[place] for place in strayed):
        return "changed"
    return "kept" if places == twin.places and not strayed and written else "broken"


def _step(backend: Backend[Any], result: Any, twin: Twin, spec: MLP, evidence: dict[str, str]) -> list[int]:
    """The uses that a training step of the result does not take where it takes the twin's."""
    try:
        backend.trainer(result, STEP).step(*batch(spec, rows=8))
    except Unsupported as reason:
        evidence["but"] = f"it cannot be trained: {reason}"
        for place, one in enumerate(backend.parameters(result)):
            backend.assign(result, one.layer, one.role, twin.stepped[place])
        return []
    uses = backend.parameters(result)
    strayed = [
        place
        for place, one in enumerate(uses)
        if apart(one.value, twin.stepped[place]) > twin.stepped_within[place]
    ]
    evidence["a training step"] = (
        f"moves {_name(uses[strayed[0]])} elsewhere than in the twin" if strayed else "that of the twin"
    )
    return strayed


def _write(backend: Backend[Any], result: Any, twin: Twin, x: Array, evidence: dict[str, str]) -> bool:
    """Whether a write through the first use of each shared parameter shows through the others."""
    uses = backend.parameters(result)
    shared = [place for place, first in enumerate(twin.places) if twin.places.count(first) > 1]
    for place in shared:
        if twin.places[place] == place:
            one = uses[place]
            backend.assign(result, one.layer, one.role, twin.written[place])
    uses = backend.parameters(result)
    for place in shared:
        if apart(uses[place].value, twin.written[place]) > twin.stepped_within[place]:
            evidence["a write"] = f"through another use does not show in {_name(uses[place])}"
            return False
    shown = apart(backend.forward(result, x), twin.final) <= twin.final_within
    evidence["a write"] = "shows in every use" if shown else "does not show in the output as in the twin's"
    return shown


def _damage(backend: Backend[Any], model: Any, kept: Sequence[Array], twin: Twin, x: Array) -> str:
    """What is no longer as it was in the original; empty when all is."""
    try:
        uses = backend.parameters(model)
        for one, value in zip(uses, kept, strict=True):
            if not np.array_equal(one.value, value):
                return f"{_name(one)} has other values"
        if partition(uses) != twin.places:
            return "its own tie is broken"
        same = apart(backend.forward(model, x), twin.output) <= twin.within
        return "" if same else "its output has changed"
    except Exception as error:
        return f"cannot be read any more: {sentence(error)}"


def _storages(backend: Backend[Any], model: Any) -> set[Hashable]:
    return {one.storage for one in backend.parameters(model)}


def _stored(uses: Sequence[Parameter]) -> int:
    """The number of values, each storage once."""
    return sum(one.size for one in unique(uses))


def _speaks(category: type[Warning]) -> bool:
    """Whether a warning is meant for the user of the model, and not for who maintains the code."""
    return not issubclass(
        category, (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning)
    )


def _against(number: int, before: int) -> str:
    return f"{number}" if number == before else f"{number} where there were {before}"


def _name(one: Parameter) -> str:
    return f"layer {one.layer}'s {one.role}"


def _brief(distance: float) -> str:
    return f"{distance:.2g}" if np.isfinite(distance) else "more than can be said"
