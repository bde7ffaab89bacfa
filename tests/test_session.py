"""A session's comparisons say what single ones say, in processes that are kept as long as they are good for it.

The columns are files of the test's own, run for real by workers in an environment that uv built.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import d2lparams
from d2lparams import environments
from d2lparams.columns import Column, UsageError, parse_column
from d2lparams.environments import Environment
from d2lparams.results import Observation, Run
from d2lparams.runner import Interrupted
from d2lparams.session import Session
from d2lparams.workers import KeptWorkers

ADAPTER = """
# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "moody"
# class = "Moody"
# modules = ["numpy"]
# ///
import os, signal, sys, time
from pathlib import Path

from backends.numpy import NumpyBackend

MOOD = Path(__file__).with_suffix(".mood")
switch = False


class Moody(NumpyBackend):
    title = "first"

    def _mlp(self, spec):
        global switch
        mood = MOOD.read_text() if MOOD.exists() else ""
        if mood == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if mood == "raise":
            raise ArithmeticError(f"of the {self.title} edition, switch {switch}")
        if mood == "hang":
            MOOD.with_suffix(".hangs").touch()
            time.sleep(3600)
        switch = True
        return super()._mlp(spec)

    def renew(self):
        global switch
        switch = False
"""
SCENARIO = "layer-access"


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """One environment that all columns share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2LPARAMS_CACHE", str(tmp_path_factory.mktemp("cache")))
        shared = environments.ensure(parse_column("numpy"))

        def ensure(column: Column, **options: Any) -> Environment:
            return replace(shared, column=column.name)

        patch.setattr(environments, "ensure", ensure)
        yield shared


@pytest.fixture
def moody(tmp_path: Path) -> Path:
    path = tmp_path / "moody.py"
    path.write_text(ADAPTER.lstrip())
    return path


@pytest.fixture
def mood(moody: Path) -> Callable[[str], None]:
    return lambda text: moody.with_suffix(".mood").write_text(text) and None


@pytest.fixture
def session(moody: Path) -> Iterator[Session]:
    with Session([str(moody)], timeout=30) as made:
        yield made


def cell(comparison: Any) -> Any:
    (run,) = (run for run in comparison.columns if run.name == "moody")
    return run.scenarios[0]


def seen(run: Run) -> list[list[Observation]]:
    return [one.observations for one in run.scenarios]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def gone(pids: dict[str, int]) -> bool:
    limit = time.monotonic() + 15
    while any(map(alive, pids.values())) and time.monotonic() < limit:
        time.sleep(0.05)
    return bool(pids) and not any(map(alive, pids.values()))


# -- what is kept --------------------------------------------------------------------------------------------


def test_a_second_comparison_starts_no_process_and_says_the_same(session: Session, moody: Path) -> None:
    first = session.compare(scenarios=["access"])
    pids = session.pids
    assert set(pids) == {"numpy", "moody"}
    second = session.compare(scenarios=["access"])
    assert session.pids == pids
    alone = d2lparams.compare([str(moody)], ["access"])
    for one in (second, alone):
        assert [seen(run) for run in one.columns] == [seen(run) for run in first.columns]
        assert [run.scenarios[0].called for run in one.columns] == [
            run.scenarios[0].called for run in first.columns
        ]
        assert [row.verdict for row in one.rows] == [row.verdict for row in first.rows]
        assert [run.versions for run in one.columns] == [run.versions for run in first.columns]


def test_each_comparison_takes_its_own_scenarios_seed_and_columns(session: Session) -> None:
    session.compare(scenarios=["forward"])
    pids = session.pids
    other = session.compare(scenarios=["forward", SCENARIO], seed=7, form="wide")
    assert [one.name for one in other.columns[1].scenarios] == ["forward", SCENARIO]
    assert {str(run.variation) for run in other.columns} == {"seed 7, form wide"}
    assert [run.name for run in session.compare(["numpy"], [SCENARIO]).columns] == ["numpy"]
    assert session.pids == pids


def test_stages_of_a_scenario_run_in_one_process(session: Session) -> None:
    comparison = session.compare(scenarios=["transfer-mlp"])
    assert {run.status for run in comparison.columns} <= {"ok"}
    assert set(session.pids) == {"numpy", "moody"}


def test_a_log_is_of_its_own_comparison(session: Session) -> None:
    logs = [session.compare(scenarios=[name]).columns[1].log for name in ("forward", SCENARIO)]
    assert logs[0] != logs[1]
    assert Path(str(logs[1])).read_text() == f"--- {SCENARIO}\n"


def test_what_a_process_switched_is_set_back(session: Session, mood: Callable[[str], None]) -> None:
    session.compare(scenarios=[SCENARIO])
    pid = session.pids["moody"]
    mood("raise")
    assert "switch False" in cell(session.compare(scenarios=[SCENARIO])).error.message
    assert session.pids["moody"] == pid


# -- what is not kept ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("what", "status"), [("crash", "crashed"), ("hang", "timeout")])
def test_a_worker_that_is_lost_is_replaced(
    session: Session, mood: Callable[[str], None], what: str, status: str
) -> None:
    session.compare(scenarios=[SCENARIO])
    pids = session.pids
    mood(what)
    assert cell(session.compare(scenarios=[SCENARIO], timeout=2)).status == status
    assert gone({"moody": pids["moody"]})
    mood("")
    assert cell(session.compare(scenarios=[SCENARIO])).status == "ok"
    assert session.pids["moody"] != pids["moody"]
    assert session.pids["numpy"] == pids["numpy"]


def test_a_worker_that_was_killed_meanwhile_costs_nothing(session: Session) -> None:
    session.compare(scenarios=[SCENARIO])
    pids = session.pids
    os.killpg(pids["moody"], signal.SIGKILL)
    comparison = session.compare(scenarios=[SCENARIO])
    assert {run.status for run in comparison.columns} == {"ok"}
    assert session.pids["moody"] != pids["moody"]


def test_a_worker_that_dies_of_its_order_costs_nothing(session: Session) -> None:
    """It was stopped when it was asked, and is killed before it can answer."""
    session.compare(scenarios=[SCENARIO])
    pid = session.pids["moody"]
    os.kill(pid, signal.SIGSTOP)
    killer = threading.Timer(1.0, os.killpg, (pid, signal.SIGKILL))
    killer.start()
    comparison = session.compare(scenarios=[SCENARIO])
    killer.join()
    assert {run.status for run in comparison.columns} == {"ok"}
    assert session.pids["moody"] != pid


def test_a_changed_adapter_is_run_as_it_is_now(
    session: Session, moody: Path, mood: Callable[[str], None]
) -> None:
    mood("raise")
    assert "of the first edition" in cell(session.compare(scenarios=[SCENARIO])).error.message
    moody.write_text(moody.read_text().replace('"first"', '"second"'))
    assert "of the second edition" in cell(session.compare(scenarios=[SCENARIO])).error.message


def test_a_changed_variable_is_seen(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.compare(scenarios=[SCENARIO])
    pids = session.pids
    monkeypatch.setenv("XLA_FLAGS", "--other")
    session.compare(scenarios=[SCENARIO])
    assert not set(session.pids.values()) & set(pids.values())


def test_an_interrupt_leaves_a_session_that_can_be_used(
    session: Session, moody: Path, mood: Callable[[str], None]
) -> None:
    session.compare(scenarios=[SCENARIO])
    pids = session.pids
    mood("hang")

    def interrupt() -> None:
        while not moody.with_suffix(".hangs").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(Interrupted) as interrupted:
        session.compare(scenarios=[SCENARIO])
    waiting.join()
    assert interrupted.value.runs[1].scenarios[0].status == "not-run"
    assert gone({"moody": pids["moody"]})
    mood("")
    assert cell(session.compare(scenarios=[SCENARIO])).status == "ok"


# -- its end -------------------------------------------------------------------------------------------------


def test_closing_ends_every_process(moody: Path) -> None:
    with Session([str(moody)]) as session:
        session.compare(scenarios=[SCENARIO])
        pids = session.pids
        assert all(map(alive, pids.values()))
    assert gone(pids)
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        session.compare(scenarios=[SCENARIO])


def test_a_session_that_is_forgotten_ends_its_processes(moody: Path) -> None:
    session = Session([str(moody)])
    session.compare(scenarios=[SCENARIO])
    pids = session.pids
    del session
    gc.collect()
    assert gone(pids)


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(3)"])
def test_however_python_ends_no_process_stays(end: str) -> None:
    program = textwrap.dedent(f"""
        import os, signal
        import d2lparams
        session = d2lparams.Session(["numpy"])
        session.compare(scenarios=["{SCENARIO}"])
        print(*session.pids.values(), flush=True)
        {end}
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    pids = dict(enumerate(map(int, done.stdout.split())))
    assert len(pids) == 1, done.stderr
    assert gone(pids)


def test_closing_it_in_another_thread_ends_what_runs(moody: Path, mood: Callable[[str], None]) -> None:
    session = Session([str(moody)], timeout=60)
    mood("hang")

    def close() -> None:
        while not moody.with_suffix(".hangs").exists():
            time.sleep(0.02)
        session.close()

    waiting = threading.Thread(target=close)
    waiting.start()
    comparison = session.compare(scenarios=[SCENARIO])
    waiting.join()
    assert cell(comparison).status == "crashed"
    assert session.pids == {}


def test_threads_compare_one_after_the_other(session: Session) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(session.compare(scenarios=[SCENARIO]))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cell(one).status for one in found] == ["ok"] * 3


def test_a_column_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(UsageError, match="no backend 'torhc'"):
        Session(["torhc"])


# -- workers for one use -------------------------------------------------------------------------------------


def test_a_worker_for_one_use_is_followed_by_a_new_one_that_was_started_ahead(
    moody: Path, mood: Callable[[str], None]
) -> None:
    workers = KeptWorkers(once=True)
    used: list[set[int]] = []
    try:
        for _ in range(3):
            comparison = d2lparams.session.compare(
                [str(moody)],
                [SCENARIO],
                full=False,
                timeout=30.0,
                jobs=None,
                offline=False,
                on_event=None,
                seed=0,
                form="",
                workers=workers,
            )
            assert {run.status for run in comparison.columns} == {"ok"}
            assert workers.pids == {}
            workers.restock()
            used.append(set(workers.pids.values()))
            assert len(used[-1]) == 2
        assert len(set.union(*used)) == 6
        waiting = workers.pids
        workers.end()
        assert gone(waiting)
    finally:
        workers.close()
