# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "segfault"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A crash in native code."""

from __future__ import annotations

import ctypes
import sys

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        print("last words", file=sys.stderr)  # noqa: T201
        ctypes.string_at(0)
