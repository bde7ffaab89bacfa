# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==0.0.0.dev0"]
# [tool.d2lparams]
# title = "uninstallable"
# class = "Fake"
# modules = ["numpy"]
# ///
"""An environment that cannot be built."""

from __future__ import annotations

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.trait("never reached", True)
