# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "healthy"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Nothing is wrong here."""

from __future__ import annotations

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.trait("an array", [0.1, 0.2])
