"""Environments: builds that are killed, caches that are harmed, registries that misbehave, many at once.

Each fault costs at most the column that is built, and the next build or run is fine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import HEALTHY, Place
from tests.faults.registry import TINY, Answer, Registry, closed_port, listing, registry, use, wait_for, wheel

Saw = Callable[[str], None]


@pytest.fixture
def index() -> Iterator[Registry]:
    with registry() as found:
        yield found


@pytest.fixture
def tiny(bare: Place, environment: Path, index: Registry) -> Path:
    """A column whose environment has to be built from the registry, beside a healthy one that is there."""
    use(bare, index.url)
    bare.lend(environment, "numpy", HEALTHY)
    file = bare.root / "tiny.py"
    file.write_text(TINY)
    return file


def built(place: Place, tiny: Path) -> None:
    """The next build is fine, and leaves nothing but the environment."""
    process = place.command("env", "build", tiny)
    assert (process.returncode, "tiny: ready, homemade 1.0" in process.stdout) == (0, True), process.stderr
    leftovers = [path.name for path in (place.cache / "envs").iterdir() if ".building" in path.name]
    assert leftovers == []


# -- registries ----------------------------------------------------------------------------------------------


def silent(answer: Answer) -> None:
    time.sleep(4)


def slow(answer: Answer) -> None:
    time.sleep(0.6)
    content = listing() if "simple" in answer.path else wheel()
    answer.send(content, "text/html" if "simple" in answer.path else "application/octet-stream")


def half(answer: Answer) -> None:
    answer.send_response(200)
    answer.send_header("Content-Length", "100000")
    answer.end_headers()
    answer.wfile.write(wheel()[:100])
    answer.close_connection = True


def no_http(answer: Answer) -> None:
    answer.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    answer.close_connection = True


def round_and_round(answer: Answer) -> None:
    answer.send_response(302)
    answer.send_header("Location", answer.path)
    answer.send_header("Content-Length", "0")
    answer.end_headers()


PAGE = b"<html><body><h1>Welcome to this wireless network</h1><a href='/login'>log in</a></body></html>"
MISBEHAVES: dict[str, tuple[str, dict[str, Callable[[Answer], None]]]] = {
    "silent": ("never answers", {"page": silent}),
    "internal": ("answers with status 500", {"page": lambda answer: answer.send(b"oops", code=500)}),
    "forbids": ("answers with status 403", {"page": lambda answer: answer.send(b"no", code=403)}),
    "rubbish": ("answers with rubbish", {"page": lambda answer: answer.send(os.urandom(5000))}),
    "portal": ("answers with the page of a hotel's network", {"page": lambda answer: answer.send(PAGE)}),
    "no_json": (
        "answers with JSON that is none",
        {"page": lambda answer: answer.send(b'{"files": [', "application/vnd.pypi.simple.v1+json")},
    ),
    "no_http": ("does not speak HTTP", {"page": no_http}),
    "round": ("redirects in a circle", {"page": round_and_round}),
    "hash": ("has a wheel with another hash", {"page": lambda answer: answer.send(listing("0" * 64))}),
    "no_zip": (
        "has a wheel that is no archive",
        {
            "page": lambda answer: answer.send(re.sub(rb"#sha256=\w+", b"", listing())),
            "file": lambda answer: answer.send(b"no archive" * 100, "application/octet-stream"),
        },
    ),
    "half": ("breaks off in a wheel", {"file": half}),
    "no_file": ("has lost the wheel", {"file": lambda answer: answer.send(b"gone", code=404)}),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.fault(f"the registry {one[0]}")) for name, one in MISBEHAVES.items()],
)
def test_a_registry_that_misbehaves_costs_its_own_column(
    name: str, bare: Place, tiny: Path, index: Registry, saw: Saw
) -> None:
    vars(index).update(MISBEHAVES[name][1])
    saw(refused(bare, tiny))
    index.heal()
    built(bare, tiny)


def refused(place: Place, tiny: Path) -> str:
    """A run beside a healthy column in which the environment cannot be built: why."""
    process = place.command("compare", tiny, HEALTHY, "-s", "forward", "-o", "x.json")
    place.check(process, 1, "x.json")
    comparison = place.result()
    place.check_healthy(comparison)
    (run,) = [one for one in comparison.columns if one.name == "tiny"]
    assert run.status == "install-failed"
    assert run.error is not None
    assert "homemade" in run.error.message
    assert "\n" not in run.error.message
    return f"{run.status}: {run.error.message}"


@pytest.mark.fault("the registry answers slowly")
def test_a_slow_registry_is_waited_for(bare: Place, tiny: Path, index: Registry, saw: Saw) -> None:
    index.page = index.file = slow
    built(bare, tiny)
    bare.check()
    saw("built")


@pytest.mark.fault("the registry refuses connections")
def test_a_registry_that_is_not_there(bare: Place, tiny: Path, environment: Path, saw: Saw) -> None:
    use(bare, f"http://127.0.0.1:{closed_port()}/simple")
    bare.lend(environment, "numpy", HEALTHY)
    saw(refused(bare, tiny))


@pytest.mark.fault("no network at all")
def test_no_network(bare: Place, environment: Path, saw: Saw) -> None:
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("a process without a network takes `unshare`, which is not allowed here")
    use(bare, "https://registry.invalid/simple")
    bare.lend(environment, "numpy", HEALTHY)
    file = bare.root / "tiny.py"
    file.write_text(TINY)
    arguments = ["compare", file, HEALTHY, "-s", "forward", "-o", "x.json"]
    process = bare.command(*arguments, wrapper=["unshare", "-rn"])
    bare.check(process, 1, "x.json")
    bare.check_healthy(bare.result())
    error = bare.result().columns[1].error
    assert error is not None
    saw(f"install-failed: {error.message}")


# -- builds that are killed ----------------------------------------------------------------------------------

MOMENTS = {
    "locked": "it has the lock",
    "created": "its folder is there",
    "installing": "it downloads",
    "importing": "it tries the import",
    "marking": "it writes the marker",
}


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(one, marks=pytest.mark.fault(f"a build is killed (SIGKILL) when {when}"))
        for one, when in MOMENTS.items()
    ],
)
def test_a_build_that_is_killed(moment: str, bare: Place, tiny: Path, index: Registry, saw: Saw) -> None:
    reach(moment, bare, tiny, index, lambda process: os.kill(process.pid, signal.SIGKILL))
    index.heal()
    bare.check()
    built(bare, tiny)
    bare.check_next()
    saw("nothing goes on; the next build is fine")


def reach(
    moment: str, place: Place, tiny: Path, index: Registry, then: Callable[[subprocess.Popen[str]], Any]
) -> subprocess.CompletedProcess[str]:
    """Start a build, wait until it has come so far, do something to it, and wait for its end."""
    path = place.location(tiny)
    scratch, log = path.with_name(f"{path.name}.building"), path.with_name(f"{path.name}.log")
    stop = place.root / "stopped"
    reached: dict[str, Callable[[], Any]] = {
        "locked": path.with_name(f"{path.name}.lock").exists,
        "created": (scratch / "bin" / "python").exists,
        "installing": index.asked.is_set,
        "importing": stop.exists,
        "marking": lambda: log.exists() and "importlib.metadata" in log.read_text(),
    }
    if moment in ("locked", "created"):
        index.page = silent
    if moment == "installing":
        index.file = silent
    environ = {"HOMEMADE_STOP": str(stop)} if moment == "importing" else {}
    with place.start("env", "build", tiny, environ=environ, start_new_session=True) as process:
        wait_for(reached[moment])
        then(process)
        output, errors = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("created", signal.SIGINT),
        ("installing", signal.SIGINT),
        ("importing", signal.SIGINT),
        ("installing", signal.SIGTERM),
        ("installing", signal.SIGHUP),
    ],
)
def test_a_build_that_is_interrupted(
    moment: str,
    number: signal.Signals,
    bare: Place,
    tiny: Path,
    index: Registry,
    saw: Saw,
    request: pytest.FixtureRequest,
) -> None:
    request.node.add_marker(pytest.mark.fault(f"{number.name} to a build when {MOMENTS[moment]}"))
    process = reach(moment, bare, tiny, index, lambda process: os.killpg(process.pid, number))
    bare.check(process, 128 + number)
    assert not list((bare.cache / "envs").glob("*.building"))
    index.heal()
    built(bare, tiny)
    saw(f"exit code {process.returncode}; the next build is fine")


# -- environments that are harmed ----------------------------------------------------------------------------


def no_package(folder: Path) -> None:
    shutil.rmtree(next(folder.glob("lib/python3*/site-packages/numpy")))


def no_interpreter(folder: Path) -> None:
    (folder / "bin" / "python").unlink()


def bad_interpreter(folder: Path) -> None:
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").write_bytes(b"\x7fELF, or so it says")
    (folder / "bin" / "python").chmod(0o755)


def half_a_package(folder: Path) -> None:
    core = next(folder.glob("lib/python3*/site-packages/numpy/_core"))
    for library in core.glob("*.so"):
        library.unlink()


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(no_package, marks=pytest.mark.fault("an environment has lost its package")),
        pytest.param(half_a_package, marks=pytest.mark.fault("an environment has lost half of its package")),
        pytest.param(no_interpreter, marks=pytest.mark.fault("an environment has lost its interpreter")),
        pytest.param(bad_interpreter, marks=pytest.mark.fault("an environment's interpreter is none")),
    ],
)
def test_a_harmed_environment_is_built_anew(
    harm: Callable[[Path], None], bare: Place, environment: Path, saw: Saw
) -> None:
    bare.lend(environment, "numpy")
    harmed = bare.location(HEALTHY)
    shutil.copytree(environment, harmed, symlinks=True, copy_function=os.link)
    harm(harmed)
    process = bare.command("compare", HEALTHY, "-s", "forward", "-o", "x.json")
    bare.check(process, 0, "x.json")
    bare.check_healthy(bare.result())
    assert "healthy: installing numpy" in process.stderr
    bare.check_next()
    saw("built anew, and ok")


# -- caches --------------------------------------------------------------------------------------------------


def refuses(place: Place, *words: str, code: int = 2, **options: Any) -> str:
    """A run that cannot begin says so in one sentence, which names the way out."""
    process = place.command("compare", "numpy", "-s", "forward", **options)
    place.check(process, code)
    (line,) = process.stderr.splitlines()
    for word in words:
        assert word in line
    return line


@pytest.fixture
def somebody(environment: Path) -> list[str]:
    """What runs a command as another user, who may read everything and write nothing that is ours."""
    if os.getuid() != 0:
        pytest.skip("only root can be another user")
    wrapper = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    wrapper += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("`setpriv` is not there, or may not give a capability")
    return wrapper


@pytest.mark.fault("the cache is another user's")
def test_a_cache_of_another_user(bare: Place, environment: Path, somebody: list[str], saw: Saw) -> None:
    bare.lend(environment, "numpy", HEALTHY)
    saw(refuses(bare, "Permission denied", "D2LPARAMS_CACHE", wrapper=somebody))
    bare.check_next()


@pytest.mark.fault("the cache can only be read")
def test_a_cache_that_can_only_be_read(bare: Place, environment: Path, saw: Saw) -> None:
    bare.cache.mkdir()
    with mounted(bare.cache, "tmpfs"):
        bare.lend(environment, "numpy")
        subprocess.run(["mount", "-o", "remount,ro", str(bare.cache)], check=True)
        saw(refuses(bare, "Read-only file system", "D2LPARAMS_CACHE"))
    bare.lend(environment, "numpy", HEALTHY)
    bare.check_next()


class mounted:  # noqa: N801  (used like a function)
    """A file system at a folder, for as long as it is needed."""

    def __init__(self, folder: Path, kind: str, options: str = "size=64m") -> None:
        self.folder = folder
        done = subprocess.run(
            ["mount", "-t", kind, "-o", options, "none", str(folder)], capture_output=True, check=False
        ) if shutil.which("mount") else None  # fmt: skip
        if done is None or done.returncode != 0:
            pytest.skip("a file system cannot be mounted here: that needs root, outside of most containers")

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *exception: object) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.mark.fault("the disk of the cache is full when an environment is built")
def test_a_cache_that_is_full(bare: Place, tiny: Path, environment: Path, saw: Saw) -> None:
    shutil.rmtree(bare.cache)
    bare.cache.mkdir()
    with mounted(bare.cache, "tmpfs", "size=256k"):
        bare.lend(environment, "numpy", HEALTHY)
        filler = bare.cache / "filler"
        with filler.open("wb") as file:
            file.write(b"x" * 192 * 1024)
        process = bare.command("compare", tiny, HEALTHY, "-s", "forward", "-o", "x.json")
        bare.check(process, 1, "x.json")
        bare.check_healthy(bare.result())
        error = bare.result().columns[1].error
        assert error is not None
        assert "No space left" in error.message
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(bare.cache)], check=True)
        built(bare, tiny)
        saw(f"install-failed: {error.message}")


@pytest.mark.fault("the disk of the cache is full, to the last byte")
def test_a_cache_without_a_byte(bare: Place, environment: Path, saw: Saw) -> None:
    bare.cache.mkdir()
    with mounted(bare.cache, "tmpfs", "size=64k"):
        bare.lend(environment, "numpy")
        with (bare.cache / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * 512):
                    continue
            except OSError:
                pass
        process = bare.command("compare", "numpy", "-s", "forward")
        bare.check(process, 0)
        saw("ok; its log is lost")


@pytest.mark.fault("the cache is a link to another folder")
def test_a_cache_that_is_a_link(bare: Place, environment: Path, saw: Saw) -> None:
    (bare.root / "elsewhere").mkdir()
    bare.cache.symlink_to(bare.root / "elsewhere")
    bare.lend(environment, "numpy", HEALTHY)
    bare.check_next()
    bare.check()
    saw("ok")


@pytest.mark.fault("the cache is a link to nowhere")
def test_a_cache_that_is_a_link_to_nowhere(bare: Place, saw: Saw) -> None:
    bare.cache.symlink_to(bare.root / "nowhere" / "at" / "all")
    saw(refuses(bare, "D2LPARAMS_CACHE"))


@pytest.mark.fault("the cache is a file")
def test_a_cache_that_is_a_file(bare: Place, saw: Saw) -> None:
    bare.cache.write_text("a file")
    saw(refuses(bare, "D2LPARAMS_CACHE"))


# -- locks ---------------------------------------------------------------------------------------------------


@pytest.mark.fault("rubbish in a lock file")
def test_rubbish_in_a_lock_file(bare: Place, tiny: Path, saw: Saw) -> None:
    lock = bare.location(tiny).with_name(f"{bare.location(tiny).name}.lock")
    lock.write_bytes(os.urandom(1000))
    built(bare, tiny)
    bare.check()
    saw("built")


@pytest.mark.fault("a folder where a lock file should be")
def test_a_folder_for_a_lock_file(bare: Place, tiny: Path, saw: Saw) -> None:
    bare.location(tiny).with_name(f"{bare.location(tiny).name}.lock").mkdir()
    process = bare.command("compare", tiny, HEALTHY, "-s", "forward", "-o", "x.json")
    bare.check(process, 1, "x.json")
    bare.check_healthy(bare.result())
    error = bare.result().columns[1].error
    assert error is not None
    saw(f"install-failed: {error.message}")


HOLDS = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print(flush=True)
time.sleep(60)
"""


@pytest.mark.fault("a lock whose holder was killed")
def test_a_lock_of_a_dead_process(bare: Place, tiny: Path, saw: Saw) -> None:
    lock = bare.location(tiny).with_name(f"{bare.location(tiny).name}.lock")
    with subprocess.Popen([sys.executable, "-c", HOLDS, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.kill()
    built(bare, tiny)
    bare.check()
    saw("built")


@pytest.mark.fault("a lock that is held for ever, and Ctrl-C")
def test_a_lock_that_is_held(bare: Place, tiny: Path, saw: Saw) -> None:
    lock = bare.location(tiny).with_name(f"{bare.location(tiny).name}.lock")
    with subprocess.Popen([sys.executable, "-c", HOLDS, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with bare.start("env", "build", tiny) as process:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert line == "tiny: waiting for another process to build it\n"
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=10)
        holder.kill()
    bare.check(subprocess.CompletedProcess(process.args, process.returncode, output, errors), 130)
    built(bare, tiny)
    saw(f"{line.strip()}; exit code 130")


@pytest.mark.fault("five commands at once with an empty cache")
def test_five_at_once(bare: Place, tiny: Path, saw: Saw) -> None:
    processes = [bare.start("env", "build", tiny) for _ in range(5)]
    shown = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 5, shown
    assert sum("installing homemade" in errors for _, errors in shown) == 1
    assert all(output == shown[0][0] for output, _ in shown)
    bare.check()
    saw("one builds, four wait; all are ready")
