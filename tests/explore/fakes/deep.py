# /// script
# requires-python = "==3.11.*"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "deep"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Native code that crashes when it computes gradients of five layers or more."""

from __future__ import annotations

import ctypes

from backends.numpy import Network, NumpyBackend
from d2lparams.interface import Array, Role


class Fake(NumpyBackend):
    def _gradients(self, model: Network, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        if len(model.layers) >= 5:
            ctypes.string_at(0)
        return super()._gradients(model, x, y)
