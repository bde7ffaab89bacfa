"""Holds what was seen of a program against what must hold, and says the first thing that does not.

After each operation the judge starts anew from what was seen before it, so that rounding does not add up.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from d2lparams.checks import Array
from d2lparams.exploring.executing import value_for
from d2lparams.exploring.ideal import Bounded, Ideal, Stepping, compute, gradients_of_storages
from d2lparams.exploring.program import OPTIMIZERS, ROWS, Operation, Program
from d2lparams.exploring.seen import Seen, Snapshot
from d2lparams.interface import MLP
from d2lparams.scenarios.inputs import batch, starting_values

Place = tuple[int, str]

MUST = {
    "crash": "the process goes on",
    "hang": "the operation comes to an end",
    "raises": "no error is raised",
    "unreadable": "every model can be read and computed with",
    "layers": "the model has as many layers as before",
    "ties": "uses that share a storage do so after it, and no others",
    "dtype": "the dtype is what it was",
    "values": "values change where they are written, and nowhere else",
    "another model": "no other model changes",
    "sharing": "a copy shares all of its original's storages, or none",
    "output": "the output is that of the formula",
    "gradients": "a use's gradient is the sum of those of all uses of its storage",
    "loss": "the loss is that of the formula",
    "step": "each storage moves once, by the sum of the gradients of its uses",
    "counts": "the framework counts as many parameters as before",
}
"""What must hold, by the word for its violation."""

RECOMPUTED = {"weight_norm and back": 8}
"""The ways that compute a weight anew, and how many units of rounding that may cost.

A weight norm is g * v / |v|, of vectors of 6 numbers at most: 6 / 2 for the sum of squares under a root, and
one each for the root, g, the quotient and the product, rounded up.
"""


@dataclass(frozen=True)
class Deviation:
    """The first thing in a program that does not hold.

    Attributes:
        ways: the life cycles, formats and carryings up to it, in order.
        operation: at which it was seen.
        violated: a word of `MUST`.
        seen: in a sentence.
        traits: words for the form of the model and what was done before: "tied", "module", "parameter",
            "weight only", "bias only", "nested", "lazy", the dtype, the activation, "one layer", "trained",
            "tied later".
    """

    ways: tuple[str, ...]
    operation: str
    violated: str
    seen: str
    traits: frozenset[str] = frozenset()

    @property
    def way(self) -> str:
        """The last of the ways; "" where there was none."""
        return self.ways[-1] if self.ways else ""

    @property
    def what(self) -> tuple[str, str]:
        """The operation, and what it violates or raises."""
        kind = self.seen.partition(":")[0] if self.violated in ("raises", "unreadable") else ""
        return self.operation, f"{self.violated} {kind}".strip()

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two deviations one finding: the last way, the operation, and what it violates."""
        return self.way, *self.what

    @property
    def keys(self) -> set[tuple[str, str, str]]:
        """The keys of the findings that this may be one more case of: without a way, and with each of them."""
        return {(way, *self.what) for way in ("", *self.ways)}


def judge(program: Program, seen: Sequence[Seen]) -> Deviation | None:
    """The first thing that does not hold, or None.

    Args:
        program: what was run.
        seen: after building the model and after each operation, until something ended it.
    """
    before: Seen | None = None
    memory: dict[Place, Stepping] = {}
    names = ["build", *(one.name for one in program.operations)]
    for index, now in enumerate(seen):
        found = _built(program, now) if before is None else _operated(program, index, before, now, memory)
        for violated, sentence in found:
            done = program.operations[:index]
            ways = tuple(one.name for one in done if one.do in ("live", "file", "carry"))
            return Deviation(ways, names[index], violated, sentence, _traits(program.spec, done))
        if now.unsupported and not now.models:
            return None
        before = now
    return None


def _built(program: Program, now: Seen) -> Iterator[tuple[str, str]]:
    if now.unsupported:
        return
    yield from _ended(now)
    starting = starting_values(program.spec)
    values: dict[Place, Array] = {(layer, role): one for (layer, role), one in starting.items()}
    storages: dict[Place, object] = {
        (layer, role): (program.spec.owner(layer, role), role) for layer, role in starting
    }
    (model,) = now.models
    yield from _model(program, model, storages, values)


def _operated(
    program: Program, index: int, before: Seen, now: Seen, memory: dict[Place, Stepping]
) -> Iterator[tuple[str, str]]:
    operation = program.operations[index - 1]
    if now.ended:
        yield from _ended(now)
        return
    was = before.models[-1]
    storages, values = _storages(was), _values(was)
    wanted: Mapping[Place, object] = storages
    others = list(zip(before.models[:-1], now.models))
    if operation.do == "live" and now.in_place:
        # What shares the storages of the model that is changed in place is changed with it.
        own = set(storages.values())
        others = [(one, other) for one, other in others if not own & set(_storages(one).values())]
    if operation.do in ("live", "file", "carry") and not now.in_place:
        others.append((was, now.models[len(before.models) - 1]))
    # What an operation that raised did to others is told first: it is the worse of the two.
    moved: dict[int, Array] = {}
    if now.error or operation.do in ("live", "file", "carry", "gradients") or now.unsupported:
        yield from _others(others, moved, changes=False)
    yield from _ended(now)
    model = now.models[-1]
    if now.unsupported:
        yield from _model(program, model, storages, values)
        return
    match operation.do:
        case "write":
            place = (operation.layer, operation.role)
            value = value_for(index, values[place].shape, str(values[place].dtype))
            moved = {storages[place]: value}
        case "tie":
            wanted, values = _tied(program, index, operation, storages, values)
        case "live" if operation.way == "cast":
            values = {place: value.astype("float64") for place, value in values.items()}
        case "train" | "train on":
            yield from _stepped(program, operation, was, now, memory)
            if model.error:
                yield "unreadable", model.error
            seen = _values(model)
            moved = {storage: seen[place] for place, storage in storages.items() if place in seen}
    values = {place: moved.get(storages[place], value) for place, value in values.items()}
    if operation.do in ("write", "train", "train on"):
        yield from _others(others, moved, changes=True)
    if operation.do in ("live", "file", "carry") and not now.in_place:
        mine, theirs = set(_storages(model).values()), set(_storages(now.models[-2]).values())
        if mine & theirs and mine != theirs:
            yield "sharing", f"{len(mine & theirs)} of {len(mine)} storages are those of the original"
    yield from _model(program, model, wanted, values, RECOMPUTED.get(operation.way, 0))
    if now.gradients is not None:
        yield from _gradients(program, model, now.gradients)
    if operation.do != "tie":
        for how, number in model.counts.items():
            # How many layers it lists is a framework's own way; a functional model lists its input, too.
            if "layers" not in how and was.counts.get(how, number) != number:
                yield "counts", f"{how} is {number} where it was {was.counts[how]}"


def _ended(now: Seen) -> Iterator[tuple[str, str]]:
    if now.ended:
        yield ("hang" if "longer" in now.ended else "crash"), now.ended
    if now.error:
        yield "raises", now.error


def _model(
    program: Program,
    model: Snapshot,
    storages: Mapping[Place, object],
    values: Mapping[Place, Array],
    recomputed: int = 0,
) -> Iterator[tuple[str, str]]:
    """The current model against its storages and values as they must be, within so many units of rounding."""
    if model.error:
        yield "unreadable", model.error
        return
    seen, where = _values(model), _storages(model)
    if seen.keys() != values.keys():
        layers = 1 + max(layer for layer, _ in seen)
        yield "layers", f"{layers} layers, {len(seen)} uses, where there were {len(values)}"
        return
    for place, value in values.items():
        if seen[place].dtype != value.dtype:
            yield "dtype", f"{_name(place)} is {seen[place].dtype} and was {value.dtype}"
        if seen[place].shape != value.shape:
            yield "values", f"{_name(place)} has shape {seen[place].shape} and had {value.shape}"
    for place in values:
        for other in values:
            if (where[place] == where[other]) != (storages[place] == storages[other]):
                how = "share no storage" if where[place] != where[other] else "share a storage"
                yield "ties", f"{_name(other)} and {_name(place)} {how}"
    for place, value in values.items():
        near = recomputed * np.finfo(value.dtype).eps * np.abs(value)
        if not np.all(np.abs(seen[place] - value) <= near):
            yield "values", f"{_name(place)} is {_brief(seen[place])} where it must be {_brief(value)}"
    ideal = _compute(program, model)
    if model.output is not None and not ideal.output.holds(model.output):
        yield "output", _apart(model.output, ideal.output)


def _others(
    pairs: Iterable[tuple[Snapshot, Snapshot]], moved: Mapping[int, Array], *, changes: bool
) -> Iterator[tuple[str, str]]:
    """Every model but the current one: only what shares its storage may have changed, and as that did."""
    for was, now in pairs:
        if was.error:
            continue  # it could not be read before either, which was told then
        if now.error:
            yield "another model", f"an earlier model cannot be read any more: {now.error}"
            continue
        storages, seen = _storages(was), _values(now)
        for place, value in _values(was).items():
            expected = moved.get(storages[place], value)
            if place not in seen or not np.array_equal(seen[place], expected):
                yield "another model", f"{_name(place)} of an earlier model has changed"
        if changes or was.output is None or now.output is None:
            continue
        if not np.array_equal(was.output, now.output):
            yield "another model", "the output of an earlier model has changed"


def _stepped(
    program: Program, operation: Operation, was: Snapshot, now: Seen, memory: dict[Place, Stepping]
) -> Iterator[tuple[str, str]]:
    """A training step of the current model."""
    model = now.models[-1]
    if model.error:
        return
    ideal, storages = _compute(program, was), _storages(was)
    if now.loss is not None and not ideal.loss.holds(np.array(now.loss)):
        yield "loss", _apart(np.array(now.loss), ideal.loss)
    seen, values = _values(model), _values(was)
    if operation.do == "train":
        memory.clear()
    # Storages have other numbers after each look; their first place is what stays.
    firsts: dict[int, Place] = {}
    for place, storage in storages.items():
        firsts.setdefault(storage, place)
    if not ideal.decided:
        memory.clear()
        return
    fresh = operation.do == "train"
    for storage, gradient in gradients_of_storages(ideal, storages).items():
        first = firsts[storage]
        if first not in memory and not fresh:
            continue  # a step before this one was not decided, and the optimizer's state is not known
        stepping = memory.setdefault(first, Stepping(OPTIMIZERS[operation.way]))
        expected = stepping.step(values[first], gradient)
        for place in (one for one, other in storages.items() if other == storage):
            if place in seen and not any(one.holds(seen[place]) for one in expected):
                yield "step", f"{_name(place)}: {_apart(seen[place], expected[0])}"


def _gradients(program: Program, model: Snapshot, seen: Mapping[str, Array]) -> Iterator[tuple[str, str]]:
    ideal, storages = _compute(program, model), _storages(model)
    if not ideal.decided:
        return
    expected = gradients_of_storages(ideal, storages)
    for place, storage in storages.items():
        found = seen.get(f"{place[0]} {place[1]}")
        if found is None:
            yield "gradients", f"{_name(place)} has none"
        elif not expected[storage].holds(found):
            yield "gradients", f"{_name(place)}: {_apart(found, expected[storage])}"


def _tied(
    program: Program,
    index: int,
    operation: Operation,
    storages: Mapping[Place, int],
    values: Mapping[Place, Array],
) -> tuple[dict[Place, object], dict[Place, Array]]:
    """Storages and values after a tie: layers are objects, and objects hold storages.

    A tie by module puts one object at another place; one by parameter gives an object other storages, and so at
    every place at which it stands.
    """
    spec = program.spec
    objects = {layer: spec.owner(layer) if spec.by == "module" else layer for layer in range(spec.layers)}
    for one in program.operations[: index - 1]:
        if one.do == "tie" and one.by == "module":
            objects[one.layer] = objects[one.to]
    new: dict[Place, object] = dict(storages)
    given = dict(values)
    places = [operation.layer]
    if operation.by == "parameter":
        places = [layer for layer in objects if objects[layer] == objects[operation.layer]]
    for layer in places:
        for role in operation.roles:
            new[layer, role] = storages[operation.to, role]
            given[layer, role] = values[operation.to, role]
    return new, given


@lru_cache
def _batch(spec: MLP) -> tuple[Array, Array]:
    return batch(spec, ROWS)


def _compute(program: Program, model: Snapshot) -> Ideal:
    values = _values(model)
    dtype = values[0, "weight"].dtype
    x, y = _batch(program.spec)
    layers = [(values[layer, "weight"], values[layer, "bias"]) for layer in range(program.spec.layers)]
    return compute(layers, program.spec.activation, x.astype(dtype), y.astype(dtype))


def _traits(spec: MLP, done: Sequence[Operation]) -> frozenset[str]:
    traits = {spec.dtype, spec.activation, "one layer" if spec.layers == 1 else "deep"}
    if spec.nested:
        traits.add("nested")
    if spec.lazy:
        traits.add("lazy")
    if spec.tied:
        traits |= {"tied", spec.by}
        if len(spec.roles) == 1:
            traits.add(f"{spec.roles[0]} only")
    for one in done:
        if one.do == "tie":
            traits |= {"tied", "tied later", one.by}
            if len(one.roles) == 1:
                traits.add(f"{one.roles[0]} only")
        if one.do in ("train", "train on"):
            traits.add("trained")
    return frozenset(traits)


def _storages(model: Snapshot) -> dict[Place, int]:
    return {(one.layer, one.role): one.storage for one in model.uses}


def _values(model: Snapshot) -> dict[Place, Array]:
    return {(one.layer, one.role): one.value for one in model.uses}


def _name(place: Place) -> str:
    return f"layer {place[0]}'s {place[1]}"


def _brief(array: Array) -> str:
    return np.array2string(array.ravel()[:3], precision=4, separator=", ") + ("…" if array.size > 3 else "")


def _apart(seen: Array, expected: Bounded) -> str:
    if seen.shape != expected.value.shape:
        return f"has shape {seen.shape} where it must have {expected.value.shape}"
    distance = np.abs(seen - expected.value)
    worst = np.unravel_index(np.argmax(distance - expected.bound), distance.shape) if distance.shape else ()
    right, bound = expected.value[worst], float(expected.bound[worst])
    return f"{seen[worst]:.9g} where it must be {right:.9g} within {bound:.2g}"
