"""The names in Keras' weights file: a group for each layer, named by its class, and its variables by number.

Layers of one class are counted: dense, dense_1, dense_2. A recurrent layer's variables stand in its cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from backends.conventions.tensorflow import CONVENTIONS
from d2lparams.interface import Kind
from d2lparams.naming import Names, Shapes, numbered

_CLASSES: dict[str, Kind] = {
    "dense": "dense",
    "conv1d": "conv1d",
    "conv2d": "conv2d",
    "batch_normalization": "batchnorm",
    "layer_normalization": "layernorm",
    "embedding": "embedding",
    "lstm": "lstm",
    "gru": "gru",
    "reversible_embedding": "embedding",
}
_GROUPS: dict[Kind, str] = {kind: name for name, kind in reversed(_CLASSES.items())}


class TensorFlowNames(Names):
    """Names such as "layers/dense_1/vars/0" and "layers/lstm/cell/vars/2"."""

    conventions = CONVENTIONS
    channels_last = True
    shared_once = True
    ordered = False  # HDF5 sorts names by the alphabet

    def split(self, name: str) -> tuple[str, str] | None:
        """The variable's number stands for its name until the kind is known."""
        match = re.fullmatch(r"(?:.*?model\.weights\.h5/)?(?P<path>.*?)(?:/cell)?/vars/(?P<number>\d+)", name)
        if match is None:
            return name, "?"
        if match["path"].startswith(("optimizer", "metrics")) or "seed_generator" in match["path"]:
            return None
        return match["path"].replace("layers/", "").replace("/", "."), match["number"]

    def guess(self, path: str, shapes: Shapes) -> tuple[Kind | None, str]:
        """By the name of the class."""
        name = re.sub(r"_\d+$", "", path.rpartition(".")[2])
        kind = _CLASSES.get(name)
        if kind is None:
            return None, f"a layer of a class that is not known, or that has a name of its own, {name!r}"
        full = {"batchnorm": 4, "layernorm": 2}.get(kind)
        if full and len(shapes) != full:
            return None, f"a {kind} without scale or shift; its file does not say which"
        return kind, ""

    def entries(
        self, places: Sequence[tuple[str, Kind, Sequence[str]]], given: Mapping[str, str]
    ) -> list[list[str]]:
        """As Keras names the layers of a Sequential or functional model by itself."""
        groups = numbered([_GROUPS[kind] for _, kind, _ in places])
        found = []
        for (path, kind, arrays), group in zip(places, groups, strict=True):
            place = given.get(path, f"layers/{group}")
            cell = "/cell" if kind in ("lstm", "gru") else ""
            found.append([f"{place}{cell}/vars/{number}" for number in range(len(arrays))])
        return found
