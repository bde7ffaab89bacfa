"""Random programs, by Hypothesis: made so that what shrinks well comes out small.

A form is drawn from few widths, for layers of equal shapes can be tied; operations are a list, from which what
makes no sense at its place is left out: a tie after a life cycle, another step of an optimizer that is not
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, permutations
from typing import Any

from hypothesis import strategies as st

from d2lparams.exploring.program import OPTIMIZERS, Do, Operation, Program
from d2lparams.interface import MLP, ROLES, By, Role

DEEPEST, WIDEST, LONGEST = 6, 6, 6

_ROLES = st.sampled_from(ROLES)
_OPTIMIZERS = st.sampled_from(list(OPTIMIZERS))


@dataclass(frozen=True)
class Offer:
    """What a column has that programs can be made of."""

    tying: Sequence[By]
    lives: Sequence[str]
    files: Sequence[str]
    carries: bool


@st.composite
def programs(draw: st.DrawFn, offer: Offer) -> Program:
    """A form of model and a sequence of operations."""
    spec = draw(_forms(offer))
    drawn = draw(st.lists(_operation(spec, _kinds(spec, offer), offer), max_size=LONGEST))
    return Program(spec, tuple(sensible(spec, drawn)))


def sensible(spec: MLP, operations: Sequence[Operation]) -> list[Operation]:
    """The operations without those that make no sense where they stand, on a model of this form."""
    kept: list[Operation] = []
    objects = [spec.owner(layer) if spec.by == "module" else layer for layer in range(spec.layers)]
    way, lived = "", False
    for one in operations:
        if one.do == "tie":
            if lived:
                continue  # it may be no object any more that can be tied, and the adapter says so
            if one.by == "parameter" and objects.count(objects[one.layer]) > 1:
                continue  # some frameworks give the object another parameter, some put another at the place
            if one.by == "module":
                objects[one.layer] = objects[one.to]
        if one.do == "train on" and not way:
            continue
        if one.do in ("tie", "live", "file", "carry"):
            way, lived = "", lived or one.do != "tie"
        if one.do == "train":
            way = one.way
        kept.append(replace(one, way=way) if one.do == "train on" else one)
    return kept


def simpler(program: Program) -> Iterator[Program]:
    """Programs that are a step simpler, of those that shrinking does not come by.

    Without one of the operations; and tied when it is built, where it was tied later.
    """
    spec, operations = program.spec, program.operations
    for index, one in enumerate(operations):
        rest = operations[:index] + operations[index + 1 :]
        yield Program(spec, tuple(sensible(spec, rest)))
        if one.do == "tie" and not spec.tied:
            tied = (tuple(sorted((one.layer, one.to))),)
            lazy = spec.lazy and one.by == "module"
            other = replace(spec, tied=tied, by=one.by, roles=one.roles, lazy=lazy)
            yield Program(other, tuple(sensible(other, rest)))


@st.composite
def _forms(draw: st.DrawFn, offer: Offer) -> MLP:
    width = draw(st.integers(1, WIDEST))
    sizes = draw(
        st.lists(
            st.sampled_from([width, width, draw(st.integers(1, WIDEST))]), min_size=2, max_size=DEEPEST + 1
        )
    )
    layers = len(sizes) - 1
    tied: tuple[tuple[int, ...], ...] = ()
    by: By = "module"
    roles: tuple[Role, ...] = ROLES
    if offer.tying:
        tied = draw(_ties(sizes))
        by = draw(st.sampled_from(offer.tying))
        if by == "parameter":
            roles = draw(st.sampled_from([ROLES, ("weight",), ("bias",)]))
    return MLP(
        sizes=tuple(sizes),
        activation=draw(st.sampled_from(["identity", "tanh", "relu"])),
        tied=tied,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        by=by,
        roles=roles,
        lazy=by == "module" and draw(st.booleans()),
        nested=layers > 1 and draw(st.booleans()),
    )


@st.composite
def _ties(draw: st.DrawFn, sizes: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Groups of layers of one shape, several of them at times."""
    groups: dict[Any, list[int]] = {}
    for layer, shape in enumerate(pairwise(sizes)):
        if group := draw(st.integers(0, 2)):  # 0 is a layer by itself
            groups.setdefault((shape, group), []).append(layer)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


@st.composite
def _operation(draw: st.DrawFn, spec: MLP, kinds: Sequence[Do], offer: Offer) -> Operation:
    def place() -> int:
        return draw(st.integers(0, spec.layers - 1))

    do = draw(st.sampled_from(kinds))
    match do:
        case "write":
            return Operation(do, layer=place(), role=draw(_ROLES))
        case "train":
            return Operation(do, draw(_OPTIMIZERS))
        case "live" | "file":
            return Operation(do, draw(st.sampled_from(offer.lives if do == "live" else offer.files)))
        case "tie":
            layer, to = draw(st.sampled_from(_pairs(spec)))
            by, roles = draw(st.sampled_from(_tyings(offer)))
            return Operation(do, layer=layer, to=to, by=by, roles=roles)
    return Operation(do)


def _kinds(spec: MLP, offer: Offer) -> list[Do]:
    """What can be done to a model of this form; what stands twice is done twice as often."""
    kinds: list[Do] = ["gradients", "write", "train", "train on"]
    if offer.carries:
        kinds.append("carry")
    if offer.files:
        kinds.append("file")
    if offer.lives:
        kinds += ["live", "live"]
    if offer.tying and _pairs(spec):
        kinds.append("tie")
    return kinds


def _pairs(spec: MLP) -> list[tuple[int, int]]:
    """The layers of equal shapes, that which is used later first."""
    pairs = permutations(range(spec.layers), 2)
    equal = [pair for pair in pairs if spec.weight_shape(pair[0]) == spec.weight_shape(pair[1])]
    return sorted(equal, key=lambda pair: (max(pair), pair[0] < pair[1]))


def _tyings(offer: Offer) -> list[tuple[By, tuple[Role, ...]]]:
    ways: list[tuple[By, tuple[Role, ...]]] = [("module", ROLES)] if "module" in offer.tying else []
    if "parameter" in offer.tying:
        ways += [("parameter", ROLES), ("parameter", ("weight",)), ("parameter", ("bias",))]
    return ways
