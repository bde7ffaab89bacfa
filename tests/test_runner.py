"""Columns that misbehave: each costs its own cells, says why, leaves no process, and spares those beside it.

The fakes are backends in one file each, run for real by workers in an environment that uv built.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from backends.numpy import NumpyBackend
from d2lparams import child, environments, process
from d2lparams.columns import Column, parse_column
from d2lparams.environments import Environment
from d2lparams.results import Observation, Run, ScenarioResult, Status
from d2lparams.runner import KEPT_LOGS, Event, Interrupted, run
from d2lparams.scenarios import Observer, Scenario
from d2lparams.worker import execute

FAKES = Path(__file__).with_name("fakes")
SCENARIO_FILE = FAKES / "_scenarios.py"
TIMEOUT = 6.0  # for a scenario that takes milliseconds: a slow machine must not fail it

NAMES = ("before", "trouble", "after")


def not_here(backend: Any, observe: Observer) -> None:
    raise AssertionError("the parent executes no scenario")


SCENARIOS = [Scenario(name, "0", f"{name} the trouble", "?", not_here) for name in NAMES]


def fake(name: str) -> Column:
    return parse_column(str(FAKES / f"{name}.py"))


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """One environment that all fakes share, but for the one whose environment cannot be built."""
    build = environments.ensure

    def ensure(column: Column, **options: Any) -> Environment:
        return (
            build(column, **options) if column.name == "uninstallable" else replace(shared, column=column.name)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2LPARAMS_CACHE", str(tmp_path_factory.mktemp("cache")))
        shared = build(fake("healthy"))
        patch.setattr(environments, "ensure", ensure)
        patch.setenv("LOOKS_HOME", "the user's")
        yield shared


@pytest.fixture(scope="module")
def everything(environment: Environment) -> tuple[dict[str, Run], list[Event]]:
    """All fakes in one run, so that each is beside all the others."""
    events: list[Event] = []
    columns = [fake(path.stem) for path in sorted(FAKES.glob("[!_]*.py"))]
    runs = run(columns, SCENARIOS, timeout=TIMEOUT, jobs=4, on_event=events.append, scenario_file=SCENARIO_FILE)
    assert [one.name for one in runs] == [column.name for column in columns]
    return {one.name: one for one in runs}, events


@pytest.fixture(scope="module")
def runs(everything: tuple[dict[str, Run], list[Event]]) -> dict[str, Run]:
    return everything[0]


def statuses(run: Run) -> tuple[Status, ...]:
    assert [cell.name for cell in run.scenarios] == list(NAMES)
    return tuple(cell.status for cell in run.scenarios)


def seen(run: Run) -> dict[str, Any]:
    return {one.name: one.value for one in run.scenarios[1].observations}


# -- stages ---------------------------------------------------------------------------------------------------

STAGED = FAKES / "_stages.py"


def staged(*columns: str, **options: Any) -> dict[str, Run]:
    chosen = [
        Scenario("exchange", "0", "Exchange", "?", not_here, stages=3),
        Scenario("once", "0", "", "?", not_here),
    ]
    found = run([fake(name) for name in columns], chosen, scenario_file=STAGED, **options)
    return {one.name: one for one in found}


def left(run: Run) -> dict[str, Any]:
    """What a column found in each stage."""
    return {one.name: one.value for one in run.scenarios[0].observations if one.name.startswith("stage")}


def test_a_stage_finds_what_the_one_before_has_left_on_every_column() -> None:
    events: list[Event] = []
    runs = staged("healthy", "unsupported", on_event=events.append)
    first = ["0 of healthy", "0 of unsupported"]
    for name, run_ in runs.items():
        assert [cell.status for cell in run_.scenarios] == ["ok", "ok"]
        assert left(run_) == {
            "stage 0": [],
            "stage 1": first,
            "stage 2": [*first, "1 of healthy", "1 of unsupported"],
        }
        assert [one.value for one in run_.scenarios[1].observations] == [0]
        assert [event.status for event in events if event.column == name and event.status] == ["ok"]


def test_a_column_that_a_stage_has_cost_takes_no_further_part() -> None:
    runs = staged("healthy", "raises")
    assert runs["raises"].status == "failed"
    assert [cell.status for cell in runs["raises"].scenarios] == ["failed", "ok"]
    assert list(left(runs["raises"])) == ["stage 0", "stage 1"]
    assert left(runs["healthy"])["stage 2"] == ["0 of healthy", "0 of raises", "1 of healthy", "1 of raises"]


def test_columns_can_take_part_in_some_stages_only() -> None:
    parts = [{"healthy"}, {"unsupported"}, {"healthy"}]
    runs = staged("healthy", "unsupported", takes_part=parts, given={"word": "hello"})
    assert {name: list(left(run)) for name, run in runs.items()} == {
        "healthy": ["stage 0", "stage 2"],
        "unsupported": ["stage 1"],
    }
    assert runs["healthy"].scenarios[0].observations[1].value == {"word": "hello"}


def test_what_columns_exchange_is_removed_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    staged("healthy")
    assert list(tmp_path.iterdir()) == []


# -- what each fake costs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("segfault", "crashed", "was killed by SIGSEGV"),
        ("forks", "crashed", "was killed by SIGKILL, as the system does when memory runs out"),
        ("exits", "crashed", "left with exit code 0 before it had reported"),
        ("garbles", "crashed", "left with exit code 3 before it had reported"),
        ("babbles", "crashed", "wrote what is no event"),
        ("hangs", "timeout", f"killed after {TIMEOUT:g} s"),
        ("endless", "crashed", "the worker reported over 5,000 observations in one scenario"),
        ("raises", "failed", "ArithmeticError: two and two is five"),
        ("quits", "failed", "SystemExit: 0"),
        ("interrupts", "failed", "KeyboardInterrupt"),
        ("not_json", "failed", "TypeError: an observation cannot hold a object"),
        ("large", "failed", "ValueError: an observation of 65 MiB is more than 64 MiB"),
    ],
)
def test_trouble_costs_its_own_cell(runs: dict[str, Run], name: str, status: Status, message: str) -> None:
    result = runs[name]
    assert statuses(result) == ("ok", status, "ok")
    error = result.scenarios[1].error
    assert error is not None
    assert message in error.message
    assert seen(result)["seen before it"] == 1
    assert "seen after it" not in seen(result)
    assert result.status == status
    assert result.error is not None
    assert result.error.message == f"trouble: {error.message}"


@pytest.mark.parametrize("name", ["healthy", "chatty", "not_a_number", "looks"])
def test_no_trouble(runs: dict[str, Run], environment: Environment, name: str) -> None:
    result = runs[name]
    assert statuses(result) == ("ok", "ok", "ok")
    assert (result.status, result.error) == ("ok", None)
    assert seen(result)["seen after it"] == 2
    assert result.versions == environment.versions
    assert result.python == environment.python_version
    assert 0 < max(cell.seconds for cell in result.scenarios) <= result.seconds


def test_unsupported_is_no_trouble(runs: dict[str, Run]) -> None:
    result = runs["unsupported"]
    assert statuses(result) == ("ok", "unsupported", "ok")
    assert result.scenarios[1].error is not None
    assert result.scenarios[1].error.message == "layers here have no names"
    assert (result.status, result.error) == ("ok", None)


def test_outcomes_arrive_whole(runs: dict[str, Run]) -> None:
    """Script and all, line breaks included."""
    result = runs["unties"]
    assert (result.status, statuses(result)) == ("ok", ("ok", "ok", "ok"))
    kept, broken = (one for one in result.scenarios[1].observations if one.kind == "outcome")
    assert kept.value == {"outcome": "kept", "how": "copy.deepcopy(net)", "evidence": {}, "script": ""}
    assert broken.value["outcome"] == "broken"
    assert broken.value["evidence"] == {"uses": 2}
    assert broken.value["script"].count("\n") == 3


@pytest.mark.parametrize(
    ("name", "status", "message", "detail", "reason"),
    [
        (
            "broken",
            "failed",
            "RuntimeError: libmissing.so.1 is not there",
            "broken.py",
            "the backend could not be imported",
        ),
        (
            "stillborn",
            "crashed",
            "SIGABRT; it was still importing the backend",
            "stillborn.py",
            "the worker could not be started",
        ),
        (
            "uninstallable",
            "install-failed",
            "numpy==0.0.0.dev0 could not be installed",
            "numpy==0.0.0.dev0",
            "the environment could not be built",
        ),
    ],
)
def test_a_column_that_cannot_begin(
    runs: dict[str, Run], name: str, status: Status, message: str, detail: str, reason: str
) -> None:
    result = runs[name]
    assert result.status == status
    assert result.error is not None
    assert message in result.error.message
    assert detail in result.error.detail
    assert statuses(result) == ("not-run", "not-run", "not-run")
    assert [cell.error and cell.error.message for cell in result.scenarios] == [reason] * 3
    assert result.log is not None
    assert Path(result.log).is_file()


def test_what_ran_is_there_with_its_code_where_and_when(runs: dict[str, Run]) -> None:
    run = runs["segfault"]
    assert run.scenarios[0].called == {
        "mlp": "numpy.NumpyBackend._mlp",
        "parameters": "numpy.NumpyBackend._parameters",
    }
    assert set(run.scenarios[0].called.values()) <= set(run.code)
    assert run.code["numpy.NumpyBackend._mlp"].file == "backends/numpy.py"
    assert run.platform.startswith(platform.system())
    assert datetime.fromisoformat(run.date) <= datetime.now(UTC)


def test_a_crash_shows_where(runs: dict[str, Run]) -> None:
    error = runs["segfault"].scenarios[1].error
    assert error is not None
    assert error.detail.startswith("last words")
    assert "segfault.py" in error.detail


def test_a_timeout_shows_where(runs: dict[str, Run]) -> None:
    cell = runs["hangs"].scenarios[1]
    assert cell.error is not None
    assert "hangs.py" in cell.error.detail
    assert cell.seconds >= TIMEOUT


def test_a_failure_shows_where(runs: dict[str, Run]) -> None:
    error = runs["raises"].scenarios[1].error
    assert error is not None
    assert "raises.py" in error.detail
    assert "worker.py" not in error.detail


def test_what_is_printed_is_in_the_log(runs: dict[str, Run]) -> None:
    log = runs["chatty"].log
    assert log is not None
    assert Path(log).read_text().count('"event": "finished"') == 10_000 + 1 + 20_000 + 1
    assert seen(runs["chatty"])["stdin"] == ""


def test_numbers_without_a_json_form(runs: dict[str, Run]) -> None:
    assert seen(runs["not_a_number"])["numbers"] == ["NaN", "Infinity", "-Infinity"]


def test_a_worker_sees_its_environment_and_this_program_only(
    runs: dict[str, Run], environment: Environment
) -> None:
    inside = seen(runs["looks"])
    assert inside["found"] == []
    assert inside["prefix"] == str(environment.path)
    assert {"d2lparams", "backends", "numpy"} <= set(inside["imported"])
    checkout = str(FAKES.parents[1])
    ours = [path for path in sys.path if "site-packages" in path]
    assert not {checkout, *ours} & set(inside["path"])
    assert not any(path in ("", ".") for path in inside["path"])
    assert inside["leader"]


def test_a_worker_has_the_variables_that_its_adapter_declares_but_the_user_s_word_stands(
    runs: dict[str, Run], environment: Environment
) -> None:
    declared = seen(runs["looks"])["environ"]
    assert declared == {"LOOKS_FOLDER": f"{environment.path}/kept", "LOOKS_HOME": "the user's"}


def test_nothing_is_left_running(runs: dict[str, Run]) -> None:
    assert not alive(seen(runs["forks"])["child"])
    assert runs["hangs"].log is not None
    for pid in pids(Path(runs["hangs"].log)):
        assert not alive(pid)


def test_no_temporary_file_is_left(runs: dict[str, Run]) -> None:
    left = Path(seen(runs["looks"])["left behind"])
    assert left.parent.name.startswith("d2lparams-")
    assert not left.parent.exists()


# -- progress, order, places ---------------------------------------------------------------------------------


def test_progress(everything: tuple[dict[str, Run], list[Event]]) -> None:
    events = [event for event in everything[1] if event.column == "segfault"]
    told = [(event.activity, event.done, event.status) for event in events]
    assert told == [
        ("starting", 0, None),
        ("before", 0, None),
        ("trouble", 1, None),
        ("starting", 2, None),
        ("after", 2, None),
        ("crashed", 3, "crashed"),
    ]
    assert {event.total for event in events} == {3}
    built = [event.activity for event in everything[1] if event.column == "uninstallable"]
    assert any("installing" in activity for activity in built)


def test_one_job_is_one_column_at_a_time() -> None:
    events: list[Event] = []
    columns = [fake("healthy"), fake("raises"), fake("unsupported")]
    runs = run(columns, SCENARIOS[:1], jobs=1, on_event=events.append, scenario_file=SCENARIO_FILE)
    at_work = [event.column for event in events if event.status is None]
    # The longest may be first; nobody begins before another has ended, and results are in the order asked for.
    assert sorted(name for name, _ in groupby(at_work)) == ["healthy", "raises", "unsupported"]
    assert [one.name for one in runs] == ["healthy", "raises", "unsupported"]


def test_other_processes_can_run_columns(environment: Environment) -> None:
    """These have no patched `ensure`: they find the one environment that is there, and can build none."""
    events: list[Event] = []
    columns = [fake("uninstallable"), fake("healthy")]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        runs = run(
            columns,
            SCENARIOS,
            offline=True,
            executor=executor,
            on_event=events.append,
            scenario_file=SCENARIO_FILE,
        )
    assert [(one.name, one.status) for one in runs] == [("uninstallable", "install-failed"), ("healthy", "ok")]
    assert seen(runs[1])["an array"] == [0.1, 0.2]
    assert sorted((event.column, event.status) for event in events) == [
        ("healthy", "ok"),
        ("uninstallable", "install-failed"),
    ]


def test_an_unforeseen_mishap_stays_in_its_column(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure = environments.ensure

    def full(column: Column, **options: Any) -> Environment:
        if column.name == "raises":
            raise OSError(28, "No space left on device")
        return ensure(column, **options)

    monkeypatch.setattr(environments, "ensure", full)
    bad, good = run([fake("raises"), fake("healthy")], SCENARIOS, scenario_file=SCENARIO_FILE)
    assert bad.status == "failed"
    assert bad.error is not None
    assert "No space left" in bad.error.message
    assert statuses(bad) == ("not-run", "not-run", "not-run")
    assert good.status == "ok"


def test_a_worker_that_is_never_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2lparams.watcher.START_LIMIT", 0.0)
    (result,) = run([fake("healthy")], SCENARIOS, scenario_file=SCENARIO_FILE)
    assert result.status == "timeout"
    assert statuses(result) == ("not-run", "not-run", "not-run")


def test_old_logs_are_thrown_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("D2LPARAMS_CACHE", str(tmp_path))
    for number in range(KEPT_LOGS + 5):
        (tmp_path / "logs" / f"20200101-{number:06}-000000-1").mkdir(parents=True)
    run([], [])
    kept = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert len(kept) == KEPT_LOGS
    assert kept[0] == "20200101-000006-000000-1"
    assert kept[-1] > "2021"


# -- stopping ------------------------------------------------------------------------------------------------

SCRIPT = """\
import json, sys
from dataclasses import asdict
from pathlib import Path
from d2lparams import environments
from d2lparams.columns import parse_column
from d2lparams.environments import Environment
from d2lparams.runner import Interrupted, run
from d2lparams.scenarios import Scenario

python, logs, scenario_file, *files = sys.argv[1:]
environments.ensure = lambda column, **options: Environment(column.name, Path(), Path(python), {}, "")
columns = [parse_column(file) for file in files]
scenarios = [Scenario(name, "0", name, "?", print) for name in ("before", "trouble", "after")]
tell = lambda event: print(event.column, event.activity, flush=True)
options = {"timeout": 600, "jobs": 2, "on_event": tell, "logs": Path(logs)}
try:
    run(columns, scenarios, scenario_file=Path(scenario_file), **options)
except Interrupted as interrupted:
    print(json.dumps([asdict(one) for one in interrupted.runs]))
"""


@pytest.fixture
def script(environment: Environment, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in which a column hangs, while two others have run to their end."""
    files = [str(FAKES / f"{name}.py") for name in ("healthy", "hangs", "raises")]
    arguments = [sys.executable, "-c", SCRIPT, str(environment.python), str(tmp_path), str(SCENARIO_FILE)]
    started = subprocess.Popen([*arguments, *files], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert started.stdout is not None
    missing = {"healthy ok", "raises failed", "hangs trouble"}
    while missing:
        line = started.stdout.readline()
        assert line, "the script ended early"
        missing.discard(line.strip())
    deadline = time.monotonic() + 30
    while not pids(tmp_path / "hangs.log") and time.monotonic() < deadline:
        time.sleep(0.05)
    with started:
        yield started
        started.kill()


@pytest.mark.parametrize("times", [1, 3])
def test_interrupt(script: subprocess.Popen[str], tmp_path: Path, times: int) -> None:
    for _ in range(times):
        script.send_signal(signal.SIGINT)
        time.sleep(0.03)
    output, _ = script.communicate(timeout=30)
    assert script.returncode == 0
    assert not [pid for pid in pids(tmp_path / "hangs.log") if alive(pid)]
    healthy, hangs, raises = json.loads(output.splitlines()[-1])
    assert [healthy["status"], hangs["status"], raises["status"]] == ["ok", "not-run", "failed"]
    assert [cell["status"] for cell in hangs["scenarios"]] == ["ok", "not-run", "not-run"]
    assert [cell["error"] and cell["error"]["message"] for cell in hangs["scenarios"]] == [
        None,
        "interrupted",
        "interrupted",
    ]
    assert [one["name"] for one in hangs["scenarios"][1]["observations"]] == ["seen before it"]


def test_the_parent_is_killed(script: subprocess.Popen[str], tmp_path: Path) -> None:
    script.kill()
    script.wait()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids(tmp_path / "hangs.log") if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_interrupt_of_columns_that_wait() -> None:
    def interrupt(event: Event) -> None:
        if event.activity == "trouble":
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    columns = [fake("hangs"), fake("healthy"), fake("uninstallable")]
    with pytest.raises(Interrupted) as caught:
        run(columns, SCENARIOS, jobs=1, on_event=interrupt, scenario_file=SCENARIO_FILE)
    assert signal.getsignal(signal.SIGINT) is before
    assert [one.status for one in caught.value.runs] == ["not-run"] * 3
    assert [statuses(one)[0] for one in caught.value.runs] == ["ok", "not-run", "not-run"]
    assert all(one.error and one.error.message == "interrupted" for one in caught.value.runs)


def test_interrupt_of_somebody_elses_executor() -> None:
    class Stuck(Executor):
        """One column runs for ever, the others wait behind it."""

        def __init__(self) -> None:
            self.futures: list[Future[Any]] = []

        def submit(self, *arguments: Any, **options: Any) -> Future[Any]:
            self.futures.append(Future())
            if len(self.futures) == 1:
                self.futures[0].set_running_or_notify_cancel()
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            return self.futures[-1]

    stuck = Stuck()
    with pytest.raises(Interrupted) as caught:
        run([fake("hangs"), fake("healthy")], SCENARIOS, executor=stuck)
    assert [statuses(one) for one in caught.value.runs] == [("not-run", "not-run", "not-run")] * 2
    assert [future.cancelled() for future in stuck.futures] == [False, True]


def test_a_callback_that_raises_stops_everything(tmp_path: Path) -> None:
    def fail(event: Event) -> None:
        if event.status is not None:
            raise LookupError("no such widget")

    columns = [fake("healthy"), fake("hangs")]
    with pytest.raises(LookupError, match="no such widget"):
        run(columns, SCENARIOS, jobs=2, on_event=fail, logs=tmp_path, scenario_file=SCENARIO_FILE)
    assert not [pid for pid in pids(tmp_path / "hangs.log") if alive(pid)]


# -- the worker by itself ------------------------------------------------------------------------------------


def test_the_events_of_a_worker(environment: Environment) -> None:
    command = process.command(
        environment.python, parse_column("numpy"), ["before", "after"], process.Task(SCENARIO_FILE)
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        events = [json.loads(line) for line in worker.stdout]
        assert worker.wait() == 0
    told = [event for event in events if event["event"] != "called"]
    assert [event["event"] for event in told] == [
        "ready",
        *("started", "observed", "finished"),
        *("started", "observed", "finished"),
        "done",
    ]
    assert events[0]["versions"] == environment.versions
    assert {event["scenario"] for event in told[1:4]} == {"before"}
    # A call is told before it is made: what it sees comes after it.
    assert events[2]["event"] == "called"
    assert events[2]["name"] in events[2]["code"]


def speaker(log: Path, program: str) -> process.Worker:
    return process.Worker([sys.executable, "-c", program], log)


def test_an_event_without_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(child, "EVENT_LIMIT", 2**20)
    endless = "while True: print('x' * 1000, end='')"
    with speaker(tmp_path / "log", endless) as worker, pytest.raises(process.Crashed, match="more than 1 MiB"):
        worker.receive(time.monotonic() + 30, threading.Event())


def test_what_was_said_before_the_deadline_counts(tmp_path: Path) -> None:
    """As when the parent was suspended, by Ctrl-Z say, while its workers ran on."""
    program = """print('{"event": "done"}', flush=True); import time; time.sleep(60)"""
    with speaker(tmp_path / "log", program) as worker:
        time.sleep(2)
        deadline = time.monotonic() - 1
        assert worker.receive(deadline, threading.Event()) == process.Done()
        with pytest.raises(process.TimedOut):
            worker.receive(deadline, threading.Event())


def in_process(function: Any) -> Scenario:
    return Scenario("here", "0", "In this process", "?", function)


def test_execute_in_this_process() -> None:
    told: list[Observation] = []
    result = execute(in_process(lambda backend, observe: observe.trait("x", 1)), NumpyBackend(), told.append)
    assert told == [Observation("x", "trait", 1)]
    assert result == ScenarioResult("here", "0", "In this process", "ok", result.seconds, told)


def test_execute_leaves_an_interrupt_to_the_user() -> None:
    def interrupt(backend: Any, observe: Observer) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(in_process(interrupt), NumpyBackend())


# -- processes -----------------------------------------------------------------------------------------------


def pids(log: Path) -> list[int]:
    """Of the hanging worker and its child, as it printed them."""
    found = re.search(r"^pids: (\d+) (\d+)$", log.read_text() if log.exists() else "", re.MULTILINE)
    return [int(pid) for pid in found.groups()] if found else []


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet taken note of by its parent does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")
