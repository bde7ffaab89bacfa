# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "unsupported"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A scenario that the framework cannot do."""

from __future__ import annotations

from backends.numpy import NumpyBackend
from d2lparams.interface import Unsupported
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        raise Unsupported("layers here have no names")
