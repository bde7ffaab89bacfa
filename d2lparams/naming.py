"""What a file's names tell of a model: which arrays belong to one layer, and its kind where that is certain.

Each framework has its own way to name arrays in its files (`backends/names/`). A kind is stated only where the
names and shapes leave no other; a weight (8, 8) alone may be a dense layer or an embedding, and then the doubt
is stated instead, for someone who knows to settle it. Pure, and imports no framework.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from d2lparams.conventions import Conventions, Kind

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class FileLayer:
    """A layer as the names in a file show it.

    Attributes:
        path: where it stands in the model, with "." between its parts.
        kind: of the layer, or None.
        entries: the names in the file, by native name within the layer.
        doubt: why there is no kind: what it may be; "" where there is one.
    """

    path: str
    kind: Kind | None
    entries: Mapping[str, str]
    doubt: str = ""


class Names(ABC):
    """How one framework's files name arrays.

    Attributes:
        conventions: how its layers keep their arrays.
        channels_last: whether a flattened image goes place by place.
        shared_once: whether the framework's files have a layer that is used twice only once.
        ordered: whether a file lists layers in the order of the model.
    """

    conventions: Conventions
    channels_last = False
    shared_once = False
    ordered = True

    @abstractmethod
    def split(self, name: str) -> tuple[str, str] | None:
        """The path of the layer and the native name within it; None for what belongs to no layer."""

    @abstractmethod
    def guess(self, path: str, shapes: Shapes) -> tuple[Kind | None, str]:
        """The kind of a layer that has arrays of these shapes, by native name, or None and what it may be."""

    @abstractmethod
    def entries(
        self, places: Sequence[tuple[str, Kind, Sequence[str]]], given: Mapping[str, str]
    ) -> list[list[str]]:
        """The names in a file of the arrays of layers.

        Args:
            places: of each layer its path, its kind, and its arrays by native name, in the order of the model.
            given: by path, where the user says that a layer stands in the file that is written.
        """

    def layers(self, shapes: Shapes) -> list[FileLayer]:
        """The layers of a file, in its order.

        Args:
            shapes: of all arrays in the file, by their names in it.
        """
        found: dict[str, dict[str, str]] = {}
        for name in shapes:
            parts = self.split(name)
            if parts is not None:
                found.setdefault(parts[0], {})[parts[1]] = name
        layers = []
        for path, entries in _without_only_levels(found).items():
            kind, doubt = self.guess(path, {own: shapes[name] for own, name in entries.items()})
            layers.append(FileLayer(path, kind, entries, doubt))
        return layers


def guess_channels_first(
    shapes: Shapes, *, scale: str, shift: str, mean: str, recurrent: str
) -> tuple[Kind | None, str]:
    """What PyTorch's and Gluon's names tell; the two differ in words only.

    Args:
        shapes: by native name.
        scale: what a normalisation calls its weight.
        shift: and its bias.
        mean: and its running mean.
        recurrent: the native name of a recurrent layer's hidden weight.
    """
    names = set(shapes)
    if recurrent in names:
        gates = shapes[recurrent][0] / shapes[recurrent][-1]
        kinds: dict[float, Kind] = {4.0: "lstm", 3.0: "gru"}
        return kinds.get(gates), "" if gates in kinds else "a recurrent layer without gates, which is not known"
    if mean in names:
        return "batchnorm", ""
    if scale in names and len(shapes[scale]) == 1 and names <= {scale, shift}:
        return None, "a layer normalisation (layernorm), or one over groups or instances"
    if "weight" not in names or not names <= {"weight", "bias"}:
        return None, f"a layer that is not known, with {', '.join(sorted(names))}"
    weight, bias = shapes["weight"], shapes.get("bias")
    if len(weight) == 2:
        return ("dense", "") if bias else (None, "a dense layer without a bias (dense), or an embedding")
    if len(weight) == 4:
        sure = bias is not None and bias[0] == weight[0] != weight[1]
        return (
            ("conv2d", "")
            if sure
            else (None, "a convolution (conv2d), or a transposed one, which is not known")
        )
    if len(weight) == 3:
        return None, "a convolution (conv1d), or something else with three axes, which is not known"
    return None, "a layer that is not known"


def at_level(path: str, level: int | str, backward: bool) -> str:
    """The path of one level and direction of a recurrent layer, such as "rnn.l1.reverse"."""
    return ".".join(filter(None, (path, f"l{level}", "reverse" if backward else "")))


def level_of(path: str) -> tuple[str, int, bool]:
    """A path that ends in a level of a recurrent layer, such as "rnn.l1.reverse": path, level, backward."""
    match = re.fullmatch(r"(?:(?P<path>.*)\.)?l(?P<level>\d+)(?P<reverse>\.reverse)?", path)
    if match is None:
        return path, 0, False
    return match["path"] or "", int(match["level"]), bool(match["reverse"])


def _without_only_levels(found: Mapping[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The same, where a recurrent layer with one level and direction stands without the level."""
    levels: dict[str, int] = {}
    for path in found:
        levels[level_of(path)[0]] = levels.get(level_of(path)[0], 0) + 1
    renamed = {}
    for path, entries in found.items():
        base = level_of(path)[0]
        recurrent = any("hh" in own or "h2h" in own for own in entries)
        # One that has the name of a level itself keeps both, lest the one be taken for the other.
        alone = recurrent and levels[base] == 1 and level_of(base)[0] == base and base not in found
        renamed[base if alone else path] = entries
    return renamed


def numbered(names: Sequence[str]) -> list[str]:
    """The same names, the second and later ones of a kind with a number: dense, dense_1, dense_2."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        number = seen[name] = seen.get(name, -1) + 1
        found.append(f"{name}_{number}" if number else name)
    return found
