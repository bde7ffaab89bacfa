"""`ParameterSet`: a model's values in a form that belongs to no framework, in memory and on disk.

An ordered mapping from canonical paths to arrays in canonical orientation (`conventions.CANONICAL`), with the
layers that they belong to and the groups of paths that are one storage. On disk it is one safetensors file,
which any reader of that format can open: each storage once, under the first path that uses it. What only we
need (kinds of layers, axes, settings, ties) stands in the metadata, as JSON under the key "d2lparams". Nothing
is pickled.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from d2lparams.checks import Array
from d2lparams.conventions import CANONICAL, GATES, UNTRAINED, Kind
from d2lparams.tensor_file import BadFile, open_tensor_file, write

SCHEMA = 1
METADATA = "d2lparams"


def key(path: str, name: str) -> str:
    """The canonical path of an array: that of its layer, and its name, with underscores for spaces."""
    return ".".join(filter(None, (path, name.replace(" ", "_"))))


@dataclass(frozen=True)
class LayerRecord:
    """One use of one layer.

    Attributes:
        path: where the layer stands in the model that it came from, in that framework's words; a second use of
            one layer has "@2" behind it.
        kind: of the layer.
        arrays: the names of the canonical arrays that it has, in canonical order.
        settings: what decides its function beside the arrays, such as "epsilon".
    """

    path: str
    kind: Kind
    arrays: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """The canonical paths of its arrays."""
        return tuple(key(self.path, name) for name in self.arrays)


class ParameterSet(Mapping[str, Array]):
    """A model's values, canonical path by canonical path; arrays are read-only.

    Every use of a layer has its paths, so that a shared weight is there more than once, as one array.

    Attributes:
        layers: every use of every layer, in order.
        ties: the groups of canonical paths that are one storage, each with the first use first.
        ordered: whether the layers stand in order of application, and not only of registration.
        origin: the backend that it was taken from, or "".
        shared: the paths whose arrays are views of the model's own memory. The framework owns it and may write
            it at any time, when the model is trained for instance; here it can only be read.
    """

    def __init__(
        self,
        layers: Sequence[LayerRecord],
        arrays: Mapping[str, Array],
        ties: Sequence[Sequence[str]] = (),
        *,
        ordered: bool = True,
        origin: str = "",
        shared: frozenset[str] = frozenset(),
    ) -> None:
        """Put together what belongs together.

        Args:
            layers: in order, no path twice.
            arrays: by canonical path; of a tie, the first path is enough.
            ties: as the attribute.
            ordered: as the attribute.
            origin: as the attribute.
            shared: as the attribute.

        Raises:
            ValueError: when a path is there twice, has no array, or stands in two ties; or when tied arrays
                differ in shape or dtype, or an array has another shape than its kind of layer can have.
        """
        self.layers = tuple(layers)
        self.ties = tuple(tuple(group) for group in ties)
        self.ordered, self.origin, self.shared = ordered, origin, shared
        keys = [one for layer in self.layers for one in layer.keys]
        _refuse_twice(keys, "is the path of two arrays")
        _refuse_twice([one for group in self.ties for one in group], "stands in two ties")
        unknown = {one for group in self.ties for one in group} - set(keys)
        if unknown:
            raise ValueError(f"a tie names {sorted(unknown)[0]!r}, which is no array of any layer")
        first = {one: group[0] for group in self.ties for one in group}
        found: dict[str, Array] = {}
        for one in keys:
            owner = first.get(one, one)
            given = found.get(owner, arrays.get(owner, arrays.get(one)))
            if given is None:
                raise ValueError(f"there is no array for {one!r}")
            found[one] = _read_only(given)
        self._arrays = found
        for layer in self.layers:
            _check_shapes(layer, {name: found[one].shape for name, one in zip(layer.arrays, layer.keys)})

    def __getitem__(self, path: str) -> Array:
        return self._arrays[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{layer.path or 'the model'}: {layer.kind}" for layer in self.layers)
        ties = f"; {len(self.ties)} tied" if self.ties else ""
        return f"<ParameterSet of {self.origin or 'nobody'}: {kinds}{ties}; {self.nbytes} bytes>"

    @property
    def storages(self) -> dict[str, Array]:
        """Each storage once, by the first path that uses it."""
        later = {one for group in self.ties for one in group[1:]}
        return {one: array for one, array in self._arrays.items() if one not in later}

    @property
    def nbytes(self) -> int:
        """The bytes of all storages, each counted once."""
        return sum(array.nbytes for array in self.storages.values())

    @property
    def trained(self) -> list[str]:
        """The canonical paths of what an optimizer changes, each storage once."""
        names = {one: name for layer in self.layers for name, one in zip(layer.arrays, layer.keys)}
        return [one for one in self.storages if names[one] not in UNTRAINED]

    def of(self, layer: LayerRecord) -> dict[str, Array]:
        """The arrays of one layer, by canonical name."""
        return {name: self._arrays[one] for name, one in zip(layer.arrays, layer.keys)}

    def astype(self, dtype: str) -> ParameterSet:
        """The same set with every floating array converted, rounded where that is a loss; ties stay."""
        arrays = {
            one: array.astype(dtype) if array.dtype.kind == "f" else array
            for one, array in self.storages.items()
        }
        return ParameterSet(self.layers, arrays, self.ties, ordered=self.ordered, origin=self.origin)

    def save(self, path: Path | str) -> None:
        """Write a safetensors file, whole or not at all. One tensor at most is copied at a time.

        Raises:
            ValueError: for a dtype that safetensors has no name for.
            OSError: when it cannot be written.
        """
        layers = [
            {
                "path": layer.path,
                "kind": layer.kind,
                "arrays": {name: CANONICAL[layer.kind][name] for name in layer.arrays},
                "settings": dict(layer.settings),
            }
            for layer in self.layers
        ]
        document = {
            "schema": SCHEMA,
            "origin": self.origin,
            "ordered": self.ordered,
            "gates": {kind: " ".join(gates) for kind, gates in GATES.items()},
            "layers": layers,
            "ties": self.ties,
        }
        write(Path(path), self.storages, {METADATA: json.dumps(document)})

    @classmethod
    def open(cls, path: Path | str) -> ParameterSet:
        """Open a file that `save` wrote. Its arrays are views of the file, which is mapped and not read.

        Raises:
            BadFile: when it is no safetensors file, or none that `save` wrote.
            OSError: when it cannot be read.
        """
        file = open_tensor_file(Path(path))
        text = file.metadata.get(METADATA)
        if text is None:
            raise BadFile(
                f"{path} is a safetensors file without our notes on layers and ties; `d2lparams convert` reads "
                "the files of frameworks"
            )
        try:
            document = json.loads(text)
            if document["schema"] != SCHEMA:
                raise BadFile(
                    f"{path} has schema {document['schema']!r} of a ParameterSet; this reads {SCHEMA}"
                )
            layers = [_record(one) for one in document["layers"]]
            ties = [[str(one) for one in group] for group in document["ties"]]
            arrays = {name: file.array(name) for name in file.entries}
            return cls(
                layers,
                arrays,
                ties,
                ordered=document["ordered"] is True,
                origin=str(document["origin"]),
            )
        except BadFile:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadFile(f"{path} has notes on layers and ties that do not fit its arrays: {error}") from None


def same_bits(one: Array, other: Array) -> bool:
    """Whether two arrays have one shape, one dtype and the same bits; a NaN equals itself, 0.0 not -0.0."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    unsigned = np.dtype(f"u{one.dtype.itemsize}") if one.dtype.itemsize in (1, 2, 4, 8) else None
    if unsigned is None:
        return one.tobytes() == other.tobytes()
    # A view by another dtype keeps strides of whole items, so transposed arrays are compared without a copy.
    return bool(np.array_equal(one.view(unsigned), other.view(unsigned)))


def _record(told: Any) -> LayerRecord:
    kind, names = told["kind"], tuple(told["arrays"])
    if kind not in CANONICAL or any(name not in CANONICAL[kind] for name in names):
        raise ValueError(f"a layer of kind {kind!r} with {', '.join(map(repr, names))} is not known")
    return LayerRecord(str(told["path"]), kind, names, dict(told["settings"]))


def _refuse_twice(names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{name!r} {what}")
        seen.add(name)


def _check_shapes(layer: LayerRecord, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """The axes of one name must have one size in all arrays of a layer, and gates their number."""
    sizes: dict[str, int] = {"gate": len(GATES[layer.kind])} if layer.kind in GATES else {}
    for name, shape in shapes.items():
        axes = CANONICAL[layer.kind][name].split()
        fits = len(axes) == len(shape) and all(
            sizes.setdefault("units" if axis == "past" else axis, size) == size
            for axis, size in zip(axes, shape)
        )
        if not fits:
            raise ValueError(
                f"{key(layer.path, name)!r} has shape {shape}, which the {name} ({', '.join(axes)}) of this "
                f"{layer.kind} layer cannot have"
            )


def _read_only(array: Array) -> Array:
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array
