"""What its surroundings do to the command: signals in each phase, screens that go away, disks that are full.

Whatever comes, nothing is left running or half written, and what was known by then is not lost.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import CHOSEN, HEALTHY, Place
from tests.faults.registry import wait_for
from tests.faults.test_while_it_is_built import mounted, somebody  # noqa: F401  (a fixture)

Saw = Callable[[str], None]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# It stops where it is told to, and says that it does: when a module is imported, or in the middle of a write.
STOPS = """\
import os, pathlib, sys, time

def stop():
    open(os.environ["STOPPED"], "w").close()
    time.sleep(60)

class Stop:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("STOP_AT"):
            stop()

def write_slowly(self, content):
    with open(self, "wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        stop()

sys.meta_path.insert(0, Stop())
if os.environ.get("STOP_AT") == "write":
    pathlib.Path.write_bytes = write_slowly
"""


def stopping(place: Place, at: str) -> Path:
    """Have the commands of a place stop somewhere; the file that is there when they do."""
    (place.root / "sitecustomize.py").write_text(STOPS)
    place.environ["PYTHONPATH"] = os.pathsep.join([str(place.root), place.environ["PYTHONPATH"]])
    stopped = place.root / "stopped"
    place.environ |= {"STOP_AT": at, "STOPPED": str(stopped)}
    return stopped


def end(process: subprocess.Popen[str], *numbers: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Send signals to all its group, one close behind the other, and wait for the end."""
    for number in numbers:
        os.killpg(process.pid, number)
        time.sleep(0.03)
    output, errors = process.communicate(timeout=20)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def signals(when: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "numbers",
        [
            pytest.param(numbers, id="-".join(one.name for one in numbers), marks=pytest.mark.fault(name))
            for numbers in (*((one,) for one in SIGNALS), (signal.SIGINT,) * 3)
            if (name := f"{numbers[0].name}{' three times' * (len(numbers) > 1)} {when}")
        ],
    )


# -- signals -------------------------------------------------------------------------------------------------


@signals("while it is still loading")
def test_while_it_is_still_loading(numbers: tuple[signal.Signals, ...], place: Place, saw: Saw) -> None:
    codes = set()
    for module in ("typer", "rich.console", "tomllib"):
        stopped = stopping(place, module)
        with place.start("compare", "numpy", "-s", "forward", start_new_session=True) as process:
            wait_for(stopped.exists)
            ended = end(process, *numbers)
        stopped.unlink()
        place.check(ended, 128 + numbers[0])
        assert ended.stderr == ""
        codes.add(ended.returncode)
    place.environ.pop("STOP_AT")
    saw(f"exit code {codes.pop()}, and nothing is shown")


@signals("while scenarios run")
def test_while_scenarios_run(
    numbers: tuple[signal.Signals, ...], place: Place, environment: Path, saw: Saw
) -> None:
    process = hanging(place, environment)
    ended = end(process, *numbers)
    place.check(ended, 128 + numbers[0], "x.json")
    assert "Interrupted: what was known by then is shown." in ended.stdout
    known = place.result()
    assert known.interrupted
    assert [run.status for run in known.columns] == ["ok", "ok", "not-run"]
    assert [cell.status for cell in known.columns[2].scenarios] == ["ok", "not-run", "not-run"]
    place.check_healthy(known)
    saw(f"exit code {ended.returncode}; what was known is shown and written")


def hanging(place: Place, environment: Path, source: str = "sum(range(10**15))") -> subprocess.Popen[str]:
    """A run in which one column hangs, with children that are out of reach, and another one is done."""
    children = "import subprocess\nfor own in (False, True):\n"
    children += "    subprocess.Popen(['sleep', '3600'], start_new_session=own)\n"
    reached = place.root / "hangs"
    file = place.fake("hangs", f"{children}open({str(reached)!r}, 'w').close()\n{source}")
    place.lend(environment, file)
    arguments = ("compare", HEALTHY, file, *CHOSEN, "-j", 3, "--timeout", 600, "-o", "x.json")
    process = place.start(*arguments, start_new_session=True)
    assert process.stderr is not None
    missing = {"numpy", "healthy"}
    for line in process.stderr:
        missing -= {name for name in missing if line.startswith(f"{name}: ok")}
        if not missing:
            break
    wait_for(reached.exists)
    return process


@signals("while the result is written")
def test_while_the_result_is_written(numbers: tuple[signal.Signals, ...], place: Place, saw: Saw) -> None:
    stopped = stopping(place, "write")
    (place.out / "x.json").write_text("old")
    with place.start("compare", "numpy", "-s", "forward", "-o", "x.json", start_new_session=True) as process:
        wait_for(stopped.exists)
        assert len(list(place.out.iterdir())) == 2
        ended = end(process, *numbers)
    place.check(ended, 128 + numbers[0], "x.json")
    assert (place.out / "x.json").read_text() == "old"
    saw(f"exit code {ended.returncode}; the old file is as it was")


@pytest.mark.fault("Ctrl-C while scenarios run, and again while what is known is written")
def test_again_while_what_is_known_is_written(place: Place, environment: Path, saw: Saw) -> None:
    stopped = stopping(place, "write")
    process = hanging(place, environment)
    os.killpg(process.pid, signal.SIGINT)
    wait_for(stopped.exists)
    ended = end(process, signal.SIGINT)
    place.check(ended, 130)
    saw("exit code 130; nothing half written")


@pytest.mark.fault("SIGKILL, while a worker holds the interpreter's lock and has children out of reach")
def test_a_command_that_is_killed_takes_everything_along(place: Place, environment: Path, saw: Saw) -> None:
    process = hanging(place, environment)
    process.kill()
    process.communicate(timeout=20)
    place.check()
    place.check_next()
    saw("nothing is left, no temporary file either")


@pytest.mark.fault("nohup: the terminal goes, and the run goes on")
def test_nohup(place: Place, environment: Path, saw: Saw) -> None:
    arguments = ("compare", HEALTHY, *CHOSEN, "-o", "x.json")
    process = place.start(*arguments, wrapper=["nohup"], start_new_session=True)
    assert process.stderr is not None
    process.stderr.readline()  # nohup itself can be ended until it has become the command
    ended = end(process, signal.SIGHUP, signal.SIGHUP)
    place.check(ended, 0, "x.json")
    place.check_healthy(place.result())
    saw("ok")


# -- screens -------------------------------------------------------------------------------------------------


@pytest.mark.fault("the terminal is closed while scenarios run")
def test_a_terminal_that_is_closed(place: Place, environment: Path, saw: Saw) -> None:
    reached = place.root / "hangs"
    file = place.fake("hangs", f"open({str(reached)!r}, 'w').close()\nsum(range(10**15))")
    place.lend(environment, file)
    leader, follower = pty.openpty()
    process = place.start(
        *("compare", HEALTHY, file, *CHOSEN, "-j", 3, "-o", "x.json"),
        environ={"TERM": "xterm"},
        **dict.fromkeys(("stdin", "stdout", "stderr"), follower),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(follower)
    wait_for(reached.exists)
    time.sleep(1)  # the board is drawn meanwhile, and the healthy column ends
    os.close(leader)
    process.wait(timeout=20)
    place.check(subprocess.CompletedProcess(process.args, process.returncode, "", ""), 129, "x.json")
    assert place.result().interrupted
    saw("exit code 129; what was known is written")


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param("{} | head -1", marks=pytest.mark.fault("its output is piped to `head -1`")),
        pytest.param("{} | true", marks=pytest.mark.fault("its output is piped to what reads nothing")),
        pytest.param("{} 2>&1 >/dev/null | head -1", marks=pytest.mark.fault("its progress to `head -1`")),
        pytest.param("{} >/dev/full", marks=pytest.mark.fault("its output goes to a full disk")),
        pytest.param("{} 2>/dev/full", marks=pytest.mark.fault("its progress goes to a full disk")),
        pytest.param("{} >&-", marks=pytest.mark.fault("its standard output is closed")),
        pytest.param("{} 2>&-", marks=pytest.mark.fault("its standard error is closed")),
        pytest.param("{} <&-", marks=pytest.mark.fault("its standard input is closed")),
        pytest.param("{} <&- >&- 2>&-", marks=pytest.mark.fault("all its standard streams are closed")),
    ],
)
def test_a_screen_that_is_not_there(shell: str, place: Place, saw: Saw) -> None:
    """What is written does not depend on what is shown."""
    command = f"{sys.executable} -m d2lparams compare {HEALTHY} {' '.join(CHOSEN)} -o x.json"
    process = subprocess.run(
        ["bash", "-c", shell.format(command) + "; echo ${PIPESTATUS[0]} >&3", "-", "3"],
        env=place.environ,
        cwd=place.out,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: os.dup2(1, 3),
        pass_fds=(3,),
    )
    *_, code = process.stdout.split()
    assert "Exception" not in process.stderr
    assert "BrokenPipe" not in process.stderr
    # `head` has its line before it is gone, or it is gone before its line.
    codes = {"{} | head -1": (0, 1), "{} | true": (1,), "{} >/dev/full": (1,)}.get(shell, (0,))
    assert int(code) in codes
    ended = subprocess.CompletedProcess(shell, int(code), process.stdout, process.stderr)
    place.check(ended, int(code), "x.json")
    place.check_healthy(place.result())
    if shell == "{} >/dev/full":
        assert "No space left" in process.stderr
    saw(f"exit code {code}; the result is written")


# -- places to write to --------------------------------------------------------------------------------------


@pytest.mark.fault("the disk for the output is full")
def test_a_disk_that_is_full(place: Place, saw: Saw) -> None:
    with mounted(place.out, "tmpfs", "size=64k"):
        (place.out / "x.json").write_text("old")
        (place.out / "filler").write_bytes(b"x" * 50_000)
        targets = [f"--output={place.out / name}" for name in ("x.json", "x.html")]
        process = place.command("compare", HEALTHY, *CHOSEN, *targets, cwd=place.root)
        place.check(process, 1, "filler", "x.json")
        assert (place.out / "x.json").read_text() == "old"
        assert "Summary" in process.stdout
        lines = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
        assert ["No space left" in line for line in lines] == [True, True]
    saw(lines[0])


@pytest.mark.fault("the folder for the output goes away while scenarios run")
def test_a_folder_that_goes_away(place: Place, environment: Path, saw: Saw) -> None:
    gone = place.root / "gone"
    gone.mkdir()
    file = place.fake("removes", f"import shutil; shutil.rmtree({str(gone)!r})")
    place.lend(environment, file)
    targets = ("-o", gone / "x.json", "-o", "x.json")
    process = place.command("compare", file, HEALTHY, *CHOSEN, *targets)
    place.check(process, 1, "x.json")
    place.check_healthy(place.result())
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    saw(line.replace(str(place.root), "..."))


def says(process: subprocess.CompletedProcess[str], place: Place, sentence: str, *left: str) -> str:
    place.check(process, 2, *left)
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert sentence in line
    return line


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        pytest.param(*one, marks=pytest.mark.fault(f"the output {name}"))
        for name, one in {
            "is to be in a folder that is not there": ("nowhere/x.json", "there is no folder nowhere"),
            "is a folder": ("folder.json", "it is a folder"),
            "is in a file": ("file/x.json", "there is no folder file"),
            "has a name that is too long": ("x" * 300 + ".json", "File name too long"),
        }.items()
    ],
)
def test_a_place_that_is_none(target: str, sentence: str, place: Place, saw: Saw) -> None:
    (place.out / "folder.json").mkdir()
    (place.out / "file").touch()
    process = place.command("compare", "numpy", "-s", "forward", "-o", target)
    saw(says(process, place, sentence, "file", "folder.json")[:90])


@pytest.mark.fault("the folder for the output is another user's")
def test_a_folder_of_another_user(place: Place, somebody: list[str], saw: Saw) -> None:  # noqa: F811
    process = place.command("compare", "numpy", "-s", "forward", "-o", "x.json", wrapper=somebody)
    saw(says(process, place, "cannot be written to"))


@pytest.mark.fault("the current folder is gone")
def test_a_current_folder_that_is_gone(place: Place, environment: Path, saw: Saw) -> None:
    gone = place.root / "gone"
    gone.mkdir()
    process = place.command(
        "compare", HEALTHY, "-s", "forward", cwd=gone, preexec_fn=lambda: shutil.rmtree(gone)
    )
    place.check(process, process.returncode)
    assert process.returncode == 0
    saw("ok")
