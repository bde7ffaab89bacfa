"""A state dict's names: the path of the module, and the attribute; a recurrent level stands behind its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from backends.conventions.torch import CONVENTIONS
from d2lparams.interface import Kind
from d2lparams.naming import Names, Shapes, at_level, guess_channels_first, level_of


class TorchNames(Names):
    """Names such as "features.0.weight" and "rnn.weight_ih_l1_reverse"."""

    conventions = CONVENTIONS

    def split(self, name: str) -> tuple[str, str] | None:
        """A level above the first, or a backward one, is a layer of its own."""
        path, _, attribute = name.rpartition(".")
        if attribute == "num_batches_tracked":
            return None
        match = re.fullmatch(r"(?P<own>\w+?)_l(?P<level>\d+)(?P<reverse>_reverse)?", attribute)
        if match is None:
            return path, attribute
        return at_level(path, match["level"], bool(match["reverse"])), match["own"]

    def guess(self, path: str, shapes: Shapes) -> tuple[Kind | None, str]:
        """By the number of axes; a bias tells a dense layer from an embedding."""
        return guess_channels_first(
            shapes, scale="weight", shift="bias", mean="running_mean", recurrent="weight_hh"
        )

    def entries(
        self, places: Sequence[tuple[str, Kind, Sequence[str]]], given: Mapping[str, str]
    ) -> list[list[str]]:
        """Path and attribute."""
        found = []
        for path, kind, arrays in places:
            place, suffix = given.get(path, path), ""
            if kind in ("lstm", "gru"):
                place, level, backward = level_of(place)
                suffix = f"_l{level}{'_reverse' * backward}"
            found.append([".".join(filter(None, (place, f"{name}{suffix}"))) for name in arrays])
        return found
