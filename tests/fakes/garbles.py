# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "garbles"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Finds the way to the parent, writes half an event there, and dies."""

from __future__ import annotations

import os
import stat

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        for pipe in range(3, 64):
            try:
                if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                    os.write(pipe, b'{"event": "finished", "scenario": "trou')
            except OSError:
                continue  # closed, or an end to read from
        os._exit(3)
