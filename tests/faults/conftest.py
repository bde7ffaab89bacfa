"""Faults, each injected for real into the command as a process; what came of them, a table with a score.

A test injects one fault, named by its `fault` marker, and says with `saw` what was seen. Whatever the fault
was, `Place.check` holds afterwards: nothing runs any more, no file is half written, no traceback was shown. The
table is printed at the end, and written as Markdown into the file that `FAULTS_REPORT` names.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from d2lparams.columns import parse_column
from d2lparams.comparison import Comparison
from d2lparams.environments import ensure, location
from d2lparams.reports.document import from_json
from tests.conftest import SCREEN

ROOT = Path(__file__).parents[2]
HEALTHY = ROOT / "tests" / "fakes" / "healthy.py"
MARK = "D2LPARAMS_FAULT"
"""A variable that everything below the command has in its environment: by it is found what is left running."""

SCENARIOS = ("forward", "tied-afterwards", "adam-steps")
"""Before the trouble, where a model is tied, and after it."""

CHOSEN = [word for name in SCENARIOS for word in ("-s", name)]

FAKE = """\
# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "{name}"
# class = "Fake"
# modules = ["numpy"]
# ///
import os
import stat
import sys

from backends.numpy import NumpyBackend

{top}


def write(data):
    # Whatever pipe this process has beside its standard streams.
    for pipe in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                with open(pipe, "wb", closefd=False) as stream:
                    stream.write(data)
        except OSError:
            continue  # closed, or an end to read from


def observe(name, value):
    # The scenario that calls this has an observer; a backend is not given it.
    frame = sys._getframe()
    while "observe" not in frame.f_locals:
        frame = frame.f_back
    frame.f_locals["observe"].trait(name, value)


class Fake(NumpyBackend):
    def tie(self, model, layer, to, **how):
{trouble}
        return super().tie(model, layer, to, **how)
"""


@dataclass
class Place:
    """Where a fault is injected: a cache, a folder for temporary files and one for output, all of its own."""

    root: Path
    cache: Path
    environ: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.temporary, self.out = self.root / "tmp", self.root / "out"
        for folder in (self.temporary, self.out):
            folder.mkdir()
        self.mark = uuid.uuid4().hex
        inherited = {name: value for name, value in os.environ.items() if name not in SCREEN}
        own = {
            "COLUMNS": "80",
            "D2LPARAMS_CACHE": str(self.cache),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            MARK: self.mark,
        }
        self.environ = {**inherited, **own, **self.environ}

    def location(self, file: Path | str) -> Path:
        """Where the environment of a column is, or would be, for the commands that are started here."""
        with pytest.MonkeyPatch.context() as patch:
            for name in set(os.environ) - set(self.environ):
                patch.delenv(name)
            for name, value in self.environ.items():
                patch.setenv(name, value)
            return location(parse_column(str(file)))

    def lend(self, environment: Path, *files: Path | str) -> None:
        """Give columns an environment that is there already."""
        for file in files:
            place = self.location(file)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.is_symlink():
                place.symlink_to(environment)

    def fake(self, name: str, trouble: str = "pass", top: str = "") -> Path:
        """A backend that misbehaves where a model is tied, or at its import."""
        file = self.root / f"{name}.py"
        indented = "\n".join(f"        {line}" for line in trouble.splitlines())
        file.write_text(FAKE.format(name=name, top=top, trouble=indented), encoding="utf-8")
        return file

    def start(
        self,
        *arguments: Any,
        environ: Mapping[str, str] = {},
        wrapper: Sequence[str] = (),
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start the command, by way of another one perhaps; what it shows is kept."""
        kept = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [*wrapper, sys.executable, "-m", "d2lparams", *map(str, arguments)],
            env={**self.environ, **environ},
            text=True,
            errors="replace",
            **{"cwd": self.out, **kept, **options},
        )

    def command(self, *arguments: Any, seconds: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.start(*arguments, **options) as process:
            try:
                output, errors = process.communicate(timeout=seconds)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, output or "", errors or "")

    def result(self) -> Comparison:
        """What the command wrote."""
        return from_json((self.out / "x.json").read_bytes())

    def check(
        self, process: subprocess.CompletedProcess[str] | None = None, code: int | None = None, *left: str
    ) -> None:
        """What holds after every fault.

        Args:
            process: the command that met it; it has shown no traceback.
            code: its exit code.
            left: the names of the files in the folder for output; there are no others.
        """
        if process is not None:
            assert "Traceback" not in process.stdout + process.stderr, process.stderr
            assert process.returncode == code, (process.returncode, process.stdout, process.stderr)
        assert not running(self.mark), "something still runs"
        assert sorted(path.name for path in self.out.iterdir()) == sorted(left)
        assert [path.name for path in self.temporary.iterdir()] == [], "temporary files are left"

    def check_healthy(self, comparison: Comparison, name: str = "healthy") -> None:
        """The healthy column beside the trouble is whole: it saw what the reference saw, and all agrees."""
        (run,) = [one for one in comparison.columns if one.name == name]
        assert (run.status, run.error) == ("ok", None)
        assert {cell.status for cell in run.scenarios} == {"ok"}
        for row in comparison.rows:
            if "numpy" not in row.values:
                continue  # what only a fake has seen
            assert name in row.values, (row.scenario, row.observation)
            assert name not in row.problems

    def check_next(self) -> None:
        """The next run of a healthy column is fine."""
        process = self.command("compare", HEALTHY, "-s", "forward")
        assert process.returncode == 0, process.stderr
        assert "0 disagree" in process.stdout


def running(mark: str, seconds: float = 3.0) -> list[int]:
    """The processes that have the mark in their environment and do not end within a moment."""
    deadline = time.monotonic() + seconds
    while (found := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _marked(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended, or is not ours
    return found


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment of the reference, built once, which all fakes share."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("what is left running is found by /proc, which this system has not")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2LPARAMS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return ensure(parse_column("numpy")).path


@pytest.fixture
def place(tmp_path: Path, environment: Path) -> Iterator[Place]:
    """A place in which the reference and the healthy column have an environment; nothing stays behind in it."""
    # One cache for all: the healthy column beside a fault is also the next run after the one before.
    here = Place(tmp_path, environment.parents[2] / "lent")
    here.lend(environment, "numpy", HEALTHY)
    yield here
    clear(here)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Place]:
    """A place with an empty cache."""
    here = Place(tmp_path, tmp_path / "cache")
    yield here
    clear(here)


def clear(here: Place) -> None:
    """A test that failed must not leave its processes to the next one."""
    for pid in _marked(here.mark):
        os.kill(pid, signal.SIGKILL)


# -- the table -----------------------------------------------------------------------------------------------

_SEEN: pytest.StashKey[list[tuple[str, str, str]]] = pytest.StashKey()
_SAID: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(name): the fault that a test injects, in a few words")
    config.stash[_SEEN] = []


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was seen of the fault."""
    said = request.node.stash.setdefault(_SAID, [])
    return said.append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is not None and (report.when == "call" or (report.when == "setup" and not report.passed)):
        said = "; ".join(item.stash.get(_SAID, []))
        if report.skipped:
            said = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            said = said or report.longreprtext.strip().splitlines()[-1]
        item.config.stash[_SEEN].append((mark.args[0], said, report.outcome))
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    seen = config.stash[_SEEN]
    if not seen:
        return
    survived = [one for one in seen if one[2] == "passed"]
    skipped = [one for one in seen if one[2] == "skipped"]
    score = f"faults: {len(survived)} of {len(seen) - len(skipped)} survived"
    if skipped:
        score += f"; {len(skipped)} could not be injected here"
    words = {"passed": "yes", "failed": "NO", "skipped": "not injected"}
    terminalreporter.section("faults")
    for name, said, outcome in seen:
        terminalreporter.write_line(f"{words[outcome]:>12}  {name}: {said}")
    terminalreporter.write_line(score)
    if target := os.environ.get("FAULTS_REPORT"):
        rows = [f"| {_cell(name)} | {_cell(said)} | {words[outcome]} |" for name, said, outcome in seen]
        text = "\n".join(
            [f"**{score}**", "", "| fault | what was seen | survived |", "| --- | --- | --- |", *rows]
        )
        Path(target).write_text(text + "\n", encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
