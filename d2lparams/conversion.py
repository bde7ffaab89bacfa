"""A checkpoint of one framework as one of another: names, orientation, gates, biases, flattened images.

The arrays of a file become a `ParameterSet`, by the names of the framework that wrote them (`naming`) and,
where those leave a doubt, by an architecture file; and that becomes the arrays that the other framework's files
hold. Nothing is guessed: where a kind is not certain, or whether an image was flattened, the layers are named.
No framework is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from d2lparams.architecture import ArchitectureLayer
from d2lparams.checkpoints import Checkpoint
from d2lparams.checks import Array
from d2lparams.conventions import (
    Convention,
    Flattened,
    Kind,
    kept_hidden_biases,
    to_canonical,
    to_native,
)
from d2lparams.naming import FileLayer, Names
from d2lparams.parameter_set import LayerRecord, ParameterSet, key

FRAMEWORKS = {"PyTorch": "torch", "MXNet": "mxnet", "Flax": "jax", "Keras": "tensorflow"}
"""The framework that a format belongs to; a safetensors file or a NumPy archive may be anybody's."""

CONVOLUTIONS = ("conv1d", "conv2d")


class ConversionError(ValueError):
    """The file cannot be converted. One sentence, or one with a list of layers below it."""


class Doubtful(ConversionError):
    """The names and shapes do not say all that has to be known; an architecture file can."""


@dataclass
class Converted:
    """What is to be written.

    Attributes:
        arrays: by the target's names.
        ties: groups of names that are one array.
        notes: what was done that is more than a change of names and axes, in sentences.
    """

    arrays: dict[str, Array]
    ties: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def names_of(framework: str) -> Names:
    """How a framework's files name arrays.

    Raises:
        ConversionError: for one that has none.
    """
    classes = {"torch": "TorchNames", "mxnet": "MXNetNames", "jax": "JaxNames", "tensorflow": "TensorFlowNames"}
    if framework not in classes:
        raise ConversionError(f"there are no files of {framework!r}; there are {', '.join(classes)}")
    found: Names = getattr(import_module(f"backends.names.{framework}"), classes[framework])()
    return found


def layers_of(checkpoint: Checkpoint, names: Names) -> list[FileLayer]:
    """The layers of a checkpoint, as far as its names tell.

    Raises:
        ConversionError: when it has none.
    """
    layers = names.layers({tensor.name: tensor.shape for tensor in checkpoint.tensors})
    if not layers:
        raise ConversionError(f"{checkpoint.path}: there is no layer in it")
    return layers


def perhaps_flattened(checkpoint: Checkpoint, layers: Sequence[FileLayer]) -> dict[str, int]:
    """By path, the dense layers whose input may be a flattened image, with its channels; by sizes alone."""
    shapes = {tensor.name: tensor.shape for tensor in checkpoint.tensors}
    found: dict[str, int] = {}
    before = 0
    for layer in layers:
        if layer.kind is None:
            continue
        # Views of nothing: a broadcast zero has a shape and no memory.
        arrays = {own: np.broadcast_to(np.float32(0), shapes[name]) for own, name in layer.entries.items()}
        weight = arrays.get("weight", arrays.get("kernel", arrays.get("0")))
        if layer.kind == "dense" and weight is not None:
            inputs = max((size for size in weight.shape if _may_be_flattened(size, before)), default=0)
            found |= {layer.path: before} if inputs else {}
        numbered = {"kernel": arrays["0"], "bias": arrays["1"]} if {"0", "1"} <= set(arrays) else arrays
        before = _channels(layer.kind, before, numbered)
    return found


def to_parameters(
    checkpoint: Checkpoint, framework: str, architecture: Sequence[ArchitectureLayer] | None
) -> tuple[ParameterSet, dict[str, int | None]]:
    """The values of a framework's checkpoint in neutral form.

    Returns:
        The set, and by path the channels of a dense layer's flattened input: 0 for none, None where it does not
        matter to this framework and nobody has said.

    Raises:
        Doubtful: when a kind, or a flattened image that matters, is not certain.
        ConversionError: when the architecture does not fit the file.
    """
    names = names_of(framework)
    layers = layers_of(checkpoint, names)
    said = {one.path: one for one in architecture or ()}
    if architecture is not None:
        layers = _as_said(checkpoint, layers, architecture)
    doubts = [f"  {layer.path or '(the model)'}: {layer.doubt}" for layer in layers if layer.kind is None]
    if doubts:
        raise Doubtful(
            f"{checkpoint.path}: names and shapes do not tell the kind of {_count(doubts)}\n"
            + "\n".join(doubts)
        )
    tensors = {tensor.name: tensor for tensor in checkpoint.tensors}
    records: list[LayerRecord] = []
    arrays: dict[str, Array] = {}
    owners: dict[Any, list[str]] = {}
    flattened: dict[str, int | None] = {}
    ordered = names.ordered or architecture is not None
    before = 0
    for layer in layers if ordered else sorted(layers, key=lambda one: one.kind not in CONVOLUTIONS):
        kind = layer.kind
        assert kind is not None
        rows = names.conventions[kind]
        entries = _by_native_name(names, kind, layer)
        native = {own: tensors[name].read() for own, name in entries.items()}
        channels = said[layer.path].flattened if layer.path in said else None
        how = _flattening(names, layer, native, channels, before)
        if kind == "dense":
            flattened[layer.path] = how.channels if how else channels
        # Where no order is known, any dense layer may be the one that follows the convolutions.
        before = _channels(kind, before, native) or (0 if ordered else before)
        try:
            found = to_canonical(kind, rows, native, how)
        except (ValueError, IndexError) as error:
            raise ConversionError(
                f"{checkpoint.path}: {layer.path!r} cannot be a {kind} layer: {error}"
            ) from None
        records.append(LayerRecord(layer.path, kind, tuple(found)))
        for row in rows:
            storages = tuple(tensors[entries[name]].storage for name in row.names if name in entries)
            for place, name in enumerate(row.canonical):
                if storages:
                    owners.setdefault((storages, place), []).append(key(layer.path, name))
        arrays |= {key(layer.path, name): value for name, value in found.items()}
    ties = [group for group in owners.values() if len(group) > 1]
    try:
        return ParameterSet(records, arrays, ties, ordered=ordered, origin=framework), flattened
    except ValueError as error:
        raise ConversionError(f"{checkpoint.path}: {error}") from None


def from_parameters(
    parameters: ParameterSet,
    framework: str,
    architecture: Sequence[ArchitectureLayer] | None = None,
    flattened: Mapping[str, int | None] | None = None,
) -> Converted:
    """The arrays that a framework's file holds for these values.

    Args:
        parameters: the values.
        framework: whose files.
        architecture: says where layers stand in the new file, and what is flattened.
        flattened: what is known of that already, see `to_parameters`.

    Raises:
        Doubtful: when it is not certain whether an image was flattened, and it matters.
    """
    names = names_of(framework)
    said = {one.path: one for one in architecture or ()}
    known = dict(flattened or {})
    converted = Converted({})
    first = {path: group[0] for group in parameters.ties for path in group}
    places: list[tuple[str, Kind, list[str]]] = []
    values: list[tuple[LayerRecord, Convention, dict[str, Array]]] = []
    written: set[str] = set()
    before = 0
    for record in parameters.layers:
        own = parameters.of(record)
        channels = known.get(record.path)
        if record.path in said and said[record.path].flattened is not None:
            channels = said[record.path].flattened
        how = _target_flattening(names, record, own, channels, before)
        before = _channels(record.kind, before, own) or (0 if parameters.ordered else before)
        owners = {first.get(path, path) for path in record.keys}
        if names.shared_once and owners <= written:
            converted.notes.append(
                f"{record.path!r} is another use of what stands before it; {framework}'s files have it once"
            )
            continue
        written |= owners
        rows = names.conventions[record.kind]
        native = dict(to_native(record.kind, rows, own, how))
        _note_merged(converted, record, own, framework, names)
        places.append((record.path, record.kind, list(native)))
        values.append((record, rows, native))
    given = {one.path: one.to for one in said.values() if one.to is not None}
    groups: dict[Any, list[str]] = {}
    for entries, (record, rows, native) in zip(names.entries(places, given), values, strict=True):
        for entry, (name, array) in zip(entries, native.items(), strict=True):
            if entry in converted.arrays:
                raise ConversionError(
                    f"two arrays would be called {entry!r} in the new file; give a layer another place, with "
                    "'to' in an architecture file"
                )
            converted.arrays[entry] = array
            row = next(row for row in rows if name in row.names)
            paths = tuple(first.get(path, path) for path in (key(record.path, one) for one in row.canonical))
            # Of an array for each gate, only those of one gate are one.
            groups.setdefault((paths, row.names.index(name)), []).append(entry)
    converted.ties = [group for group in groups.values() if len(group) > 1]
    return converted


def _as_said(
    checkpoint: Checkpoint, layers: Sequence[FileLayer], architecture: Sequence[ArchitectureLayer]
) -> list[FileLayer]:
    """The layers in the order and of the kinds that the architecture says."""
    found = {layer.path: layer for layer in layers}
    paths = [one.path for one in architecture]
    for path in found:
        if path not in paths:
            raise ConversionError(f"{checkpoint.path} has a layer {path!r} that the architecture does not list")
    for path in paths:
        if path not in found:
            raise ConversionError(
                f"the architecture lists {path!r}, which is not in {checkpoint.path}; it has "
                f"{', '.join(map(repr, found))}"
            )
    return [FileLayer(one.path, one.kind, found[one.path].entries) for one in architecture if not one.drop]


def _by_native_name(names: Names, kind: Kind, layer: FileLayer) -> dict[str, str]:
    """The entries of a layer by the names that the conventions have; a number stands for its place in them."""
    known = [name for row in names.conventions[kind] for name in row.names]
    if all(own.isdecimal() for own in layer.entries):
        ordered = sorted(layer.entries.items(), key=lambda item: int(item[0]))
        if len(ordered) > len(known):
            raise ConversionError(f"{layer.path!r} has {len(ordered)} arrays, a {kind} layer has {len(known)}")
        return dict(zip(known, (name for _, name in ordered)))
    unknown = [own for own in layer.entries if own not in known]
    if unknown:
        raise ConversionError(
            f"{layer.path!r} has an array {unknown[0]!r}; a {kind} layer has {', '.join(known)}"
        )
    return dict(layer.entries)


def _channels(kind: Kind, before: int, arrays: Mapping[str, Array]) -> int:
    """How many channels stand before the next layer; 0 when there is no image any more.

    Both native and canonical arrays will do: the bias of a convolution, or else its kernel, tells.
    """
    if kind in CONVOLUTIONS:
        if "bias" in arrays:
            return int(arrays["bias"].size)
        return int(arrays["weight"].shape[0] if "weight" in arrays else arrays["kernel"].shape[-1])
    return before if kind in ("batchnorm", "layernorm") else 0


def _may_be_flattened(inputs: int, channels: int) -> bool:
    return bool(channels) and inputs > channels and inputs % channels == 0


def _flattening(
    names: Names, layer: FileLayer, native: Mapping[str, Array], channels: int | None, before: int
) -> Flattened | None:
    """How the columns of a dense layer in the source stand."""
    if layer.kind != "dense":
        if names.channels_last and layer.kind is not None:
            first = next(
                (native[name] for name in ("kernel", "ii.kernel", "ir.kernel") if name in native), None
            )
            inputs = (first if first is not None else next(iter(native.values()))).shape[0]
            _refuse_flattened(layer.path, layer.kind, inputs, before)
        return None
    weight = native.get("weight", native.get("kernel"))
    assert weight is not None
    inputs = weight.shape[0] if names.channels_last else weight.shape[1]
    if channels is None and names.channels_last and _may_be_flattened(inputs, before):
        raise Doubtful(_flat_doubt(layer.path, before))
    if not channels:
        return None
    if inputs % channels:
        raise ConversionError(f"{layer.path!r} has {inputs} inputs, which are no image of {channels} channels")
    return Flattened(channels, names.channels_last)


def _target_flattening(
    names: Names, record: LayerRecord, own: Mapping[str, Array], channels: int | None, before: int
) -> Flattened | None:
    """How the columns of a dense layer in the target have to stand."""
    if not names.channels_last:
        return None
    inputs = next(iter(own.values())).shape[-1]
    if record.kind != "dense":
        _refuse_flattened(record.path, record.kind, inputs, before)
        return None
    if channels is None and _may_be_flattened(inputs, before):
        raise Doubtful(_flat_doubt(record.path, before))
    return Flattened(channels, channels_last=True) if channels else None


def _refuse_flattened(path: str, kind: Kind, inputs: int, channels: int) -> None:
    """Another layer than a dense one on a flattened image: its columns would have to be moved, and are not."""
    if kind not in CONVOLUTIONS and kind != "embedding" and _may_be_flattened(inputs, channels):
        raise ConversionError(
            f"{kind} layer {path!r} may take the flattened image of a convolution of {channels} channels, "
            "which convert reorders for dense layers only; carry the model with `d2lparams transfer`"
        )


def _flat_doubt(path: str, channels: int) -> str:
    return (
        f"dense layer {path!r} follows a convolution of {channels} channels, and whether its input is the "
        "flattened image is not in the file; with channels last its columns stand in another order. Say "
        f"flattened = {channels}, or 0, of this layer in an architecture file"
    )


def _note_merged(
    converted: Converted, record: LayerRecord, own: Mapping[str, Array], framework: str, names: Names
) -> None:
    if "hidden bias" not in own:
        return
    kept = kept_hidden_biases(record.kind, names.conventions[record.kind])
    hidden = np.delete(own["hidden bias"], kept, axis=0)
    if np.any(hidden):
        converted.notes.append(
            f"{record.path!r}: {framework} keeps one bias for a gate that has two here; it holds their sum, "
            f"rounded to {own['hidden bias'].dtype}"
        )


def _count(items: Sequence[Any]) -> str:
    return f"{len(items)} layer{'s' * (len(items) != 1)}"
