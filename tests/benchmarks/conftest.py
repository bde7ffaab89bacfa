"""Scripts of `benchmarks/`, which stand in no package, as modules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Import one by its name; they find each other as they do when one is run."""
    sys.path.append(str(BENCHMARKS))
    return import_module
