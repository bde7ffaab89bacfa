"""What a framework does to the process that it runs in costs one cell, says why, and leaves nothing behind.

Each fake is run by the command beside a healthy column. It misbehaves where a model is tied, so that there is a
scenario before the trouble and one after it, or while it is imported.
"""

from __future__ import annotations

import contextlib
import os
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from d2lparams.comparison import Comparison
from d2lparams.results import Run
from tests.faults.conftest import CHOSEN, HEALTHY, Place

TIMEOUT = 5
Saw = Callable[[str], None]

GIB = 2**30


TROUBLES = tomllib.loads((Path(__file__).parents[1] / "fakes" / "troubles.toml").read_text(encoding="utf-8"))


def troubles(kind: str, before: str = "") -> pytest.MarkDecorator:
    """A test for each trouble of a kind; `before` is what its fault is said to be of."""
    return pytest.mark.parametrize(
        "trouble",
        [
            pytest.param(one, id=one["name"], marks=pytest.mark.fault(before + one["fault"]))
            for one in TROUBLES[kind]
        ],
    )


def injected(place: Place, file: Path, environment: Path, *options: Any, code: int) -> tuple[Comparison, Run]:
    """What came of a run of a fake and of a healthy column, after all checks."""
    place.lend(environment, file)
    arguments = ("compare", file, HEALTHY, *CHOSEN, "--timeout", TIMEOUT, "-j", 2, "-o", "x.json")
    process = place.command(*arguments, *options)
    place.check(process, code, "x.json")
    comparison = place.result()
    place.check_healthy(comparison)
    (run,) = [one for one in comparison.columns if one.name == file.stem]
    return comparison, run


@pytest.fixture(scope="module", autouse=True)
def last(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A run after all of them; those between are each the next one of the one before, in the same cache."""
    yield
    Place(tmp_path_factory.mktemp("last"), environment.parents[2] / "lent").check_next()


# -- at its import -------------------------------------------------------------------------------------------


@troubles("import", "at its import: ")
def test_at_its_import(trouble: dict[str, Any], place: Place, environment: Path, saw: Saw) -> None:
    file = place.fake(trouble["name"], top=trouble["source"])
    _, run = injected(place, file, environment, code=1)
    assert run.status == trouble["status"]
    assert run.error is not None
    assert trouble["message"] in run.error.message
    assert {cell.status for cell in run.scenarios} == {"not-run"}
    assert all(cell.error and cell.error.message for cell in run.scenarios)
    saw(f"{run.status}: {run.error.message}")


# -- in a scenario -------------------------------------------------------------------------------------------


@troubles("scenario")
def test_in_a_scenario(trouble: dict[str, Any], place: Place, environment: Path, saw: Saw) -> None:
    file = place.fake(trouble["name"], trouble["source"])
    limit = trouble.get("timeout", TIMEOUT)  # the last one counts
    _, run = injected(place, file, environment, "--timeout", limit, code=1)
    cell = run.scenarios[1]
    assert cell.error is not None
    saw(f"{cell.status}: {cell.error.message:.80}")
    assert [one.status for one in run.scenarios] == ["ok", trouble["status"], "ok"], cell.error
    assert trouble["message"] in cell.error.message
    assert run.status == trouble["status"]


# -- what is no trouble --------------------------------------------------------------------------------------

ODD = {
    "not_a_number": ("NaN and infinity", "[float('nan'), -float('inf')]", ["NaN", "-Infinity"]),
    "large_integer": ("an integer of 400 digits", "10**400", 10**400),
    "surrogate": ("a lone surrogate", "'\\ud800'", "?"),
    "zero": ("NUL and other control characters", "'\\0\\x1b[31m\\x07'", "\0\x1b[31m\x07"),
    "not_utf8": ("a file name that is not UTF-8", "os.fsdecode(b'\\xff\\xfe')", "??"),
    "markup": ("markup", "'[bold red]<script>|x|'", "[bold red]<script>|x|"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.fault(f"observes {one[0]}")) for name, one in ODD.items()]
)
def test_odd_values_are_seen_and_shown(name: str, place: Place, environment: Path, saw: Saw) -> None:
    _, value, expected = ODD[name]
    source = f"observe('odd', {value})\nobserve({value} if isinstance({value}, str) else 'even', 1)"
    targets = ("-o", "x.html", "-o", "x.md", "-o", "x.svg")
    file = place.fake(name, source)
    place.lend(environment, file)
    process = place.command("compare", file, HEALTHY, *CHOSEN, "-o", "x.json", *targets)
    place.check(
        process, 0, "x.html", "x.json", "x.md", "x.svg"
    )  # the reference has not seen it: a row of its own
    assert "\x1b" not in process.stdout
    assert "\0" not in process.stdout
    (run,) = [one for one in place.result().columns if one.name == name]
    assert [cell.status for cell in run.scenarios] == ["ok"] * 3
    (seen,) = [one.value for one in run.scenarios[1].observations if one.name == "odd"]
    assert seen == expected
    saw(f"ok, kept as {seen!r:.40}")


@troubles("leaves", "leaves ")
def test_what_a_scenario_leaves_behind_ends_with_it(
    trouble: dict[str, Any], place: Place, environment: Path, saw: Saw
) -> None:
    file = place.fake(trouble["name"], trouble["source"])
    comparison, run = injected(place, file, environment, code=0)
    assert [cell.status for cell in run.scenarios] == ["ok"] * 3
    place.check_healthy(comparison, trouble["name"])
    saw("ok; nothing is left")


# -- floods --------------------------------------------------------------------------------------------------


@pytest.mark.fault("1 GB on standard output and as much on standard error")
def test_a_flood_fills_neither_the_disk_nor_the_memory(place: Place, environment: Path, saw: Saw) -> None:
    flood = "line = b'x' * (2**20 - 1) + b'\\n'\nfor number in range(2000):\n    os.write(1 + number % 2, line)"
    largest, memory, run = _watched(place, place.fake("floods", flood), environment, code=0)
    assert [cell.status for cell in run.scenarios] == ["ok"] * 3
    assert run.log is not None
    kept = Path(run.log).stat().st_size
    assert kept < 17 * 2**20
    assert memory < GIB / 4
    text = Path(run.log).read_text(encoding="utf-8", errors="replace")
    assert "bytes are left out here" in text
    assert "--- adam-steps" in text
    saw(f"a log of {kept / 2**20:.1f} MiB, at most {largest / 2**20:.0f}; {memory / 2**20:.0f} MiB of memory")


@pytest.mark.fault("observations without an end, large ones")
def test_a_flood_of_events_does_not_fill_the_memory(place: Place, environment: Path, saw: Saw) -> None:
    flood = "import itertools\nfor n in itertools.count():\n    observe(f'{n}', 'x' * 10**6)"
    _, memory, run = _watched(place, place.fake("floods", flood), environment, "--timeout", 60, code=1)
    cell = run.scenarios[1]
    assert [one.status for one in run.scenarios] == ["ok", "crashed", "ok"]
    assert cell.error is not None
    assert "more than" in cell.error.message
    assert memory < 2 * GIB
    saw(f"{cell.status}: {cell.error.message}; {memory / 2**20:.0f} MiB of memory")


def _watched(place: Place, file: Path, environment: Path, *options: Any, code: int) -> tuple[int, int, Run]:
    """Run a fake; the largest size that its log had, the most memory that the command had, and the run."""
    place.lend(environment, file)
    arguments = ("compare", file, HEALTHY, *CHOSEN, "--timeout", 30, *options, "-j", 2, "-o", "x.json")
    log, largest, peak = place.root / "screen", 0, 0
    with log.open("w") as screen, place.start(*arguments, stdout=screen, stderr=screen) as process:
        while process.poll() is None:
            peak = max(peak, _peak(process.pid))
            largest = max(largest, _largest_file(place.cache / "logs"))
            time.sleep(0.02)
    assert process.returncode == code, log.read_text()
    assert "Traceback" not in log.read_text()
    place.check(None, None, "x.json")
    comparison = place.result()
    place.check_healthy(comparison)
    (run,) = [one for one in comparison.columns if one.name == file.stem]
    return largest, peak, run


def _largest_file(folder: Path) -> int:
    """The size of the largest file in a folder, in bytes; old logs are deleted meanwhile, which is no fault."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                largest = max(largest, Path(parent, name).stat().st_size)
    return largest


def _peak(pid: int) -> int:
    """The most memory that a process has had, in bytes."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


# -- memory, for real ----------------------------------------------------------------------------------------


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group with 512 MiB for all that is put into it."""
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root, f"d2lparams-{os.getpid()}")
        try:
            group.mkdir()
            (group / limit).write_text(str(2**29))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("control groups cannot be made here: that needs root, outside of most containers")


@pytest.mark.fault("the system's killer takes it when memory runs out (a control group of 512 MiB)")
def test_the_system_s_killer(place: Place, environment: Path, control_group: Path, saw: Saw) -> None:
    group = str(control_group / "cgroup.procs")
    source = f"open({group!r}, 'w').write(str(os.getpid()))\nkept = [bytearray(2**24) for _ in range(200)]"
    _, run = injected(place, place.fake("eats", source), environment, code=1)
    assert [one.status for one in run.scenarios] == ["ok", "crashed", "ok"]
    cell = run.scenarios[1]
    assert cell.error is not None
    assert "SIGKILL, as the system does when memory runs out" in cell.error.message
    saw(cell.error.message)


# -- clocks --------------------------------------------------------------------------------------------------

JUMPS = """\
import itertools, time
_count, _real = itertools.count(), time.time
def _jumping():
    return _real() + (-1) ** next(_count) * 10**8
"""


@pytest.mark.fault("its clocks jump to and fro, and it hangs")
def test_a_worker_s_clocks_jump(place: Place, environment: Path, saw: Saw) -> None:
    source = "time.time = time.monotonic = time.perf_counter = _jumping\n_real_sleep(3600)"
    file = place.fake("jumps", source, JUMPS + "_real_sleep = time.sleep")
    _, run = injected(place, file, environment, code=1)
    cell = run.scenarios[1]
    assert [one.status for one in run.scenarios] == ["ok", "timeout", "ok"]
    assert TIMEOUT <= cell.seconds < TIMEOUT + 5
    saw(f"killed after {cell.seconds:.1f} s")


@pytest.mark.fault("its clocks say nan")
def test_a_worker_s_clocks_say_nonsense(place: Place, environment: Path, saw: Saw) -> None:
    file = place.fake("nonsense", "import time\ntime.perf_counter = time.time = lambda: float('nan')")
    _, run = injected(place, file, environment, code=0)
    assert [one.status for one in run.scenarios] == ["ok"] * 3
    saw("ok; the seconds are the parent's")


@pytest.mark.fault("the machine's clock jumps by years under the command")
def test_the_command_s_clock_jumps(place: Place, environment: Path, saw: Saw) -> None:
    """Only `time.time` is the machine's clock; a monotonic one cannot be set."""
    (place.root / "sitecustomize.py").write_text(JUMPS + "time.time = _jumping\n")
    file = place.fake("hangs", "import time\ntime.sleep(3600)")
    place.environ["PYTHONPATH"] = os.pathsep.join([str(place.root), place.environ["PYTHONPATH"]])
    began = time.monotonic()
    _, run = injected(place, file, environment, code=1)
    assert [one.status for one in run.scenarios] == ["ok", "timeout", "ok"]
    assert TIMEOUT <= run.scenarios[1].seconds < TIMEOUT + 5
    saw(f"killed after {run.scenarios[1].seconds:.1f} s; all was done in {time.monotonic() - began:.0f} s")
