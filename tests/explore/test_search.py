"""The search on backends with a fault that was planted: it finds it, makes it small, and survives it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from d2lparams.columns import parse_column
from d2lparams.exploring import known
from d2lparams.exploring.column import ExploredColumn
from d2lparams.exploring.program import Operation
from d2lparams.exploring.scripting import write_script
from d2lparams.exploring.searching import Search, search
from d2lparams.subjects import Known

FAKES = Path(__file__).with_name("fakes")
Opened = Callable[..., AbstractContextManager[ExploredColumn]]


@pytest.fixture
def explored(tmp_path: Path) -> Opened:
    """A column by the name of a fake; all have the reference's environment."""

    @contextmanager
    def explored(name: str, timeout: float = 30.0):
        path = FAKES / f"{name}.py"
        column = parse_column(str(path)) if path.exists() else parse_column(name)
        column = replace(column, name="numpy") if path.exists() else column
        with ExploredColumn(column, timeout=timeout, stop=threading.Event(), log=tmp_path / "log") as one:
            yield one

    return explored


def searched(column: ExploredColumn, programs: int, seed: int = 0) -> Search:
    return search(column, column.column.adapter.name, column.offer, seed=seed, most=programs)


def test_the_reference_does_what_the_formulas_say(explored):
    with explored("numpy") as column:
        assert not searched(column, 150).found


def test_a_tie_that_comes_apart_is_found_and_made_as_small_as_it_gets(explored):
    with explored("parts") as column:
        (finding,) = searched(column, 300).found
    assert finding.shrunk
    assert finding.alone
    spec = finding.program.spec
    # Two layers of width 1, tied, and one step: there is no smaller program that has a tie.
    assert (spec.sizes, spec.tied) == ((1, 1, 1), ((0, 1),))
    assert finding.program.operations == (Operation("train", "Adam"),)
    assert (finding.deviation.violated, finding.deviation.operation) == ("ties", "train, Adam")


def test_a_crash_at_a_depth_is_survived_and_its_depth_found(explored):
    with explored("deep") as column:
        (finding,) = searched(column, 250).found
        assert column.restarts > 1
    assert finding.program.spec.sizes == (1,) * 6
    assert finding.program.operations == (Operation("gradients"),)
    assert finding.deviation.violated == "crash"
    assert "SIGSEGV" in finding.deviation.seen


def test_a_hang_is_ended_and_told(explored):
    with explored("idle", timeout=4.0) as column:
        found = searched(column, 30)
    (finding,) = found.found
    assert finding.deviation.violated == "hang"
    assert [one.do for one in finding.program.operations] == ["write"]
    assert finding.program.operations[0].role == "bias"


def test_each_way_and_each_violation_is_one_finding(explored):
    with explored("copies") as column:
        found = searched(column, 500).found
    assert sorted((one.deviation.way, one.deviation.violated) for one in found) == [
        ("all but the bias", "sharing"),
        ("layer by layer", "ties"),
    ]
    assert all(len(one.program.operations) == 1 for one in found)


def test_what_is_known_is_counted_and_what_is_not_is_told(explored, monkeypatch):
    untying = Known("layer by layer", ("ties",), "it copies each layer by itself", traits=frozenset({"tied"}))
    monkeypatch.setattr(known, "known_of", lambda backend: (untying,))
    with explored("copies") as column:
        found = searched(column, 400)
    assert [one.deviation.way for one in found.found] == ["all but the bias"]
    assert found.known[untying] > 1


def test_the_same_seed_gives_the_same_search(explored):
    def told(seed: int) -> list[str]:
        with explored("copies") as column:
            return [str(one.program) for one in searched(column, 150, seed).found]

    assert told(3) == told(3)


@pytest.mark.parametrize("name", ["parts", "deep"])
def test_a_script_is_run_and_shows_what_was_found(explored, name, tmp_path):
    with explored(name) as column:
        finding = searched(column, 200).found[0]
        script = write_script(finding, column, tmp_path, 1)
    assert script.shows, script
    assert not script.own
    assert "must hold:" in script.path.read_text(encoding="utf-8")


def test_a_script_that_shows_nothing_says_so(explored, tmp_path):
    with explored("parts") as column:
        finding = searched(column, 200).found[0]
        wrong = replace(finding, deviation=replace(finding.deviation, violated="output"))
        script = write_script(wrong, column, tmp_path, 1)
    assert not script.shows
    assert "exit code 1" in script.ended
