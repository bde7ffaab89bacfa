"""What benchmarks tell: sides in turn, ratios round by round, what is met, and a file with every answer."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def measuring(script):
    return script("measuring")


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
    assert measuring.Row("", one, two, 0.5).figure.promised == "at most 0.50: met"
    assert measuring.Row("", two, one, 1.99).figure.promised == "at most 1.99: missed"
    assert measuring.Row("", two, one).figure.promised == "nothing"
    assert measuring.Figure("", 0.012, 0.012, 0.012, 0.01, ".1%").promised == "at most 1.0%: missed"


def test_a_figure_shows_its_spread_where_it_has_one(measuring):
    assert str(measuring.Figure("", 0.00521, 0.00521, 0.00521, written=".2%")) == "0.52%"
    assert str(measuring.Figure("", 1.5, 1.25, 2)) == "1.50 (1.25 to 2.00)"


def test_a_file_keeps_what_other_questions_found(measuring, tmp_path):
    path, times = tmp_path / "all.json", measuring.Times((1.0, 2.0))
    share = measuring.Figure("b", 0.5, 0.5, 0.5, 0.25, ".0%", {"of": "a model"})
    measuring.write(path, "first", [measuring.Row("a", times, times, 1.05, {"steps": 3})])
    measuring.write(path, "second", [share])
    measuring.write(None, "third", [share])
    kept = json.loads(path.read_text("utf-8"))
    assert list(kept) == ["first", "second"]
    assert [one["met"] for answer in kept.values() for one in answer["figures"]] == [True, False]
    found = measuring.read(path)
    machine, figures = found["first"]
    assert machine["cores"] >= 1
    details = {"ours": [1, 2], "theirs": [1, 2], "steps": 3}
    assert figures == [measuring.Figure("a", 1, 1, 1, 1.05, details=details)]
    assert found["second"][1] == [share]


def test_the_summary_has_what_is_promised_and_says_what_is_missed(measuring, perform, tmp_path):
    file, page = tmp_path / "all.json", tmp_path / "all.md"
    figures = [
        measuring.Figure("a step", 1.5, 1.25, 2, 1.05),
        measuring.Figure("another step", 1.0, 1.0, 1.0, 1.05),
        measuring.Figure("what nobody promised", 7, 7, 7),
    ]
    measuring.write(file, "training", figures)
    measuring.write(file, "looking", [measuring.Figure("memory", 0.002, 0.002, 0.002, 0.01, ".2%")])
    printed = perform("summary", file, "--markdown", page)
    assert "2 of 3 figures are within what is promised" in printed
    assert "what nobody promised" not in printed
    for text in (printed, page.read_text("utf-8")):
        assert "at most 1.05: missed" in text
        assert "at most 1.00%: met" in text
    assert "| training | a step | 1.50 (1.25 to 2.00) | at most 1.05: missed |" in page.read_text("utf-8")
