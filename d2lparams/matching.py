"""Which layer of a model takes the values of which layer of a parameter set, by structure.

Two layers can be each other's when their kind is the same and their canonical arrays have the same shapes.
Where that leaves a choice, equal paths decide; then the order, if both sides stand in order of application.
Where neither decides, nothing is guessed: the layers are named and the user is asked for a mapping.

A layer all of whose arrays belong to earlier ones (a tied one) can be left out of account when one of the two
sides cannot tell how often its layers are used. Pure; imports NumPy only, through what describes layers.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from d2lparams.conventions import Kind


class MatchError(ValueError):
    """The layers of two models are not each other's. One sentence: where, and what would help."""


@dataclass(frozen=True)
class Described:
    """A layer as far as matching is concerned.

    Attributes:
        path: its own, unique in its model.
        kind: of the layer.
        shapes: of its canonical arrays, by name.
        storages: of its canonical arrays, by name: equal where they are one.
    """

    path: str
    kind: Kind
    shapes: Mapping[str, tuple[int, ...]]
    storages: Mapping[str, Hashable]

    @property
    def signature(self) -> Hashable:
        """Equal for two layers that could hold each other's values."""
        return self.kind, tuple(sorted(self.shapes.items()))

    def __str__(self) -> str:
        sizes = " ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in self.shapes.items())
        return f"{self.path or 'the model itself'!r} ({self.kind}: {sizes})"


def match(
    source: Sequence[Described],
    target: Sequence[Described],
    *,
    ordered: bool = True,
    mapping: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """For each layer of the target, by its path, the path of the source's layer whose values it takes.

    A layer of the target that is only another use of earlier layers may be left out.

    Args:
        source: the layers that give.
        target: the layers that take.
        ordered: whether both stand in order of application.
        mapping: what the user says: from a path of the target to one of the source; the rest is found.

    Raises:
        MatchError: when they do not fit, or when more than one way is possible.
    """
    mapping = dict(mapping or {})
    _check_mapping(source, target, mapping)
    left = [one for one in source if one.path not in mapping.values()]
    open_ = [one for one in target if one.path not in mapping]
    if not _fit(left, open_):
        # Where every use is known, one more is another model; but an embedding's matrix may project in a way
        # that is no layer in its framework.
        left, open_ = (_without_tied(some, every, ordered) for some, every in ((left, source), (open_, target)))
        if not _fit(left, open_):
            raise MatchError(_difference(source, target))
    # An order that is another one on the other side decides nothing.
    ordered = ordered and [one.signature for one in left] == [one.signature for one in open_]
    found = dict(mapping)
    for signature in dict.fromkeys(one.signature for one in open_):
        theirs = [one for one in left if one.signature == signature]
        mine = [one for one in open_ if one.signature == signature]
        found |= _paired(theirs, mine, ordered)
    return {one.path: found[one.path] for one in target if one.path in found}


def _fit(source: Sequence[Described], target: Sequence[Described]) -> bool:
    """Whether each kind and shape is there equally often."""
    return sorted(str(one.signature) for one in source) == sorted(str(one.signature) for one in target)


def _paired(source: Sequence[Described], target: Sequence[Described], ordered: bool) -> dict[str, str]:
    """Layers that could all be each other's."""
    if len(source) == 1:
        return {target[0].path: source[0].path}
    if {one.path for one in source} == {one.path for one in target}:
        return {one.path: one.path for one in target}
    if ordered:
        return {one.path: other.path for one, other in zip(target, source, strict=True)}
    theirs, mine = (", ".join(repr(one.path) for one in side) for side in (source, target))
    raise MatchError(
        f"the layers {mine} of the model and {theirs} of the parameters have one kind and the same shapes, and "
        "neither names nor an order of application tell which is which; pass an example input x, so that the "
        f"order can be seen, or mapping={{{target[0].path!r}: {source[0].path!r}, ...}}"
    )


def _without_tied(
    layers: Sequence[Described], of: Sequence[Described], only_projections: bool
) -> list[Described]:
    """Without those that hold nothing of their own; or of these, without those that read an embedding."""
    owners: dict[Hashable, Kind] = {}
    tied = set()
    for one in of:
        kinds = {owners.get(storage) for storage in one.storages.values()}
        if None not in kinds and (kinds == {"embedding"} != {one.kind} or not only_projections):
            tied.add(one.path)
        for storage in one.storages.values():
            owners.setdefault(storage, one.kind)
    return [one for one in layers if one.path not in tied]


def _difference(source: Sequence[Described], target: Sequence[Described]) -> str:
    """Where the two part first."""
    counts = f"the parameters have {_count(source)}, the model has {_count(target)}"
    for theirs, mine in zip(source, target):
        if theirs.signature != mine.signature:
            return f"{counts}; they part first where the parameters have {theirs} and the model {mine}"
    longer, name = (source, "parameters") if len(source) > len(target) else (target, "model")
    if len(source) == len(target):
        return f"{counts}; they stand in another order"
    return f"{counts}; the {name} have more: {longer[min(len(source), len(target))]}".replace(
        "model have", "model has"
    )


def _count(layers: Sequence[Described]) -> str:
    return f"{len(layers)} layer{'s' * (len(layers) != 1)}"


def _check_mapping(
    source: Sequence[Described], target: Sequence[Described], mapping: Mapping[str, str]
) -> None:
    mine, theirs = ({one.path: one for one in side} for side in (target, source))
    for path, other in mapping.items():
        _known(path, list(mine), "the model")
        _known(other, list(theirs), "the parameters")
        if mine[path].signature != theirs[other].signature:
            raise MatchError(f"the mapping gives {mine[path]} the values of {theirs[other]}, which do not fit")
    twice = [other for other in mapping.values() if list(mapping.values()).count(other) > 1]
    if twice:
        raise MatchError(f"the mapping gives the values of {twice[0]!r} to two layers")


def _known(path: str, paths: Sequence[str], where: str) -> None:
    if path not in paths:
        near = difflib.get_close_matches(path, paths, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, paths))}"
        raise MatchError(f"the mapping names {path!r}, which is no layer of {where}; {hint}")
