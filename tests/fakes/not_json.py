# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "not_json"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Observes what JSON cannot hold."""

from __future__ import annotations

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.trait("an object", object())
