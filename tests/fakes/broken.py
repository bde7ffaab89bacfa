# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "broken"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Cannot be imported."""

from __future__ import annotations

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer

raise RuntimeError("libmissing.so.1 is not there")


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.trait("never reached", True)
