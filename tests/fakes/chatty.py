# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "chatty"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Prints what looks like events, and megabytes of it, on what it takes for stdout."""

from __future__ import annotations

import os
import subprocess
import sys

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        line = '{"event": "finished", "scenario": "trouble", "status": "failed", "seconds": 0, "error": null}\n'
        print(line * 10_000)  # noqa: T201
        os.write(1, line.encode())
        for _ in range(20):
            os.write(1, line.encode() * 1000)
        subprocess.run([sys.executable, "-c", f"print({line!r})"], check=True)
        observe.trait("stdin", sys.stdin.read())
