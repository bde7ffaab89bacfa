# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "hangs"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A scenario that does not come back, and neither does the child that it started."""

from __future__ import annotations

import os
import subprocess
import time

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        child = subprocess.Popen(["sleep", "3600"])
        print(f"pids: {os.getpid()} {child.pid}")  # noqa: T201
        time.sleep(3600)
