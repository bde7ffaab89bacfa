# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "not_a_number"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Observes numbers that JSON has no word for."""

from __future__ import annotations

import numpy as np

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.trait("numbers", np.array([np.nan, np.inf, -np.inf]))
