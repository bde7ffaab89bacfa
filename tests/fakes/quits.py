# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "quits"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A scenario that asks Python to exit."""

from __future__ import annotations

import sys

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        sys.exit(0)
