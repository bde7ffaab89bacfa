# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "raises"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A scenario that raises."""

from __future__ import annotations

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        raise ArithmeticError("two and two\nis five")
