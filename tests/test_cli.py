"""The command as a process: what is shown, what is written, how it ends, and what it leaves behind.

No framework is needed. The columns are the reference and fakes: some of those in `fakes`, and some written here
that misbehave where a model is tied, so that they have scenarios before and after the trouble.
"""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

import jsonschema
import pytest
from rich.cells import cell_len

import d2lparams
from d2lparams import session
from d2lparams.columns import parse_column
from d2lparams.comparison import Comparison
from d2lparams.environments import ensure, location
from d2lparams.reports.document import from_json, schema
from d2lparams.results import Run, Status
from d2lparams.scenarios import Scenario, scenarios

FAKES = Path(__file__).with_name("fakes")
FRAMEWORKS = ("torch", "mxnet", "jax", "tensorflow")
# Before the trouble, where a model is tied, and after it.
SCENARIOS = ("forward", "tied-afterwards", "adam-steps")
CHOSEN = [word for name in SCENARIOS for word in ("-s", name)]
TIMEOUT = 6  # for a scenario that takes milliseconds: a slow machine must not fail it
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[34][0-8]|9[0-7]|10[0-7])[;m]")

TROUBLES = {
    "segfaults": "import ctypes; ctypes.string_at(0)",
    "exits": "import os; os._exit(0)",
    "hangs": """\
import os, subprocess, time
print(f"pids: {os.getpid()} {subprocess.Popen(['sleep', '3600']).pid}")
time.sleep(3600)""",
    "raises": "raise ArithmeticError('two and two is [bold]five')",
    "cannot": "raise Unsupported('layers here have no names')",
    "prints": """\
line = '{"event": "finished", "scenario": "adam-steps", "status": "failed", "seconds": 0, "error": null}'
print(line, flush=True)
os.write(1, line.encode() + b'\\n')""",
    "errs": "model.layers[0].bias += 1.0",
}
FAKE = """\
# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "The {name} one"
# class = "Fake"
# modules = ["numpy"]
# ///
import os
from backends.numpy import NumpyBackend
from d2lparams.interface import Unsupported

class Fake(NumpyBackend):
    def tie(self, model, layer, to, **how):
{trouble}
        return super().tie(model, layer, to, **how)
"""

Start = Callable[..., subprocess.Popen[str]]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of our own, with the reference's environment in it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2LPARAMS_CACHE", str(folder))
        ensure(parse_column("numpy"))
        yield folder


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of all fakes that can be installed, by name. They share the reference's environment."""
    folder = tmp_path_factory.mktemp("fakes")
    files = {name: FAKES / f"{name}.py" for name in ("healthy", "broken", "stillborn", "unties")}
    for name, trouble in TROUBLES.items():
        files[name] = folder / f"{name}.py"
        files[name].write_text(FAKE.format(name=name, trouble=indent(trouble, " " * 8)))
    for file in files.values():
        location(parse_column(str(file))).symlink_to(location(parse_column("numpy")))
    return files


def unwrapped(text: str) -> str:
    """The text without any white space, for what a narrow screen has broken into lines."""
    return "".join(text.split())


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet taken note of by its parent does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(state.stdout.strip()) and not state.stdout.strip().startswith("Z")


def pids(log: Path) -> list[int]:
    """Of the hanging worker and its child, as it printed them."""
    found = re.search(r"^pids: (\d+) (\d+)$", log.read_text() if log.exists() else "", re.MULTILINE)
    return [int(pid) for pid in found.groups()] if found else []


# -- columns that misbehave ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faults(
    command: Command, fakes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Comparison]:
    """All fakes in one run, beside the reference: what the command showed, and what it wrote."""
    target = tmp_path_factory.mktemp("faults") / "x.json"
    columns = [*fakes.values(), FAKES / "uninstallable.py"]
    process = command("compare", *columns, *CHOSEN, "--timeout", TIMEOUT, "-j", 4, "--output", target)
    written = target.read_bytes()
    jsonschema.Draft202012Validator(schema()).validate(json.loads(written))
    return process, from_json(written)


@pytest.fixture(scope="module")
def shown(faults: tuple[subprocess.CompletedProcess[str], Comparison]) -> str:
    return faults[0].stdout


@pytest.fixture(scope="module")
def comparison(faults: tuple[subprocess.CompletedProcess[str], Comparison]) -> Comparison:
    return faults[1]


def run_of(comparison: Comparison, name: str) -> Run:
    (run,) = [one for one in comparison.columns if one.name == name]
    assert [cell.name for cell in run.scenarios] == list(SCENARIOS)
    return run


def test_a_fault_anywhere_is_exit_code_1(faults: tuple[subprocess.CompletedProcess[str], Comparison]) -> None:
    assert faults[0].returncode == 1
    assert "Traceback" not in faults[0].stderr


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("segfaults", "crashed", "the worker was killed by SIGSEGV"),
        ("exits", "crashed", "the worker left with exit code 0 before it had reported"),
        ("hangs", "timeout", f"killed after {TIMEOUT} s"),
        ("raises", "failed", "ArithmeticError: two and two is [bold]five"),
    ],
)
def test_a_fault_costs_its_own_cell(
    comparison: Comparison, shown: str, name: str, status: Status, message: str
) -> None:
    run = run_of(comparison, name)
    assert run.status == status
    assert [cell.status for cell in run.scenarios] == ["ok", status, "ok"]
    assert run.scenarios[1].error is not None
    assert run.scenarios[1].error.message == message
    assert run.log is not None
    assert Path(run.log).is_file()
    assert unwrapped(f"{name}: tied-afterwards {status}: {message}") in unwrapped(shown)
    assert unwrapped(f"log: {run.log}") in unwrapped(shown)


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("broken", "failed", "RuntimeError: libmissing.so.1 is not there"),
        ("stillborn", "crashed", "SIGABRT; it was still importing the backend"),
        ("uninstallable", "install-failed", "numpy==0.0.0.dev0 could not be installed"),
    ],
)
def test_a_column_that_cannot_begin_costs_its_own_cells(
    comparison: Comparison, shown: str, name: str, status: Status, message: str
) -> None:
    run = run_of(comparison, name)
    assert run.status == status
    assert [cell.status for cell in run.scenarios] == ["not-run"] * 3
    assert all(cell.error and cell.error.message for cell in run.scenarios)
    assert run.error is not None
    assert message in run.error.message
    assert run.log is not None
    assert Path(run.log).is_file()
    assert unwrapped(message) in unwrapped(shown)
    assert unwrapped(f"log: {run.log}") in unwrapped(shown)


@pytest.mark.parametrize("name", ["numpy", "healthy", "prints"])
def test_the_rest_of_the_table_is_whole(comparison: Comparison, name: str) -> None:
    """JSON that is printed on what a worker takes for its standard output is no trouble at all."""
    run = run_of(comparison, name)
    assert (run.status, run.error) == ("ok", None)
    assert [cell.status for cell in run.scenarios] == ["ok"] * 3
    for row in comparison.rows:
        assert name in row.values
        assert name not in row.problems


def test_what_is_unsupported_is_said_and_is_no_failure(comparison: Comparison, shown: str) -> None:
    run = run_of(comparison, "cannot")
    assert (run.status, run.error) == ("ok", None)
    assert [cell.status for cell in run.scenarios] == ["ok", "unsupported", "ok"]
    assert unwrapped("The cannot one unsupported: layers here have no names") in unwrapped(shown)


def test_an_invariant_that_disagrees_is_judged_and_said(comparison: Comparison, shown: str) -> None:
    assert run_of(comparison, "errs").status == "ok"
    rows = comparison.disagreements
    assert {row.scenario for row in rows} == {"tied-afterwards"}
    assert {column for row in rows for column in row.problems} == {"errs"}
    for row in rows:
        assert unwrapped(f"✗ tied-afterwards: {row.observation}: errs {row.problems['errs']}") in unwrapped(
            shown
        )


def test_no_cell_is_blank(comparison: Comparison) -> None:
    names = {run.name for run in comparison.columns}
    assert len(names) == 1 + 4 + len(TROUBLES) + 1
    for row in comparison.rows:
        assert {*row.values, *row.absent} == names


def test_no_line_is_too_wide(shown: str) -> None:
    assert max(map(cell_len, shown.splitlines())) <= 80


def test_progress_is_plain_lines_on_standard_error(
    faults: tuple[subprocess.CompletedProcess[str], Comparison],
) -> None:
    lines = faults[0].stderr.splitlines()
    assert "healthy: starting" in lines
    assert "uninstallable: installing numpy==0.0.0.dev0" in lines
    for run in faults[1].columns:
        assert any(line.startswith(f"{run.name}: {run.status} after ") for line in lines)


def test_a_column_that_hung_has_left_no_process(comparison: Comparison) -> None:
    left = pids(Path(run_of(comparison, "hangs").log or ""))
    assert len(left) == 2
    assert not any(map(alive, left))


# -- exit codes and usage ------------------------------------------------------------------------------------


def test_all_is_well(command: Command, fakes: dict[str, Path]) -> None:
    process = command("compare", "healthy.py", "-s", "forward", "--offline", cwd=fakes["healthy"].parent)
    assert process.returncode == 0
    assert "4 agree, 0 disagree" in process.stdout


def test_a_disagreement_alone_is_exit_code_1(command: Command, fakes: dict[str, Path]) -> None:
    process = command("compare", fakes["errs"], "-s", "tied-afterwards")
    assert process.returncode == 1
    assert re.search(r"errs .* ok *$", process.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pytorhc"], "no backend 'pytorhc'; did you mean 'pytorch'?"),
        (["torch", "caffe2000"], "no backend 'caffe2000'; there are "),
        (["-s", "tied-afterward"], "no scenario or group 'tied-afterward'; did you mean 'tied-afterwards'?"),
        (["-s", "forward", "-s", "lifecycle"], "no scenario or group 'lifecycle'; did you mean 'lifecycles'?"),
        (["-s", "teid-after*"], "no scenario matches 'teid-after*'; did you mean 'tied-afterwards'?"),
        (["torch@2.4.1"], "cannot build torch@2.4.1: so far only torch@"),
        (["nowhere.py"], "cannot read the backend file nowhere.py"),
        (["-o", "nowhere/x.json"], "cannot write nowhere/x.json: there is no folder nowhere"),
        (
            ["-o", "x.json", "-o", "x.txt"],
            "cannot write x.txt: name a file that ends in .json for everything, ",
        ),
        (["-o", "folder.json"], "cannot write folder.json: it is a folder"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    command: Command, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    process = command("compare", *arguments, cwd=tmp_path)
    assert process.returncode == 2
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"Error: {sentence}")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["compare", "--timeout", "0"], "'--timeout'"),
        (["compare", "--jobs", "0"], "'--jobs'"),
        (["compair"], "compair"),
    ],
)
def test_an_option_that_is_none(command: Command, arguments: list[str], words: str) -> None:
    process = command(*arguments)
    assert process.returncode == 2
    assert process.stdout == ""
    assert words in process.stderr
    assert "Traceback" not in process.stderr


# -- where it is written -------------------------------------------------------------------------------------


def test_standard_output_is_json_and_nothing_else(command: Command) -> None:
    process = command("compare", "numpy", "-s", "forward", "-o", "-")
    assert process.returncode == 0
    document = json.loads(process.stdout)
    jsonschema.Draft202012Validator(schema()).validate(document)
    assert [column["name"] for column in document["columns"]] == ["numpy"]
    assert "numpy: ok after" in process.stderr


def test_a_file_takes_the_place_of_the_old_one(command: Command, tmp_path: Path) -> None:
    names = ["x.json", "x.md", "x.svg"]
    for name in names:
        (tmp_path / name).write_text("old")
    process = command(
        "compare", "numpy", "-s", "forward", *(f"--output={name}" for name in names), cwd=tmp_path
    )
    assert process.returncode == 0
    assert "Summary" in process.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / "x.md").read_text().startswith("## ✓ NumPy")
    assert from_json((tmp_path / "x.json").read_bytes()).ok
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


def test_a_file_that_cannot_be_written_is_left_as_it_was(command: Command, tmp_path: Path) -> None:
    """The disk takes 8 KiB and then no more; the table, which took the work, is shown all the same."""

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, 2**13))

    target = tmp_path / "x.json"
    target.write_text("old")
    process = command("compare", "numpy", "-o", target, preexec_fn=no_large_files)
    assert process.returncode == 1
    assert unwrapped(f"could not write {target}") in unwrapped(process.stderr)
    assert "Traceback" not in process.stderr
    assert "Summary" in process.stdout
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("arguments", [["-o", "-"], []])
def test_standard_output_that_is_full(command: Command, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123  (a device, opened as a shell does)
        process = command("compare", "numpy", "-s", "forward", *arguments, stdout=full)
    assert process.returncode == 1
    assert "No space left" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    "arguments",
    [["compare", "numpy", *CHOSEN], ["compare", "numpy", *CHOSEN, "-o", "-"], ["schema"]],
    ids=" ".join,
)
def test_a_reader_that_has_seen_enough(start: Start, arguments: list[str]) -> None:
    """As `| head -1`, which may be gone before there is a word to read."""
    with start(*arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode != 0
    assert "Traceback" not in errors
    assert "BrokenPipe" not in errors


# -- which scenarios -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["-s", "access"], lambda one: one.group == "access"),
        (["-s", "tied-b*", "-s", "lazy"], lambda one: one.name.startswith("tied-b") or one.group == "lazy"),
        (["-s", "lifecycles"], lambda one: one.group == "lifecycles"),
    ],
    ids=["a group", "a pattern and a group", "some take long"],
)
def test_scenarios_are_chosen_by_group_and_pattern(
    command: Command, arguments: list[str], wanted: Callable[[Scenario], bool]
) -> None:
    process = command("compare", "numpy", *arguments, "-o", "-")
    chosen = [one for one in scenarios().values() if wanted(one)]
    document = json.loads(process.stdout)
    assert [one["name"] for one in document["columns"][0]["scenarios"]] == [one.name for one in chosen]
    assert document["groups"] == {one.name: one.group for one in chosen}
    assert document["left_out"] == []


@pytest.mark.parametrize("full", [False, True])
def test_a_run_of_everything_says_what_it_left_out(command: Command, tmp_path: Path, full: bool) -> None:
    process = command("compare", "numpy", "-o", tmp_path / "x.json", *["--full"] * full)
    comparison = from_json((tmp_path / "x.json").read_bytes())
    long = [one.name for one in scenarios().values() if one.full]
    assert comparison.left_out == ([] if full else long)
    assert [one.name for one in comparison.scenarios] == [
        one.name for one in scenarios().values() if full or not one.full
    ]
    assert ("`d2lparams compare --full` runs all" in process.stdout) == (bool(long) and not full)


@pytest.mark.parametrize("full", [False, True])
def test_a_notebook_chooses_as_the_command_does(monkeypatch: pytest.MonkeyPatch, full: bool) -> None:
    asked: list[Scenario] = []
    monkeypatch.setattr(session, "run", lambda columns, chosen, **options: asked.extend(chosen) or [])
    comparison = d2lparams.compare(["numpy"], full=full)
    assert asked == [one for one in scenarios().values() if full or not one.full]
    assert comparison.groups == {one.name: one.group for one in asked}
    assert comparison.left_out == [one.name for one in scenarios().values() if one not in asked]
    asked.clear()
    assert d2lparams.compare(["numpy"], ["lifecycles", "lazy-*"]).left_out == []
    assert {one.group for one in asked} == {"lifecycles", "lazy"}


# -- scripts -------------------------------------------------------------------------------------------------

CYCLES = "life-cycles-by-module"


def test_repro_prints_a_script_that_runs(command: Command, fakes: dict[str, Path], tmp_path: Path) -> None:
    """As it is, whatever the width; what is said beside it goes to standard error."""
    process = command("repro", fakes["unties"], CYCLES, "with zeros", environ={"COLUMNS": "40"})
    assert process.returncode == 0
    assert process.stdout.startswith('"""What with_zeros(net) does')
    assert "  # [bold]no markup[/bold], in a line of more than eighty characters\n" in process.stdout
    ran = subprocess.run([sys.executable, "-c", process.stdout], capture_output=True, text=True, check=True)
    assert ran.stdout == "changed: with_zeros(net)\n"
    assert "unties: ok after" in process.stderr
    path = re.search(r"^what runs this: \$\((.*)\)/bin/python$", process.stderr, re.MULTILINE)
    assert path is not None
    _, *words = shlex.split(path[1])
    assert Path(command(*words).stdout.strip(), "bin", "python").exists()


def test_the_command_that_the_table_shows_is_the_one_to_give(command: Command, fakes: dict[str, Path]) -> None:
    shown = command("compare", fakes["unties"], "-s", CYCLES).stdout
    lines = re.findall(r"^ +d2lparams (repro .*(?:\\\n.*)?)$", shown, re.MULTILINE)
    assert len(lines) == 4
    process = command(*shlex.split(lines[-1].replace("\\\n", "")))
    assert (process.returncode, "in_place(net)" in process.stdout) == (0, True)


def test_several_scripts_have_headings(command: Command, fakes: dict[str, Path]) -> None:
    process = command("repro", fakes["unties"], CYCLES)
    assert process.returncode == 0
    assert [line for line in process.stdout.splitlines() if line.startswith("#")] == [
        f"# unties, {CYCLES}, {way}"
        for way in (
            "layer by layer: broken",
            "layer/by layer: broken",
            "with zeros: changed",
            "in place: corrupted",
        )
    ]
    several = command("repro", fakes["unties"], "life-cycles-by-*", "in place")
    assert re.findall(r"^# unties, (\S+), in place", several.stdout, re.MULTILINE) == [
        one for one in scenarios() if one.startswith("life-cycles-by-")
    ]


def test_scripts_are_written_into_a_folder(command: Command, fakes: dict[str, Path], tmp_path: Path) -> None:
    process = command("repro", fakes["unties"], CYCLES, "-o", tmp_path)
    assert process.returncode == 0
    names = [
        f"unties-{CYCLES}-{way}.py" for way in ("layer-by-layer", "layer-by-layer-2", "with-zeros", "in-place")
    ]
    assert process.stdout.splitlines() == [f"wrote {tmp_path / name}" for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert (tmp_path / names[2]).read_text() == command("repro", fakes["unties"], CYCLES, "with zeros").stdout


@pytest.mark.parametrize(
    ("column", "arguments", "sentence"),
    [
        ("unties", [CYCLES, "deep copy"], f"unties: {CYCLES}: deep copy: kept; there is no script for that"),
        ("unties", [CYCLES, "pickle"], f"unties: {CYCLES}: pickle: refused (error: TypeError: cannot pickle"),
        ("unties", ["forward"], "unties: forward: no way is tried there, so there is nothing to reproduce"),
        ("unties", ["book-claims"], "unties: book-claims unsupported: the book has no tab for it"),
        (
            "raises",
            ["tied-afterwards"],
            "raises: tied-afterwards failed: ArithmeticError: two and two is [bold]five",
        ),
        ("broken", [CYCLES], "broken: failed: RuntimeError: libmissing.so.1 is not there"),
    ],
)
def test_where_there_is_no_script_it_says_why(
    command: Command, fakes: dict[str, Path], column: str, arguments: list[str], sentence: str
) -> None:
    process = command("repro", fakes[column], *arguments)
    assert (process.returncode, process.stdout) == (1, "")
    assert any(line.startswith(sentence) for line in process.stderr.splitlines())
    assert "Traceback" not in process.stderr.partition(column)[0]


def test_what_was_found_before_a_crash_is_printed_and_the_crash_is_said(
    command: Command, fakes: dict[str, Path], tmp_path: Path
) -> None:
    own = tmp_path / "crashes.py"
    trouble = "raise TypeError(\"cannot pickle 'Network' object\")"
    source = fakes["unties"].read_text()
    assert trouble in source
    own.write_text(source.replace(trouble, "__import__('os')._exit(0)"))
    location(parse_column(str(own))).symlink_to(location(parse_column("numpy")))
    process = command("repro", own, CYCLES, "in place")
    assert process.returncode == 1
    assert "in_place(net)" in process.stdout
    assert f"crashes: {CYCLES} crashed: the worker left with exit code 0" in process.stderr
    never = command("repro", own, CYCLES, "pickle")
    assert (never.returncode, never.stdout) == (1, "")
    assert f"crashes: {CYCLES} crashed" in never.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["touch", CYCLES], "no backend 'touch'; did you mean 'torch'?"),
        (["numpy", "forwrd"], "no scenario or group 'forwrd'; did you mean 'forward'?"),
        (["FAKE", CYCLES, "dep copy"], "no way 'dep copy'; did you mean 'deep copy'?"),
        (["numpy", CYCLES, "-o", "nowhere"], "cannot write to nowhere: there is no such folder"),
    ],
)
def test_what_repro_cannot_do_is_one_sentence(
    command: Command, fakes: dict[str, Path], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    given = [fakes["unties"] if one == "FAKE" else one for one in arguments]
    process = command("repro", *given, cwd=tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.splitlines()[-1] == f"Error: {sentence}"


# -- colour --------------------------------------------------------------------------------------------------


def on_a_terminal(start: Start, *arguments: Any, **environ: str) -> str:
    """What a command writes on a terminal, on standard output and standard error together."""
    leader, follower = pty.openpty()
    process = start(*arguments, environ={"TERM": "xterm-256color", **environ}, stdout=follower, stderr=follower)
    os.close(follower)
    output = b""
    with process:
        while chunk := _read(leader):
            output += chunk
    os.close(leader)
    return output.decode()


def _read(descriptor: int) -> bytes:
    """What is there; nothing once the other side is closed, which Linux calls an error."""
    try:
        return os.read(descriptor, 2**16)
    except OSError:
        return b""


def test_colour_is_for_terminals(start: Start, command: Command) -> None:
    arguments = ("compare", "numpy", "-s", "forward")
    assert COLOUR.search(on_a_terminal(start, *arguments))
    without = on_a_terminal(start, *arguments, NO_COLOR="1")
    assert "invariants: 4 agree" in without
    assert not COLOUR.search(without)
    piped = command(*arguments)
    assert "\x1b" not in piped.stdout + piped.stderr


# -- interrupts ----------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(
    start: Start, cache: Path, fakes: dict[str, Path], tmp_path: Path
) -> Iterator[Callable[..., tuple[subprocess.Popen[str], list[int]]]]:
    """Starts a run, and waits until one column hangs and all others are done; gives it, and what runs below."""
    started: list[subprocess.Popen[str]] = []

    def hanging(**options: Any) -> tuple[subprocess.Popen[str], list[int]]:
        columns = (fakes["healthy"], fakes["hangs"])
        process = start(
            "compare", *columns, *CHOSEN[:4], "-j", 3, "--timeout", 600, "-o", tmp_path / "x.json", **options
        )
        started.append(process)
        assert process.stderr is not None
        done = {"numpy: ok", "healthy: ok"}
        while done and (line := process.stderr.readline()):
            done -= {one for one in done if line.startswith(one)}
        assert not done
        deadline = time.monotonic() + 30
        found: list[int] = []
        while not found and time.monotonic() < deadline:
            found = [pid for log in cache.glob(f"logs/*-{process.pid}/hangs.log") for pid in pids(log)]
            time.sleep(0.05)
        assert len(found) == 2
        assert all(map(alive, found))
        return process, found

    yield hanging
    for process in started:
        with process:
            process.kill()


def end(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal and wait for the end; what it has shown."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    return output


def test_a_run_in_the_background_of_a_script_can_be_ended(
    hanging: Callable[..., tuple[subprocess.Popen[str], list[int]]],
) -> None:
    """A shell without a keyboard starts what it puts into the background with Ctrl-C ignored."""
    process, below = hanging(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    end(process, signal.SIGTERM)
    assert process.returncode == 143
    assert not any(map(alive, below))


# -- the other commands --------------------------------------------------------------------------------------


def test_version(command: Command) -> None:
    process = command("--version")
    assert (process.returncode, process.stdout) == (0, f"d2lparams {d2lparams.__version__}\n")


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["list"], 0), (["compare", "tensorflw"], 2)])
def test_no_framework_is_imported(command: Command, tmp_path: Path, arguments: list[str], code: int) -> None:
    """In front of all other modules stand some that cannot be imported."""
    for name in ("torch", "mxnet", "jax", "flax", "optax", "tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported')\n")
    process = command(*arguments, environ={"PYTHONPATH": str(tmp_path)})
    assert process.returncode == code
    assert "AssertionError" not in process.stderr


def test_help_names_every_command(command: Command) -> None:
    shown = command("--help").stdout
    for name in ("compare", "repro", "list", "schema", "inspect", "env"):
        assert re.search(rf"\b{name}\b", shown)
    shown = command("compare", "--help").stdout
    for option in ("--scenario", "-s", "--full", "--output", "-o", "--timeout", "--jobs", "-j", "--offline"):
        assert option in shown


def test_the_schema_is_printed_as_it_is_whatever_the_width(command: Command) -> None:
    process = command("schema", environ={"COLUMNS": "20"})
    assert process.returncode == 0
    assert json.loads(process.stdout) == schema()


@pytest.mark.parametrize("width", [80, 200])
def test_list_shows_backends_and_scenarios(command: Command, width: int) -> None:
    process = command("list", environ={"COLUMNS": str(width)})
    assert process.returncode == 0
    lines = process.stdout.splitlines()
    assert max(map(cell_len, lines)) <= width
    for name in ("numpy", *FRAMEWORKS):
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert ("ready" in line) == (name == "numpy")
        assert ("not built" in line) == (name != "numpy")
    assert "numpy 2.4.6" in process.stdout
    for one in scenarios().values():
        (line,) = [line for line in lines if line.startswith(f"{one.name} ")]
        assert one.section in line
        assert lines.index(f"-s {one.group}") < lines.index(line)
    long = [one for one in scenarios().values() if one.full]
    assert process.stdout.count("(--full)") == len(long) + bool(long)


def test_env_list_and_env_path(command: Command) -> None:
    folder = location(parse_column("numpy"))
    listed = command("env", "list", environ={"COLUMNS": "200"})
    assert listed.returncode == 0
    (line,) = [line for line in listed.stdout.splitlines() if line.startswith("numpy ")]
    assert "ready" in line
    assert "3.11" in line
    assert folder.name in line
    assert f"in {folder.parent}\n" in listed.stdout
    for name in FRAMEWORKS:
        (line,) = [line for line in listed.stdout.splitlines() if line.startswith(f"{name} ")]
        assert "not built" in line

    told = command("env", "path", "reference", environ={"COLUMNS": "20"})
    assert (told.returncode, told.stdout) == (0, f"{folder}\n")
    assert (folder / "bin" / "python").exists()

    missing = command("env", "path", "torch")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "torch has no environment yet; `d2lparams env build torch` makes one\n"


def test_env_build_and_env_clean(command: Command, tmp_path: Path) -> None:
    tiny = tmp_path / "tiny.py"
    header = FAKE.format(name="tiny", trouble="")
    tiny.write_text(header.replace("numpy==2.4.6", "six==1.17.0").replace('["numpy"]', '["six"]'))
    environ = {"D2LPARAMS_CACHE": str(tmp_path / "cache")}

    built = command("env", "build", tiny, environ=environ)
    assert built.returncode == 0
    assert re.fullmatch(r"tiny: ready, six 1\.17\.0, Python 3\.\d+\.\d+\n", built.stdout)
    assert "tiny: installing six==1.17.0" in built.stderr.splitlines()
    (took,) = re.findall(r"tiny: ok after ([0-9.]+) s", built.stderr)
    assert float(took) > 0  # it has created an environment and imported something
    folder = command("env", "path", tiny, environ=environ).stdout.strip()
    assert (Path(folder) / "bin" / "python").exists()

    again = command("env", "build", tiny, "--offline", environ=environ)
    assert again.stdout == built.stdout
    assert "installing" not in again.stderr

    removed = command("env", "clean", tiny, environ={**environ, "COLUMNS": "20"})
    assert (removed.returncode, removed.stdout) == (0, f"removed {folder}\n")
    assert not Path(folder).exists()
    assert command("env", "clean", environ=environ).stdout == "there was nothing to remove\n"


def test_env_build_says_what_went_wrong(command: Command, tmp_path: Path) -> None:
    environ = {"D2LPARAMS_CACHE": str(tmp_path)}
    process = command("env", "build", FAKES / "uninstallable.py", environ=environ)
    assert (process.returncode, process.stdout) == (1, "")
    assert "uninstallable: numpy==0.0.0.dev0 could not be installed: " in process.stderr
    assert re.search(r"^  command: .*\bpip install\b", process.stderr, re.MULTILINE)
    log = re.search(r"^  log: (.*)$", process.stderr, re.MULTILINE)
    assert log is not None
    assert "numpy==0.0.0.dev0" in Path(log[1]).read_text()


READING = """
import gc, json
from d2lparams.__main__ import collect_seldom
from d2lparams.process import Worker

seen = {"name": "weight", "kind": "invariant", "value": [[0.5] * 4] * 4}
line = json.dumps({"event": "observed", "scenario": "forward", "observation": seen}).encode()
collect_seldom()
found = []
gc.callbacks.append(lambda phase, info: found.append(info["generation"]))
kept = [Worker.decoder.decode(line) for _ in range(100_000)]
print(found)
"""


def test_what_a_run_is_read_into_is_not_looked_through_for_cycles() -> None:
    """By default Python would do so hundreds of times, and all of it again and again."""
    ended = subprocess.run([sys.executable, "-c", READING], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
