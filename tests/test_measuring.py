"""What benchmarks tell: sides in turn, ratios round by round, and a file with every question's answer."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def measuring():
    """The module, which stands beside the scripts that use it and in no package."""
    path = Path(__file__).parent.parent / "benchmarks" / "measuring.py"
    spec = importlib.util.spec_from_file_location("measuring", path)
    module = sys.modules["measuring"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["measuring"]


def test_sides_take_turns_and_the_first_one_changes(measuring):
    order = []

    def side(name, *values):
        given = iter(values)

        def work():
            order.append(name)
            return next(given)

        return work

    found = measuring.measure({"ours": side("ours", 1, 2, 3), "theirs": side("theirs", 4, 5, 6)}, rounds=3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert found["theirs"].values == (4, 5, 6)
    assert (found["ours"].low, found["ours"].median, found["ours"].high) == (1, 2, 3)


def test_a_ratio_is_taken_round_by_round(measuring):
    # Of the medians alone it would be 1.
    found = measuring.ratio(measuring.Times((1, 10, 100)), measuring.Times((10, 5, 20)))
    assert (found.low, found.median, found.high) == pytest.approx((1.05, 2, 3.5))


def test_a_target_is_met_or_missed(measuring):
    one, two = measuring.Times((1.0,)), measuring.Times((2.0,))
    assert measuring.Row("", one, two, 0.5).met
    assert not measuring.Row("", two, one, 1.99).met
    assert measuring.Row("", two, one).met


def test_a_file_keeps_what_other_questions_found(measuring, tmp_path):
    path, times = tmp_path / "all.json", measuring.Times((1.0, 2.0))
    measuring.write(path, "first", [measuring.Row("a", times, times, 1.05, {"steps": 3})])
    measuring.write(path, "second", [measuring.Row("b", times, times)])
    found = json.loads(path.read_text("utf-8"))
    assert list(found) == ["first", "second"]
    (row,) = found["first"]["rows"]
    assert row == {
        "what": "a",
        "ours": [1, 2],
        "theirs": [1, 2],
        "ratio": {"median": 1, "quartiles": [1, 1]},
        "target": 1.05,
        "met": True,
        "steps": 3,
    }
    assert found["first"]["machine"]["cores"] >= 1
