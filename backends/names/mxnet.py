"""The names in a file of `save_parameters`: the path of the block and the attribute, as PyTorch has them.

The parameters of a recurrent layer stand under the cells that it could run as: "rnn._unfused.0.i2h_bias". In a
file of `export` a parameter has its own name instead, behind "arg:" or "aux:", with the block's prefix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from backends.conventions.mxnet import CONVENTIONS
from d2lparams.interface import Kind
from d2lparams.naming import Names, Shapes, at_level, guess_channels_first, level_of

_ATTRIBUTES = "weight|bias|gamma|beta|running_mean|running_var|(?:[lr]\\d+_)?[ih]2h_(?:weight|bias)"


class MXNetNames(Names):
    """Names such as "features.0.weight", "rnn._unfused.0.i2h_weight", "arg:dense0_weight"."""

    conventions = CONVENTIONS

    def split(self, name: str) -> tuple[str, str] | None:
        """A level above the first, or a backward one, is a layer of its own."""
        plain = name.removeprefix("arg:").removeprefix("aux:")
        cell = re.fullmatch(
            r"(?:(?P<path>.*)\.)?_unfused\.(?P<level>\d+)\.(?:(?P<direction>[lr])_cell\.)?(?P<own>[ih]2h_\w+)",
            plain,
        )
        if cell is not None:
            return at_level(cell["path"] or "", cell["level"], cell["direction"] == "r"), cell["own"]
        match = re.fullmatch(rf"(?:(?P<path>.*?)[._])?(?P<own>{_ATTRIBUTES})", plain)
        if match is None:
            return plain, "?"
        path, own = match["path"] or "", match["own"]
        level = re.fullmatch(r"(?P<direction>[lr])(?P<level>\d+)_(?P<own>.*)", own)
        if level is None:
            return path, own
        return at_level(path, level["level"], level["direction"] == "r"), level["own"]

    def guess(self, path: str, shapes: Shapes) -> tuple[Kind | None, str]:
        """By the number of axes; a bias tells a dense layer from an embedding."""
        return guess_channels_first(
            shapes, scale="gamma", shift="beta", mean="running_mean", recurrent="h2h_weight"
        )

    def entries(
        self, places: Sequence[tuple[str, Kind, Sequence[str]]], given: Mapping[str, str]
    ) -> list[list[str]]:
        """Path and attribute, as `load_parameters` looks for them."""
        # A layer of two directions has two cells in each level.
        both = {level_of(path)[0] for path, kind, _ in places if kind in ("lstm", "gru") and level_of(path)[2]}
        found = []
        for path, kind, arrays in places:
            place, prefix = given.get(path, path), ""
            if kind in ("lstm", "gru"):
                place, level, backward = level_of(place)
                direction = f"{'r' if backward else 'l'}_cell." if level_of(path)[0] in both else ""
                prefix = f"_unfused.{level}.{direction}"
            found.append([".".join(filter(None, (place, f"{prefix}{name}"))) for name in arrays])
        return found
