"""One model taken from one framework to another, and the proof: what it holds and computes here and there.

Each step is a function that runs in a column's own process. They meet in a folder:

    <folder>/<source>/
        parameters.safetensors        the `ParameterSet` that the source exported
        computed.safetensors          what the model computes there, with the batch
        done                          written last: the source has left all of it
        back/<target>.safetensors     what the target exports after it loaded the source's values

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2lparams.carrying import expected_after_load, pair
from d2lparams.checks import Array
from d2lparams.conventions import GATES, Kind, kept_hidden_biases, to_canonical
from d2lparams.interface import Backend
from d2lparams.models import Example
from d2lparams.natives import NativeLayer, Structure
from d2lparams.parameter_set import LayerRecord, ParameterSet, key, same_bits
from d2lparams.scenarios.inputs import draw, random
from d2lparams.scenarios.registry import Observer
from d2lparams.tensor_file import open_tensor_file, write

RTOL = 1e-5
"""How far float32 results may be apart, relative to the largest magnitude in an array."""
RATE = 0.125
"""Of the training step; binary32 holds it exactly."""
ROWS = 4
"""Examples in a batch."""

Pairs = Sequence[tuple[NativeLayer, LayerRecord]]


@dataclass(frozen=True)
class Computed:
    """What a model computes for one batch, in canonical form.

    Attributes:
        output: of the model.
        layers: what each use of a layer gives, by its path, in order of application.
        gradients: of the mean squared error, by canonical path.
        after: the values after one step of gradient descent, by canonical path.
    """

    output: Array
    layers: Mapping[str, Array]
    gradients: Mapping[str, Array]
    after: Mapping[str, Array]


def prepared(backend: Backend[Any], model: Any, example: Example) -> Any:
    """The example with values that are the same on every backend: drawn for each canonical array by its place.

    A hidden bias is zero, for a framework that keeps one bias for both could not give it back.
    """
    x = backend.carrier().native_input(inputs_of(example), example.kind)
    return backend.load(model, _drawn(backend.export(model, x)), x)


def inputs_of(example: Example) -> Array:
    """A batch for an example, canonical layout."""
    if example.tokens:
        return random(1001).randint(0, example.tokens, (ROWS, *example.inputs)).astype("int32")
    return draw(1001, (ROWS, *example.inputs), "float32")


def inputs_for(parameters: ParameterSet) -> Array:
    """A batch for a model whose first layer says what it takes.

    Raises:
        ValueError: where it does not: a convolution takes images of any size.
    """
    first = parameters.layers[0]
    arrays = parameters.of(first)
    if first.kind == "dense":
        return draw(1001, (ROWS, arrays["weight"].shape[1]), str(arrays["weight"].dtype))
    if first.kind == "embedding":
        return random(1001).randint(0, len(arrays["weight"]), (ROWS, 5)).astype("int32")
    if first.kind in GATES:
        weight = arrays["input weight"]
        return draw(1001, (ROWS, 5, weight.shape[2]), str(weight.dtype))
    raise ValueError(
        f"a model that begins with {first.path!r} ({first.kind}) takes inputs of a size that it does not tell; "
        "write a function inputs() beside the one that builds it, which returns a NumPy array, channels first"
    )


def hand_over(
    backend: Backend[Any],
    model: Any,
    folder: Path,
    column: str,
    x: Array | None = None,
    kind: Kind | None = None,
) -> None:
    """Leave a model's values, and what it computes; the model is trained by a step.

    Args:
        backend: of the model.
        model: the framework's own.
        folder: of the transfer.
        column: the source's name.
        x: a batch, canonical layout; by default one that fits the first layer.
        kind: of the layer that takes x; by default what the batch looks like.
    """
    mine = folder / column
    (mine / "back").mkdir(parents=True, exist_ok=True)
    if x is None:
        x = inputs_for(backend.export(model))
    kind = kind or _kind_of(x)
    native = backend.carrier().native_input(x, kind)
    parameters = backend.export(model, native)
    parameters.save(mine / "parameters.safetensors")
    structure = backend.carrier().structure(model, native)
    kept = {layer.path: kept_hidden_biases(layer.kind, layer.rows) for layer in structure.layers}
    computed, y = _compute(backend, model, native, None)
    arrays = {
        "x": x,
        "y": y,
        "output": computed.output,
        **{f"layer {path}": array for path, array in computed.layers.items()},
        **{f"gradient {path}": array for path, array in computed.gradients.items()},
        **{f"after {path}": array for path, array in computed.after.items()},
    }
    write(mine / "computed.safetensors", arrays, {"notes": json.dumps({"kind": kind, "kept": kept})})
    (mine / "done").touch()


def take_over(
    backend: Backend[Any],
    model: Any,
    folder: Path,
    source: str,
    observe: Observer,
    options: Mapping[str, Any] | None = None,
    *,
    rtol: float = RTOL,
    told: bool = False,
) -> None:
    """Load what a source has left into a model, and observe whether it is the same here.

    Args:
        backend: of the model.
        model: the framework's own, with values of its own.
        folder: of the transfer.
        source: the column that has left it.
        observe: takes down what is seen.
        options: of `Backend.load`.
        rtol: how far results may be apart, relative to the largest magnitude in an array.
        told: whether to take down which layer took which one's values.
    """
    parameters = ParameterSet.open(folder / source / "parameters.safetensors")
    file = open_tensor_file(folder / source / "computed.safetensors")
    notes = json.loads(file.metadata["notes"])
    x = backend.carrier().native_input(np.array(file.array("x")), notes["kind"])
    options = dict(options or {})
    backend.load(model, parameters, x, **options)
    backend.export(model, x).save(folder / source / "back" / f"{observe.column}.safetensors")

    structure = backend.carrier().structure(model, x)
    pairs = pair(parameters, structure, options.get("mapping"))
    if told:
        observe.trait(f"layers from {source}", [[one.path, record.path, one.kind] for one, record in pairs])
    observe.invariant(f"values from {source}", _values(parameters, pairs), expected="equal")
    ties = [] if options.get("untie") else _expected_ties(parameters, pairs)
    observe.invariant(f"ties from {source}", _ties(pairs), expected=ties)
    before = {path: np.array(array) for path, array in _canonical(structure).items()}
    there = Computed(
        output=file.array("output"),
        layers=_named(file, "layer "),
        gradients=_named(file, "gradient "),
        after=_named(file, "after "),
    )
    here, _ = _compute(backend, model, x, np.array(file.array("y")))
    observe.invariant(f"output from {source}", _outputs(here, there, pairs, rtol), expected="agrees")
    both = _Both(parameters, pairs, notes["kept"], rtol)
    observe.invariant(f"gradients from {source}", both.agree(here.gradients, there.gradients), expected="agree")
    # A gate with one bias moves it from the sum of two: what is held against each other is where it ends when
    # it begins at the same place.
    expected = both.shifted(there.after, before)
    observe.invariant(f"training step from {source}", both.agree(here.after, expected), expected="agree")


def bring_back(backend: Backend[Any], model: Any, folder: Path, target: str, observe: Observer) -> None:
    """Load what a target gives back of one's own values, and observe whether it is what was handed over."""
    mine = folder / observe.column
    own = ParameterSet.open(mine / "parameters.safetensors")
    file = open_tensor_file(mine / "computed.safetensors")
    x = backend.carrier().native_input(np.array(file.array("x")), json.loads(file.metadata["notes"])["kind"])
    backend.load(model, ParameterSet.open(mine / "back" / f"{target}.safetensors"), x)
    again = backend.export(model, x)
    different = [path for path in own if path not in again or not same_bits(own[path], again[path])]
    observe.invariant(f"back from {target}", _list(different) or "equal", expected="equal")


def _compute(backend: Backend[Any], model: Any, x: Array, y: Array | None) -> tuple[Computed, Array]:
    """What the model computes for a native batch, and the target; drawn, where none is given."""
    carrier = backend.carrier()
    layers = dict(carrier.outputs(model, x))
    structure = carrier.structure(model, x)
    if y is None:
        output = carrier.forward(model, x)
        y = draw(1002, output.shape, str(output.dtype))
    step = carrier.step(model, x, y, RATE)
    gradients = {}
    for layer in structure.layers:
        held = {one.name: step.gradients[one.storage] for one in layer.arrays if one.storage in step.gradients}
        for name, value in to_canonical(layer.kind, layer.rows, held, layer.flattened).items():
            gradients[key(layer.path, name)] = np.array(value)
    after = {path: np.array(array) for path, array in _canonical(carrier.structure(model, x)).items()}
    return Computed(step.output, layers, gradients, after), y


def _canonical(structure: Structure) -> dict[str, Array]:
    """Every use's arrays, by canonical path."""
    return {key(layer.path, name): array for layer in structure.layers for name, array in layer.read().items()}


def _named(file: Any, prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): file.array(name) for name in file.entries if name.startswith(prefix)}


def _kind_of(x: Array) -> Kind:
    """What a batch looks like; of three axes it is taken for steps of a sequence."""
    if x.dtype.kind in "iu":
        return "embedding"
    kinds: dict[int, Kind] = {2: "dense", 3: "lstm", 4: "conv2d"}
    if x.ndim not in kinds:
        raise ValueError(
            f"inputs() gives an array of shape {x.shape}; the first axis is the batch, 2 to 4 in all"
        )
    return kinds[x.ndim]


def _drawn(parameters: ParameterSet) -> ParameterSet:
    """The same layers with values of our own, asymmetric, so that no swapped axis or gate can hide."""
    arrays = {}
    for place, layer in enumerate(parameters.layers):
        for name, path in zip(layer.arrays, layer.keys):
            shape = parameters[path].shape
            seed = 10 * place + layer.arrays.index(name)
            # As many terms as go into one output: what stands behind the axes of outputs, or gates and units.
            terms = float(np.prod(shape[2 if layer.kind in GATES else 1 :]))
            bound = 0.5 if terms == 1 else terms**-0.5
            array = draw(seed, shape, str(parameters[path].dtype), bound)
            if name == "running variance":
                array = np.abs(array) + 1
            arrays[path] = np.zeros_like(array) if name == "hidden bias" else array
    return ParameterSet(parameters.layers, arrays, parameters.ties, ordered=parameters.ordered)


def _values(parameters: ParameterSet, pairs: Pairs) -> str:
    """Which arrays hold other bits than they were given."""
    different = []
    for layer, record in pairs:
        expected, found = expected_after_load(layer, parameters.of(record)), layer.read()
        different += [
            key(layer.path, name)
            for name, value in expected.items()
            if not same_bits(value.astype(found[name].dtype), found[name])
        ]
    return _list(different) or "equal"


def _ties(pairs: Pairs) -> list[list[str]]:
    """The groups of arrays that are one storage here, by the source's paths."""
    groups: dict[Any, list[str]] = {}
    for layer, record in pairs:
        for name, storage in layer.storages.items():
            groups.setdefault(storage, []).append(key(record.path, name))
    return sorted(group for group in groups.values() if len(group) > 1)


def _expected_ties(parameters: ParameterSet, pairs: Pairs) -> list[list[str]]:
    paired = {path for _, record in pairs for path in record.keys}
    groups = ([path for path in group if path in paired] for group in parameters.ties)
    return sorted(group for group in groups if len(group) > 1)


def _outputs(here: Computed, there: Computed, pairs: Pairs, rtol: float) -> str:
    """Whether the outputs agree; where not, the first layer where they part."""
    off = deviation(here.output, there.output)
    if off <= rtol:
        return "agrees"
    sources = {layer.path: record.path for layer, record in pairs}
    said = f"off by {off:.1e} of the largest entry"
    for path, array in here.layers.items():
        if path in sources and sources[path] in there.layers:
            parted = deviation(array, there.layers[sources[path]])
            if parted > rtol:
                return f"{said}; they part first in {path!r}, by {parted:.1e}"
    return f"{said}; every layer agrees, so they part in what stands between or after them"


@dataclass(frozen=True)
class _Both:
    """What is the same array here and there; of two biases that one side keeps as one, nothing is."""

    parameters: ParameterSet
    pairs: Pairs
    kept: Mapping[str, list[int]]
    rtol: float

    def agree(self, here: Mapping[str, Array], there: Mapping[str, Array]) -> str:
        """Whether all arrays agree, and if not, which one does not, and by how much."""
        worst, where = 0.0, ""
        for mine, theirs, at in self._arrays():
            if mine in here and theirs in there:
                off = deviation(here[mine][at], there[theirs][at])
                if off > self.rtol and not where:
                    worst, where = off, mine
        return f"off by {worst:.1e} of the largest entry in {where!r}" if where else "agree"

    def shifted(self, after: Mapping[str, Array], before: Mapping[str, Array]) -> dict[str, Array]:
        """Where the source's arrays end when they begin where the ones here begin."""
        return {
            theirs: after[theirs] - self.parameters[theirs] + before[mine]
            for mine, theirs, _ in self._arrays()
            if theirs in after and mine in before
        }

    def _arrays(self) -> list[tuple[str, str, Any]]:
        found: list[tuple[str, str, Any]] = []
        for layer, record in self.pairs:
            for name in record.arrays:
                at: Any = ...
                if name == "hidden bias":
                    at = [
                        gate
                        for gate in kept_hidden_biases(layer.kind, layer.rows)
                        if gate in self.kept[record.path]
                    ]
                    if not at:
                        continue
                found.append((key(layer.path, name), key(record.path, name), at))
        return found


def deviation(value: Array, other: Array) -> float:
    """The largest difference, relative to the largest magnitude of the other; infinity for another shape."""
    if value.shape != other.shape:
        return float("inf")
    if not value.size:
        return 0.0
    one, two = value.astype("float64"), other.astype("float64")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return 0.0 if np.array_equal(one, two, equal_nan=True) else float("inf")
    largest = float(np.abs(two).max())
    difference = float(np.abs(one - two).max())
    return difference / largest if largest else (0.0 if difference == 0 else float("inf"))


def _list(paths: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"differ: {', '.join(paths[:3])}{more}" if paths else ""
