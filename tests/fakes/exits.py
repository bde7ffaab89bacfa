# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "exits"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A scenario that leaves, and with a good exit code."""

from __future__ import annotations

import os

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        os._exit(0)
