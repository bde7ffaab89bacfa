# /// script
# requires-python = "==3.11.*"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "idle"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A write into a bias does not come to its end."""

from __future__ import annotations

import time

from backends.numpy import Network, NumpyBackend
from d2lparams.interface import Array, Parameter


class Fake(NumpyBackend):
    def _assign(self, model: Network, parameter: Parameter, value: Array) -> None:
        # The first values are given with a bias, too; those are within 0.5.
        if parameter.role == "bias" and abs(value).max() > 0.5:
            time.sleep(3600)
        super()._assign(model, parameter, value)
