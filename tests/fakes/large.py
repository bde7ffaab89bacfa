# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "large"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Observes more than an event may hold."""

from __future__ import annotations

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.trait("a text", "x" * (65 * 2**20))
