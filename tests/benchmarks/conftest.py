"""Scripts of `benchmarks/`, which stand in no package, as modules and as processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Import one by its name; they find each other as they do when one is run."""
    sys.path.append(str(BENCHMARKS))
    return import_module


@pytest.fixture(scope="session")
def perform() -> Callable[..., str]:
    """Run one, which must succeed; gives what it printed."""

    def perform(name: str, *arguments: Any) -> str:
        order = [sys.executable, str(BENCHMARKS / f"{name}.py"), *map(str, arguments)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        done = subprocess.run(order, capture_output=True, text=True, env=environ, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return perform
