# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "stillborn"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Dies while it is imported."""

from __future__ import annotations

import os
import signal

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer

os.kill(os.getpid(), signal.SIGABRT)


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.trait("never reached", True)
