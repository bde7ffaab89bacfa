"""How growth is measured: which exponent a curve has, where it ends, and that every curve can be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def growth() -> ModuleType:
    """The script, imported under a name that is nobody else's."""
    spec = spec_from_file_location("benchmark_of_growth", BENCHMARKS / "growth.py")
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("power", [0, 1, 1.5, 2])
def test_the_exponent_is_the_power_that_values_grow_with(growth: ModuleType, power: float) -> None:
    sizes = [10, 30, 100]
    assert growth.slope(sizes, [0.002 * size**power for size in sizes]) == pytest.approx(power)


def test_sizes_grow_by_about_three_to_the_last(growth: ModuleType) -> None:
    assert growth.sizes(10, 1000) == [10, 30, 100, 300, 1000]
    assert growth.sizes(1, 100) == [1, 3, 10, 30, 100]
    assert growth.doubling(8, 64) == [8, 16, 32, 64]


class Clock:
    """Time that passes only by work."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def square(self, size: int) -> None:
        """Takes time with the square of the size, and something in any case."""
        self.now += 0.01 + 1e-6 * size**2


def test_a_curve_ends_where_a_call_would_take_too_long_and_says_so(growth: ModuleType) -> None:
    clock = Clock()
    question = growth.Question(
        "squares", "size", growth.sizes(1, 10**6), int, clock.square, 2, clock, memory=False
    )
    curve = growth.trace(question, rounds=3, limit=50.0)
    assert sorted(curve.seconds) == [1, 3, 10, 30, 100, 300, 1000, 3000]
    assert curve.cut == "10,000 would take 100.1 s"
    assert curve.upper == [300, 1000, 3000]
    assert curve.exponents == pytest.approx([1.95] * 3, abs=0.01)


def test_what_grows_faster_than_promised_is_said(growth: ModuleType) -> None:
    clock = Clock()
    for most, held in ((1.15, "1.15: NO"), (2.15, "2.15: yes")):
        question = growth.Question(
            "squares", "size", [1000, 2000, 4000], int, clock.square, most, clock, memory=False
        )
        assert held in growth.shown(growth.trace(question, rounds=2, limit=1000.0))


def test_every_curve_can_be_measured(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    chosen = ("compared", "merged", "Markdown", "terminal", "read", "numpy: ")
    order = [sys.executable, str(BENCHMARKS / "growth.py"), "--quick", "--rounds", "1", "--json", str(file)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*order, "--only", *chosen], capture_output=True, text=True, env=environ)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text(encoding="utf-8"))["growth, numpy"]["rows"]
    assert {row["by"] for row in rows} == {"observations", "columns", "layers", "width", "steps"}
    assert all(row["exponents"] and row["seconds"] for row in rows)
    assert f"of {len(rows)} curves are within what is promised" in done.stdout
