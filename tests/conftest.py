"""The command as a process, for tests that use it as its users do.

Imports pytest and the standard library only: the contract's tests load this file inside every framework's
environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

# What speaks of screens in the caller's environment; a test says itself how wide and how colourful its own is.
SCREEN = {
    *("COLUMNS", "LINES", "TERMINAL_WIDTH", "TERM", "COLORTERM"),
    *("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS"),
}


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start the command `d2lparams`; by default its output is kept, and its screen is 80 characters wide."""

    def start(*arguments: Any, environ: Mapping[str, str] = {}, **options: Any) -> subprocess.Popen[str]:
        plain = {name: value for name, value in os.environ.items() if name not in SCREEN}
        kept = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [Path(sys.executable).with_name("d2lparams"), *map(str, arguments)],
            env={**plain, "COLUMNS": "80", **environ},
            text=True,
            **{**kept, **options},
        )

    return start


@pytest.fixture(scope="session")
def command(
    start: Callable[..., subprocess.Popen[str]],
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command `d2lparams` to its end."""

    def command(*arguments: Any, seconds: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
        with start(*arguments, **options) as process:
            try:
                output, errors = process.communicate(timeout=seconds)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    return command


@pytest.fixture(scope="session")
def canonical_values() -> Callable[..., dict[str, Any]]:
    """Canonical arrays of a kind of layer, no two numbers alike: 3 in, 5 out, 3 units, 6 features."""
    import numpy as np

    from d2lparams.conventions import CANONICAL, GATES

    sizes = {"out": 5, "in": 3, "width": 2, "height": 4, "features": 6, "vocabulary": 7, "units": 3, "past": 3}

    def values(kind: Any, dtype: str = "float32") -> dict[str, Any]:
        random = np.random.RandomState(0)
        known = {**sizes, "gate": len(GATES.get(kind, ""))}
        return {
            name: random.uniform(-1, 1, [known[axis] for axis in axes.split()]).astype(dtype)
            for name, axes in CANONICAL[kind].items()
        }

    return values


@pytest.fixture(scope="session")
def perform() -> Callable[..., str]:
    """Run a script of `benchmarks/`, which must succeed; gives what it printed."""

    def perform(name: str, *arguments: Any) -> str:
        order = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *map(str, arguments)]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        done = subprocess.run(order, capture_output=True, text=True, env=environ, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return perform
