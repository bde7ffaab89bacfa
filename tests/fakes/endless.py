# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "endless"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A scenario that never stops observing."""

from __future__ import annotations

import itertools

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        for number in itertools.count():
            observe.trait(f"number {number}", number)
