"""Out of a model of the user's own and into one: what an adapter tells of it, and the checks before a write.

An adapter's `Carrier` says which layers a native model has, in which order, and where their arrays are. All
else is here and the same for every framework: canonical form, ties, which layer takes whose values, and that
nothing is written before everything is known to fit.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import numpy as np

from d2lparams.checks import Array
from d2lparams.conventions import (
    CANONICAL,
    Convention,
    Conventions,
    Flattened,
    Kind,
    merged,
    to_canonical,
    to_native,
)
from d2lparams.matching import Described, MatchError, match
from d2lparams.parameter_set import LayerRecord, ParameterSet, key, same_bits

Native = TypeVar("Native")


DEFAULTS = {"reverse": False, "groups": 1}
"""What a layer has that tells nothing of such a setting."""


class LoadError(ValueError):
    """The values cannot be loaded. One sentence; nothing was written."""


class UnknownLayer(ValueError):
    """The model has parameters in a layer that the harness does not know."""


@dataclass(frozen=True)
class NativeArray:
    """One array of a layer, as the framework holds it.

    Attributes:
        name: the framework's own, within the layer, as the conventions write it.
        shape: native.
        dtype: NumPy's name.
        storage: equal for two arrays exactly when both are the same stored numbers.
        read: gives the values, native orientation: a view of the framework's own memory where there can be one,
            otherwise a copy.
        write: takes values, native orientation, of this shape and dtype.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    storage: Hashable
    read: Callable[[], Array] = field(repr=False)
    write: Callable[[Array], None] = field(repr=False)


@dataclass(frozen=True)
class NativeLayer:
    """One use of one layer of a native model.

    Attributes:
        path: where it stands, in the framework's words, unique: a second use of it ends in "@2".
        kind: of the layer.
        rows: how its arrays hold the canonical ones; the backend's convention for its kind, unless this use
            reads them otherwise, as an embedding does that projects.
        arrays: those that it has.
        settings: what decides its function beside the arrays: "epsilon" of a normalisation; "reverse" of a
            recurrent layer that goes backwards.
        flattened: of a layer whose input is a flattened image.
    """

    path: str
    kind: Kind
    rows: Convention
    arrays: tuple[NativeArray, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    flattened: Flattened | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the canonical arrays, by name; no values are touched."""
        # A broadcast zero has a shape and no memory.
        empty = {one.name: np.broadcast_to(np.zeros((), one.dtype), one.shape) for one in self.arrays}
        found = to_canonical(self.kind, self.rows, empty, self.flattened)
        return {name: value.shape for name, value in found.items()}

    @property
    def storages(self) -> dict[str, Hashable]:
        """Of the canonical arrays, by name: equal for two that are the same stored numbers, equally read."""
        held = {one.name: one.storage for one in self.arrays}
        found: dict[str, Hashable] = {}
        for row in self.rows:
            natives = tuple(held[name] for name in row.names if name in held)
            if natives:
                for place, name in enumerate(row.canonical):
                    found[name] = (natives, place)
        if "input bias" in found:
            found.setdefault("hidden bias", (found["input bias"], "none"))
        return {name: found[name] for name in self.shapes}

    def read(self) -> dict[str, Array]:
        """The canonical arrays, by name; views of the framework's memory where that is possible."""
        return to_canonical(self.kind, self.rows, {one.name: one.read() for one in self.arrays}, self.flattened)

    @property
    def described(self) -> Described:
        """The layer as matching sees it."""
        return Described(self.path, self.kind, self.shapes, self.storages)


@dataclass(frozen=True)
class Structure:
    """The layers of a native model that hold arrays.

    Attributes:
        layers: every use that is known of, in order.
        ordered: whether that is the order of application, seen or certain; otherwise it is that of
            registration, and each layer is there once for each place where it is registered.
    """

    layers: tuple[NativeLayer, ...]
    ordered: bool


@dataclass(frozen=True)
class Step:
    """What one step of gradient descent saw and did.

    Attributes:
        output: of the model, before the step; canonical layout.
        loss: the mean squared error, before the step.
        gradients: native orientation, by the storages of native arrays.
    """

    output: Array
    loss: float
    gradients: Mapping[Hashable, Array]


class Carrier(ABC, Generic[Native]):
    """What an adapter tells of any native model, its user's own too.

    Inputs x are as the model takes them, native layout; `native_input` makes them of canonical ones. All is
    computed as in use, not in training: normalisations read their running statistics.

    Attributes:
        conventions: how each kind of layer keeps its arrays.
    """

    conventions: Conventions

    @abstractmethod
    def structure(self, model: Native, x: Array | None) -> Structure:
        """The layers of a model.

        Args:
            model: the framework's own.
            x: an example input; with it the model is run, and its layers are seen in order of application.

        Raises:
            UnknownLayer: when a layer that holds arrays is none that the conventions know, or not as they know
                it (a recurrent layer with another activation, say).
            ValueError: when the model cannot be looked into without an example input.
        """

    @abstractmethod
    def forward(self, model: Native, x: Array) -> Array:
        """The model's output, canonical layout; nothing of the model changes."""

    @abstractmethod
    def outputs(self, model: Native, x: Array) -> list[tuple[str, Array]]:
        """What each use of each layer gives for x, by the path of the use, in order of application.

        Canonical layout: channels on the second axis. Before the activation, where a layer holds one. A
        recurrent layer's is its output at every step; of several levels only the last has one.
        """

    @abstractmethod
    def step(self, model: Native, x: Array, y: Array, learning_rate: float) -> Step:
        """One step of the framework's own SGD, without momentum, on the mean squared error; changes the model.

        Args:
            model: the framework's own.
            x: the input, native layout.
            y: the target, of the output's shape, canonical layout.
            learning_rate: a number that binary32 holds exactly.
        """

    def native_input(self, x: Array, kind: Kind) -> Array:
        """A canonical input, channels on the second axis, as a first layer of this kind takes it."""
        return x


class Uses:
    """Names uses of layers as they are seen: by the places where a layer stands, one after the other.

    A layer that is used more often than it stands somewhere is named by its first place and the number of the
    use: "shared@2".

    Args:
        places: by what tells a layer from another one, the paths at which it stands.
    """

    def __init__(self, places: Mapping[Hashable, Sequence[str]]) -> None:
        self._places = places
        self._seen: dict[Hashable, int] = {}

    def name(self, layer: Hashable) -> str:
        """The path of the next use of a layer."""
        number = self._seen[layer] = self._seen.get(layer, 0) + 1
        places = self._places[layer]
        return places[number - 1] if number <= len(places) else f"{places[0]}@{number}"

    @property
    def unused(self) -> list[Hashable]:
        """The layers that have not been seen."""
        return [layer for layer in self._places if layer not in self._seen]


def structure_of_calls(
    calls: Sequence[Sequence[NativeLayer]],
    unused: Sequence[NativeLayer],
    probed: Callable[[int, int, int], Array],
) -> Structure:
    """The structure that was seen while a model ran.

    Args:
        calls: for each call of a layer, in order, what it is: one layer, or the levels of a recurrent one.
        unused: layers that were not called. They are there all the same, at the end; where they belong is not
            known, and so no order is.
        probed: of (before, after, channels): the input (features,) of one example that the call `after` gets
            when the call `before` gives `probe(channels)`, one number for each channel.
    """
    layers = [layer for call in calls for layer in call]
    number = [place for place, call in enumerate(calls) for _ in call]
    seen: dict[tuple[int, int], Flattened | None] = {}
    for place, before, channels in flattened_inputs(layers):
        # What follows a normalisation of the flattened image is flattened like it, and its own input tells no
        # more: every number of it has been scaled.
        width = next(iter(layers[place].shapes.values()))[-1]
        if (before, width) not in seen:
            given = probed(number[before], number[place], channels)
            seen[before, width] = seen_flattening(layers[place].path, given, channels)
        layers[place] = replace(layers[place], flattened=seen[before, width])
    return Structure((*layers, *unused), ordered=not unused)


def structure_of_places(layers: Sequence[NativeLayer], *, ordered: bool, channels_last: bool) -> Structure:
    """The structure of a model that was not run.

    Args:
        layers: in order of registration.
        ordered: whether they are certainly applied in that order, and nothing else moves an axis.
        channels_last: whether channels stand last in this framework.

    Raises:
        ValueError: when a layer's input may be a flattened image, and it is not certain how.
    """
    found = list(layers)
    for layer, channels in _maybe_flattened(layers) if not ordered else ():
        raise ValueError(
            f"{layer.kind} layer {layer.path!r} may follow a convolution of {channels} channels, and how its "
            "input is flattened is seen only when the model runs; pass x, an example input"
        )
    for place, _, channels in flattened_inputs(layers):
        found[place] = replace(layers[place], flattened=Flattened(channels, channels_last))
    return Structure(tuple(found), ordered)


def _maybe_flattened(layers: Sequence[NativeLayer]) -> Iterator[tuple[NativeLayer, int]]:
    """The layers that could take a flattened image of some channels, in whichever order layers are applied."""
    counts = {layer.shapes["weight"][0] for layer in layers if layer.kind in ("conv1d", "conv2d")}
    for layer in layers:
        inputs = next(iter(layer.shapes.values()), (0,))[-1]
        if layer.kind not in ("conv1d", "conv2d", "embedding"):
            yield from ((layer, one) for one in sorted(counts) if 1 < one < inputs and inputs % one == 0)


def flattened_inputs(layers: Sequence[NativeLayer]) -> list[tuple[int, int, int]]:
    """Which layers take a flattened image, as far as sizes tell.

    Returns:
        For each the place of its use, that of the use before it that gives channels, and their number.
    """
    found: list[tuple[int, int, int]] = []
    before: tuple[int, int] | None = None
    for place, layer in enumerate(layers):
        shapes = layer.shapes
        if layer.kind in ("conv1d", "conv2d"):
            before = (place, shapes["weight"][0])
            continue
        if layer.kind == "embedding":
            before = None
        elif before is not None:
            inputs = next(iter(shapes.values()), (0,))[-1]
            if inputs > before[1] and inputs % before[1] == 0:
                found.append((place, *before))
            elif layer.kind == "batchnorm":
                before = (place, before[1])
            # Behind a normalisation an image is as flat, or as little, as before it.
            if layer.kind not in ("batchnorm", "layernorm"):
                before = None
    return found


def seen_flattening(path: str, values: Array, channels: int) -> Flattened | None:
    """How a layer's input is flattened, from what it gets when each channel is one number everywhere.

    The adapter puts `probe(channels)` in place of what the layer before gives; activations and pooling leave a
    channel constant, but for its border where a pooling pads with zeros.

    Args:
        path: of the dense layer.
        values: its input for one example, (features,).
        channels: of the layer before.

    Returns:
        None when there is nothing to tell, because each channel is one number, or there is only one.

    Raises:
        UnknownLayer: when the columns are neither channel by channel nor place by place.
    """
    if channels == 1 or values.size == channels or values.size % channels:
        return None
    by_channel = values.reshape(channels, -1)
    by_place = values.reshape(-1, channels).T
    # Medians, for the border of a padded pooling is no constant.
    spreads = [
        float(np.abs(one - np.median(one, axis=1, keepdims=True)).mean()) for one in (by_channel, by_place)
    ]
    if min(spreads) > max(spreads) / 4 or max(spreads) == 0:
        raise UnknownLayer(
            f"the input of layer {path!r} mixes the channels of the layer before, so that its columns "
            "have no neutral order"
        )
    return Flattened(channels, channels_last=spreads[1] < spreads[0])


def probe(channels: int) -> Array:
    """A number for each channel, positive and small, so that an activation leaves them apart; (channels,)."""
    return np.linspace(0.25, 2.0, channels, dtype="float32")


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


__all__ = [
    "Carrier",
    "LoadError",
    "MatchError",
    "NativeArray",
    "NativeLayer",
    "Step",
    "Structure",
    "UnknownLayer",
    "Uses",
    "expected_after_load",
    "export_from",
    "flattened_inputs",
    "load_into",
    "pair",
    "probe",
    "seen_flattening",
    "structure_of_calls",
    "structure_of_places",
]
