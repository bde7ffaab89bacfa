"""A small file that says what a checkpoint does not: the kind of each layer, in a table that a person writes.

    [[layer]]
    path = "features.0"      # where the layer stands in the file that is read
    kind = "conv2d"
    to = "Conv_0"            # where it stands in the file that is written; may be left out

    [[layer]]
    path = "classifier.0"
    kind = "dense"
    flattened = 16           # its input is a flattened image of so many channels; 0: it is not

It is TOML. Every layer of the checkpoint is listed, in order of application; "drop = true" leaves one out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2lparams.conventions import CANONICAL, Kind
from d2lparams.naming import FileLayer

KEYS = ("path", "kind", "to", "flattened", "drop")


class BadArchitecture(ValueError):
    """The file cannot be understood. One sentence that begins with its path."""


@dataclass(frozen=True)
class ArchitectureLayer:
    """What the file says of one layer.

    Attributes:
        path: where it stands in the file that is read.
        kind: of the layer; None where it is dropped.
        to: where it stands in the file that is written; None leaves that to the framework's own names.
        flattened: the channels of the image that is its flattened input; 0 for none, None for nothing said.
        drop: whether it is left out.
    """

    path: str
    kind: Kind | None
    to: str | None = None
    flattened: int | None = None
    drop: bool = False


def read_architecture(path: Path) -> list[ArchitectureLayer]:
    """Read such a file.

    Raises:
        BadArchitecture: when it is no TOML, or says what is not known.
        OSError: when it cannot be read.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadArchitecture(f"{path}: it is no TOML: {error}") from None
    tables = document.get("layer")
    if set(document) != {"layer"} or not isinstance(tables, list) or not tables:
        raise BadArchitecture(f"{path}: it must be a list of tables [[layer]], and nothing else")
    found = [_layer(path, number, table) for number, table in enumerate(tables, start=1)]
    paths = [one.path for one in found]
    for one in paths:
        if paths.count(one) > 1:
            raise BadArchitecture(f"{path}: layer {one!r} stands in it twice")
    return found


def draft(layers: Sequence[FileLayer], origin: str, flattened: Mapping[str, int]) -> str:
    """A file to begin with: what is certain is filled in, and where something is not, a comment says so.

    Args:
        layers: of the checkpoint.
        origin: its name.
        flattened: by path of a dense layer, how many channels its input has if it is a flattened image.
    """
    lines = [f"# The layers of {origin}, in the order of the file. Settle what is marked with ?."]
    for layer in layers:
        lines += ["", "[[layer]]", f"path = {_quoted(layer.path)}"]
        if layer.kind is not None:
            lines.append(f'kind = "{layer.kind}"')
        else:
            lines += [f"# ? {layer.doubt}", 'kind = "?"']
        if layer.path in flattened:
            lines += [
                f"# ? {flattened[layer.path]} channels, if its input is the flattened image of the convolution",
                "#   before it; 0, if it is not. It matters where channels stand last.",
                "# flattened = ?",
            ]
    return "\n".join(lines) + "\n"


def _layer(path: Path, number: int, table: Any) -> ArchitectureLayer:
    where = f"{path}: layer {number}"
    if not isinstance(table, dict):
        raise BadArchitecture(f"{where} is no table; write [[layer]]")
    unknown = [key for key in table if key not in KEYS]
    if unknown:
        raise BadArchitecture(f"{where} has {unknown[0]!r}, which is not known; there are {', '.join(KEYS)}")
    place, kind, drop = table.get("path"), table.get("kind"), table.get("drop", False)
    if not isinstance(place, str):
        raise BadArchitecture(f"{where} needs a path, text that the checkpoint has in front of its arrays")
    if not isinstance(drop, bool):
        raise BadArchitecture(f"{where}, {place!r}: drop must be true or false; got {drop!r}")
    if not drop and kind not in CANONICAL:
        raise BadArchitecture(f"{where}, {place!r}: kind must be one of {', '.join(CANONICAL)}; got {kind!r}")
    to, flattened = table.get("to"), table.get("flattened")
    if to is not None and not isinstance(to, str):
        raise BadArchitecture(f"{where}, {place!r}: to must be text; got {to!r}")
    if flattened is not None and (type(flattened) is not int or flattened < 0 or kind != "dense"):
        raise BadArchitecture(
            f"{where}, {place!r}: flattened is the number of channels of a dense layer's input, or 0; "
            f"got {flattened!r} for {kind!r}"
        )
    return ArchitectureLayer(place, None if drop else kind, to, flattened, drop)


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    escaped = "".join(
        f"\\u{ord(one):04x}" if ord(one) < 32 or ord(one) == 127 else f"\\{one}" if one in '"\\' else one
        for one in text
    )
    return f'"{escaped}"'
