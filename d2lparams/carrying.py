"""Out of a model of the user's own and into one, and the checks before a write.

An adapter's `Carrier` (`natives`) says which layers a native model has, in which order, and where their arrays
are. All else is here and the same for every framework: canonical form, ties, which layer takes whose values,
and that nothing is written before everything is known to fit.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from d2lparams.checks import Array
from d2lparams.conventions import CANONICAL, Kind, merged, to_native
from d2lparams.matching import Described, MatchError, match
from d2lparams.natives import Carrier, Native, NativeLayer, Structure, UnknownLayer
from d2lparams.parameter_set import LayerRecord, ParameterSet, key, same_bits

__all__ = ["LoadError", "MatchError", "UnknownLayer", "expected_after_load", "export_from", "load_into", "pair"]

DEFAULTS = {"reverse": False, "groups": 1}
"""What a layer has that tells nothing of such a setting."""


class LoadError(ValueError):
    """The values cannot be loaded. One sentence; nothing was written."""


def export_from(
    carrier: Carrier[Native], model: Native, x: Array | None, *, origin: str, copy: bool
) -> ParameterSet:
    """A model's values; see `Backend.export`."""
    structure = carrier.structure(model, x)
    _refuse_other_views(structure.layers)
    records, arrays, shared = [], {}, set()
    groups: dict[Hashable, list[str]] = {}
    for layer in structure.layers:
        storages = layer.storages
        records.append(LayerRecord(layer.path, layer.kind, tuple(storages), dict(layer.settings)))
        new = any(storage not in groups for storage in storages.values())
        # What earlier uses have shown is not read once more.
        values = layer.read() if new else {}
        held = [one.read() for one in layer.arrays] if new and not copy else []
        for name, storage in storages.items():
            path = key(layer.path, name)
            groups.setdefault(storage, []).append(path)
            if len(groups[storage]) == 1:
                arrays[path] = values[name].copy() if copy else values[name]
                if not copy and any(np.may_share_memory(values[name], one) for one in held):
                    shared.add(path)
    ties = [group for group in groups.values() if len(group) > 1]
    every = {path for group in groups.values() for path in group if group[0] in shared}
    return ParameterSet(
        records, arrays, ties, ordered=structure.ordered, origin=origin, shared=frozenset(every)
    )


def load_into(
    carrier: Carrier[Native],
    model: Native,
    parameters: ParameterSet,
    x: Array | None,
    *,
    mapping: Mapping[str, str] | None,
    untie: bool,
    settings: bool,
) -> None:
    """Write a set's values into a model; see `Backend.load`."""
    structure = carrier.structure(model, x)
    pairs = pair(parameters, structure, mapping)
    _check_ties(parameters, pairs, untie)
    for layer, record in pairs:
        _check_dtypes(layer, parameters.of(record))
        if settings:
            _check_settings(layer, record)
    written: set[Hashable] = set()
    for layer, record in pairs:
        arrays = {one.name: one for one in layer.arrays}
        for name, value in to_native(layer.kind, layer.rows, parameters.of(record), layer.flattened):
            array = arrays[name]
            if array.storage not in written:
                written.add(array.storage)
                array.write(value.astype(array.dtype, copy=False))


def pair(
    parameters: ParameterSet, structure: Structure, mapping: Mapping[str, str] | None = None
) -> list[tuple[NativeLayer, LayerRecord]]:
    """Each layer of a model with the layer of a set whose values are its.

    Raises:
        MatchError: when they do not fit, or when more than one way is possible.
    """
    records = {record.path: record for record in parameters.layers}
    first = {path: group[0] for group in parameters.ties for path in group}
    source = [
        Described(
            record.path,
            record.kind,
            {name: array.shape for name, array in parameters.of(record).items()},
            {name: first.get(path, path) for name, path in zip(record.arrays, record.keys)},
        )
        for record in parameters.layers
    ]
    target = [layer.described for layer in structure.layers]
    found = match(source, target, ordered=parameters.ordered and structure.ordered, mapping=mapping)
    return [(layer, records[found[layer.path]]) for layer in structure.layers if layer.path in found]


def expected_after_load(layer: NativeLayer, values: Mapping[str, Array]) -> dict[str, Array]:
    """What a layer holds once it was given these canonical values: biases that it keeps as one are added."""
    return merged(layer.kind, layer.rows, values)


def _check_ties(
    parameters: ParameterSet, pairs: Sequence[tuple[NativeLayer, LayerRecord]], untie: bool
) -> None:
    """What is one in the set must be one in the model, and what is one in the model must be one value."""
    first = {path: group[0] for group in parameters.ties for path in group}
    given: dict[Hashable, tuple[str, str, Array]] = {}
    taken: dict[str, tuple[Hashable, str]] = {}
    for layer, record in pairs:
        values = expected_after_load(layer, parameters.of(record))
        for name, storage in layer.storages.items():
            mine, theirs = key(layer.path, name), key(record.path, name)
            source = first.get(theirs, theirs)
            before, other, value = given.setdefault(storage, (source, mine, values[name]))
            if before != source and not same_bits(value, values[name]):
                raise LoadError(
                    f"{other!r} and {mine!r} are one storage in the model, and the parameters have two values "
                    f"for it, {before!r} and {source!r}; load them into a model that is not tied there"
                )
            place, where = taken.setdefault(source, (storage, mine))
            if place != storage and source in first and not untie:
                raise LoadError(
                    f"the parameters hold one storage for {where!r} and {mine!r}, and the model two, which "
                    "would part with the first training step; tie them in the model first, or pass untie=True"
                )


def _check_dtypes(layer: NativeLayer, values: Mapping[str, Array]) -> None:
    dtypes = {one.name: one.dtype for one in layer.arrays}
    for row in layer.rows:
        for native in row.names:
            for name in row.canonical:
                if native in dtypes and name in values:
                    _check_dtype(key(layer.path, name), values[name].dtype, np.dtype(dtypes[native]))


def _check_dtype(path: str, given: np.dtype[Any], held: np.dtype[Any]) -> None:
    if not np.can_cast(given, held, "safe"):
        raise LoadError(
            f"{path!r} is {held} in the model and {given} in the parameters, which would lose precision; build "
            f"the model in {given}, or convert the parameters with .astype({str(held)!r}) if the loss is meant"
        )


def _check_settings(layer: NativeLayer, record: LayerRecord) -> None:
    for name in {**layer.settings, **record.settings}:
        # An epsilon that one side does not tell is not known to be another one.
        default = DEFAULTS.get(name, layer.settings.get(name, record.settings.get(name)))
        mine, value = layer.settings.get(name, default), record.settings.get(name, default)
        if mine != value:
            raise LoadError(
                f"layer {layer.path or 'the model itself'!r} has {name} {mine!r}, and the parameters were made "
                f"with {value!r}, which gives other outputs; build it with {value!r}, or pass settings=False"
            )


def _refuse_other_views(layers: Sequence[NativeLayer]) -> None:
    """One storage that two layers read in two ways, transposed say, is no tie that the neutral form has."""
    ways: dict[Hashable, tuple[Hashable, str]] = {}
    for layer in layers:
        held = {one.name: one for one in layer.arrays}
        for row in layer.rows:
            for name in row.names:
                if name in held:
                    # The letters of the axes do not matter, their order in canonical form does.
                    way = _way(layer.kind, row.canonical[0], row.axes)
                    before, where = ways.setdefault(held[name].storage, (way, layer.path))
                    if before != way:
                        raise UnknownLayer(
                            f"layers {where!r} and {layer.path!r} read one array in two orientations; a tie "
                            "across a transposition has no neutral form"
                        )


def _way(kind: Kind, name: str, axes: str) -> Hashable:
    canonical = CANONICAL[kind][name].split()
    native = axes.replace("(", " ").replace(")", " ").split()
    return tuple(canonical.index(axis) for axis in native if axis in canonical)
