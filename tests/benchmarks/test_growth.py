"""How growth is measured: which exponent a curve has, where it ends, and that every curve can be measured."""

from __future__ import annotations

import gc
import json
from types import ModuleType

import pytest


@pytest.fixture
def curves(script) -> ModuleType:
    return script("curves")


@pytest.mark.parametrize("power", [0, 1, 1.5, 2])
def test_the_exponent_is_the_power_that_values_grow_with(curves: ModuleType, power: float) -> None:
    sizes = [10, 30, 100]
    assert curves.slope(sizes, [0.002 * size**power for size in sizes]) == pytest.approx(power)


def test_sizes_grow_by_about_three_to_the_last(curves: ModuleType) -> None:
    assert curves.sizes(10, 1000) == [10, 30, 100, 300, 1000]
    assert curves.sizes(1, 100) == [1, 3, 10, 30, 100]
    assert curves.doubling(8, 64) == [8, 16, 32, 64]


class Clock:
    """Time that passes only by work."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def square(self, size: int) -> None:
        """Takes time with the square of the size, and something in any case."""
        self.now += 0.01 + 1e-6 * size**2


def test_a_curve_ends_where_a_call_would_take_too_long_and_says_so(curves: ModuleType) -> None:
    clock = Clock()
    question = curves.Question(
        "squares", "size", curves.sizes(1, 10**6), int, clock.square, 2, clock, memory=False
    )
    curve = curves.trace(question, rounds=3, limit=50.0)
    assert sorted(curve.seconds) == [1, 3, 10, 30, 100, 300, 1000, 3000]
    assert curve.cut == "10,000 would take 100.1 s"
    assert curve.upper == [300, 1000, 3000]
    assert curve.exponents == pytest.approx([1.95] * 3, abs=0.01)


def test_what_grows_faster_than_promised_is_said(curves: ModuleType) -> None:
    clock = Clock()
    for most, said in ((1.15, "at most 1.15: missed"), (2.15, "at most 2.15: met")):
        question = curves.Question(
            "squares", "size", [1000, 2000, 4000], int, clock.square, most, clock, memory=False
        )
        found = curves.figure(curves.trace(question, rounds=2, limit=1000.0))
        assert found.what == "squares, by size from 1,000 to 4,000"
        assert found.promised == said


def test_against_another_work_the_exponent_is_that_of_the_ratio(curves: ModuleType) -> None:
    clock = Clock()

    def linear(size: int) -> None:
        clock.now += 1e-3 * size

    question = curves.Question(
        "x", "size", [1000, 2000, 4000], int, clock.square, 1.15, clock, memory=False, against=linear
    )
    curve = curves.trace(question, rounds=2, limit=1000.0)
    assert curve.exponents == pytest.approx([1.0] * 2, abs=0.01)
    assert curves.figure(curve).details["seconds of the other side"][4000] == pytest.approx([4.0] * 2)


@pytest.mark.parametrize("collector", [True, False])
def test_the_collector_rests_where_it_is_told_to_and_only_then(curves: ModuleType, collector: bool) -> None:
    seen = []
    question = curves.Question(
        "x", "size", [1, 2, 4], int, lambda size: seen.append(gc.isenabled()), collector=collector, memory=False
    )
    curves.trace(question, rounds=1, limit=1.0)
    assert set(seen) == {collector}
    assert gc.isenabled()


def test_every_curve_can_be_measured(perform, tmp_path):
    file = tmp_path / "found.json"
    chosen = ("compared", "merged", "Markdown", "terminal", "read", "run:", "numpy: ")
    options = ("--quick", "--rounds", 1, "--json", file, "--backends", "numpy")
    printed = perform("growth", *options, "--only", *chosen)
    figures = json.loads(file.read_text(encoding="utf-8"))["growth"]["figures"]
    assert {one["details"]["by"] for one in figures} == {"observations", "columns", "layers", "width", "steps"}
    assert all(one["details"]["exponents"] and one["details"]["seconds"] for one in figures)
    for one in figures:
        assert f"{one['what']}: exponent" in printed
