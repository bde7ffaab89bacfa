"""The names in a file of variables: collection, path of the module, leaf, with "/" between them.

A file may hold the inside of the collection "params" alone. A recurrent layer's arrays stand in its cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from backends.conventions.jax import CONVENTIONS
from d2lparams.interface import Kind
from d2lparams.naming import Names, Shapes

_COLLECTIONS = ("params", "batch_stats")
_STATISTICS = ("mean", "var")
_GATES = {
    *("ii.kernel", "if.kernel", "ig.kernel", "io.kernel", "hi.kernel", "hf.kernel", "hg.kernel", "ho.kernel"),
    *("hi.bias", "hf.bias", "hg.bias", "ho.bias"),
    *("ir.kernel", "iz.kernel", "in.kernel", "hr.kernel", "hz.kernel", "hn.kernel"),
    *("ir.bias", "iz.bias", "in.bias", "hn.bias"),
}


class JaxNames(Names):
    """Names such as "params/Conv_0/kernel", "batch_stats/norm/mean" and "params/RNN_0/cell/hi/bias"."""

    conventions = CONVENTIONS
    channels_last = True
    shared_once = True

    def split(self, name: str) -> tuple[str, str] | None:
        """The cell belongs to the path of its layer, and the gate to the name within it."""
        parts = name.split("/")
        parts = parts[1:] if parts[0] in _COLLECTIONS else parts
        inner = ".".join(parts[-2:])
        own = inner if inner in _GATES else parts[-1]
        return ".".join(parts[: -1 - (own == inner and len(parts) > 1)]), own

    def guess(self, path: str, shapes: Shapes) -> tuple[Kind | None, str]:
        """By the leaf; of what several modules call alike, by the name that Flax gives a module by itself."""
        names, module = set(shapes), re.sub(r"_\d+$", "", path.rpartition(".")[2])
        if names & _GATES:
            return ("lstm" if "ii.kernel" in names else "gru"), ""
        if names == {"embedding"}:
            return "embedding", ""
        if "mean" in names and names <= {"scale", "bias", "mean", "var"}:
            return "batchnorm", ""
        if names <= {"scale", "bias"} and "scale" in names:
            if module == "LayerNorm":
                return "layernorm", ""
            return None, "a layer normalisation (layernorm), or one over groups"
        if "kernel" not in names or not names <= {"kernel", "bias"}:
            return None, f"a layer that is not known, with {', '.join(sorted(names))}"
        axes = len(shapes["kernel"])
        if axes == 2:
            return "dense", ""
        kinds: dict[int, Kind] = {3: "conv1d", 4: "conv2d"}
        if axes in kinds and module == "Conv":
            return kinds[axes], ""
        what = f"a convolution ({kinds[axes]}), or " if axes in kinds else ""
        return None, f"{what}something else with {axes} axes, which is not known"

    def entries(
        self, places: Sequence[tuple[str, Kind, Sequence[str]]], given: Mapping[str, str]
    ) -> list[list[str]]:
        """Collection, path, leaf; of a recurrent layer, those of its cell."""
        found = []
        for path, kind, arrays in places:
            parts = (given.get(path) or path).replace("/", ".").split(".")
            parts = [part for part in parts if part]
            if kind in ("lstm", "gru") and path not in given and parts[-1:] != ["cell"]:
                parts.append("cell")
            found.append(
                [
                    "/".join(["batch_stats" if name in _STATISTICS else "params", *parts, *name.split(".")])
                    for name in arrays
                ]
            )
        return found
