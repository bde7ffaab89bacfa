"""What an adapter tells of a native model: its layers, their arrays, and what the model computes.

Plain descriptions, with functions in them that read and write the framework's own memory; nothing here moves a
value from one framework to another, see `carrying`.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from d2lparams.checks import Array
from d2lparams.conventions import Convention, Conventions, Flattened, Kind, to_canonical
from d2lparams.matching import Described

Native = TypeVar("Native")


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
