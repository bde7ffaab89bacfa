# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "forks"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Leaves a child running that holds on to every pipe it can, and dies."""

from __future__ import annotations

import os
import signal
import time

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        child = os.fork()
        if child == 0:
            time.sleep(3600)
        observe.trait("child", child)
        os.kill(os.getpid(), signal.SIGKILL)
