"""The record of how long columns took: a hint that may be missing or wrong, and is never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2lparams.columns import parse_column
from d2lparams.history import longest_first, remember
from d2lparams.results import Run, ScenarioResult, Status

COLUMNS = [parse_column(name) for name in ("numpy", "torch", "jax")]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("D2LPARAMS_CACHE", str(tmp_path))
    return tmp_path


def ended(name: str, seconds: float, status: Status = "ok", scenarios: int = 1) -> Run:
    result = ScenarioResult("forward", "6.2", "Forward", status)
    return Run(name, name, name, status=status, seconds=seconds, scenarios=[result] * scenarios)


def took(*seconds: float, status: Status = "ok") -> None:
    remember(COLUMNS, [ended(one.name, spent, status) for one, spent in zip(COLUMNS, seconds, strict=True)])


def order() -> list[str]:
    return [column.name for column in longest_first(COLUMNS)]


def test_without_a_record_the_order_is_as_asked_for() -> None:
    assert order() == ["numpy", "torch", "jax"]


def test_the_longest_comes_first() -> None:
    took(0.2, 3.0, 8.0)
    assert order() == ["jax", "torch", "numpy"]


def test_a_column_without_a_record_comes_before_all_others() -> None:
    remember(COLUMNS[1:], [ended("torch", 3.0)] * 2)
    assert order()[0] == "numpy"


def test_a_short_run_does_not_make_a_long_one_forgotten() -> None:
    took(0.2, 3.0, 8.0)
    took(0.1, 2.0, 1.0)
    assert order() == ["jax", "torch", "numpy"]


def test_what_did_not_end_well_tells_nothing() -> None:
    took(0.2, 3.0, 8.0)
    took(99.0, 99.0, 0.0, status="timeout")
    assert order() == ["jax", "torch", "numpy"]


def test_to_build_an_environment_tells_nothing_of_a_run() -> None:
    took(0.2, 3.0, 8.0)
    remember(COLUMNS[:1], [ended("numpy", 99.0, scenarios=0)])
    assert order() == ["jax", "torch", "numpy"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": []}', "\x00"])
def test_a_record_that_cannot_be_read_is_no_record(cache: Path, text: str) -> None:
    (cache / "seconds.json").write_text(text, encoding="utf-8")
    assert order() == ["numpy", "torch", "jax"]
    took(0.2, 3.0, 8.0)
    assert order() == ["jax", "torch", "numpy"]


def test_a_folder_that_cannot_be_written_to_does_no_harm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("D2LPARAMS_CACHE", str(cache / "gone"))
    took(0.2, 3.0, 8.0)
    assert order() == ["numpy", "torch", "jax"]
