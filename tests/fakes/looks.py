# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "looks"
# class = "Fake"
# modules = ["numpy"]
# [tool.d2lparams.environ]
# LOOKS_FOLDER = "{environment}/kept"
# LOOKS_HOME = "nowhere"
# ///
"""Tells what can be seen from inside a worker, and leaves a temporary file behind."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile

from backends.numpy import NumpyBackend
from d2lparams.scenarios import Observer


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        ours = ("msgspec", "platformdirs", "pytest", "rich", "typer", "uv")
        observe.trait("path", list(sys.path))
        observe.trait("found", [name for name in ours if importlib.util.find_spec(name)])
        observe.trait("imported", sorted({name.partition(".")[0] for name in sys.modules}))
        observe.trait("prefix", sys.prefix)
        observe.trait("left behind", tempfile.mkstemp()[1])
        observe.trait("environ", {name: os.environ[name] for name in ("LOOKS_FOLDER", "LOOKS_HOME")})
        observe.trait("leader", os.getsid(0) == os.getpid())
