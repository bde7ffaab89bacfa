"""One build of an environment: created, filled and tried beside its place, then moved into it.

Every step is a process of uv or of the new interpreter, in a group of its own, so that it can be stopped with
all that it started; what it prints goes to a log, and uv's news to whoever waits.

Bytecode is made by the imports that prove an environment, of what they load and of nothing else: to compile all
that is installed takes three times as long, for most of it is never imported.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from d2lparams import leash
from d2lparams.columns import Adapter
from d2lparams.registries import names_a_registry, registry_flags, registry_settings

if TYPE_CHECKING:
    from d2lparams.results import Failure

MARKER = "d2lparams.json"
CHUNK = 2**16
TICK = 0.1  # seconds between two looks at what a build printed
IMPORT_LIMIT = 600.0  # seconds; what needs longer on the slowest disk has not been seen
LOG_LIMIT = 64 * 2**20  # bytes that one step may print

_FINDING_UV = threading.Lock()


class InstallFailed(Exception):
    """An environment could not be built.

    Attributes:
        failure: what went wrong, the last lines of the log, and the command that failed.
        log: the file with all of it.
    """

    def __init__(self, failure: Failure, log: Path) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.log = log


class Cancelled(Exception):
    """The caller asked to stop; nothing was changed."""


class Build:
    """One build: what it starts, where that is written down, and how it is stopped; the caller has the lock."""

    def __init__(
        self,
        adapter: Adapter,
        path: Path,
        *,
        offline: bool,
        progress: Callable[[str], None],
        cancelled: threading.Event,
    ) -> None:
        self.adapter, self.path = adapter, path
        self.scratch, self.log = beside(self.path, ".building"), beside(self.path, ".log")
        self.offline, self.progress, self.cancelled = offline, progress, cancelled
        self.advice = _OFFLINE if offline else ""
        self.environ = {**_environ(), leash.MARK: str(self.scratch)}

    def run(self) -> None:
        """Build beside the place, then take the place.

        Raises:
            InstallFailed: when a step fails.
            Cancelled: when the caller asked to stop.
        """
        leash.end_marked(str(self.scratch))  # of a build that was killed: it would go on writing there
        remove(self.scratch)
        (self.path.parent / "uv.toml").touch()
        self.log.write_text("", encoding="utf-8")
        try:
            self._create()
            self._install()
            self._import()
            self._mark()
            self._publish()
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def whole(self, python: Path) -> bool:
        """Whether the framework can still be imported by the interpreter of the environment that is there."""
        if not self.adapter.modules:
            return True
        code, _ = self._follow(self._importing(python), self.environ, IMPORT_LIMIT)
        return code <= 0  # a signal, when memory runs out say, tells nothing of what is installed

    def _create(self) -> None:
        wanted = self.adapter.requires_python
        self.progress(f"creating an environment with Python {wanted}")
        self._run(
            self._uv("venv", "--no-project", "--relocatable", "--python", wanted, self.scratch),
            problem=f"no environment with Python {wanted} could be created",
            advice=self.advice,
        )

    def _install(self) -> None:
        what = ", ".join(str(one).partition(";")[0].strip() for one in self.adapter.requirements)
        self._choose_torch()
        self.progress(f"installing {what}")
        self._run(
            # All dependencies: uv knows which of them apply to the Python that it chose.
            self._uv_pip_install(*self.adapter.dependencies),
            problem=f"{what} could not be installed",
            advice=self.advice,
        )

    def _choose_torch(self) -> None:
        """Ask for the CPU build of torch where the plain one would bring gigabytes of CUDA with it.

        It lies on an index of its own that not everybody reaches. Only that index is asked here, for torch
        alone and without retries, so any refusal means the same: this build is not to be had.
        """
        torch = [str(one) for one in self.adapter.requirements if one.name.lower() == "torch"]
        if sys.platform != "linux" or not torch or names_a_registry(os.environ):
            return
        self.progress("asking for the CPU build of torch")
        cpu = {**self.environ, "UV_TORCH_BACKEND": "cpu"}
        question = self._uv_pip_install("--dry-run", "--no-deps", *torch)
        code, _ = self._follow(question, {**cpu, "UV_HTTP_RETRIES": "0"})
        if code == 0:
            self.environ = cpu
        else:
            self.progress("no CPU build of torch to be had; taking the larger build from the usual index")

    def _import(self) -> None:
        modules = ", ".join(self.adapter.modules)
        if not modules:
            return
        self.progress(f"importing {modules}")
        self._run(
            self._importing(self._python),
            problem=f"{modules} was installed but cannot be imported",
            limit=IMPORT_LIMIT,
        )
        if self.adapter.later:
            self.progress(f"preparing {', '.join(self.adapter.later)}")
            # What goes wrong here goes wrong again where it is needed, and is told there.
            later = [*self._importing(self._python)[:-1], f"import {', '.join(self.adapter.later)}"]
            self._follow(later, self.environ, IMPORT_LIMIT)

    def _importing(self, python: Path) -> list[str]:
        # -I: neither the caller's folder nor PYTHON* variables may lend it a module that it lacks.
        return [str(python), "-I", "-c", f"import {', '.join(self.adapter.modules)}"]

    def _mark(self) -> None:
        facts = json.dumps([str(self.scratch / MARKER), self.adapter.distributions])
        self._run(
            [str(self._python), "-I", "-c", _WRITE_MARKER, facts],
            problem="what was installed cannot be told",
        )

    def _publish(self) -> None:
        old = beside(self.path, ".old")
        remove(old)
        if self.path.exists():
            self.path.rename(old)
        try:
            self.scratch.rename(self.path)
        except OSError:
            if old.exists():
                old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)

    @property
    def _python(self) -> Path:
        return self.scratch / "bin" / "python"

    def _uv(self, *arguments: str | Path) -> list[str]:
        # --project, and not another working folder: relative paths in the user's settings keep their meaning.
        always = ["--color", "never", "--project", str(self.path.parent)]
        return [uv_program(), *map(str, arguments), *always, *(["--offline"] if self.offline else [])]

    def _uv_pip_install(self, *arguments: str) -> list[str]:
        return self._uv("pip", "install", "--python", self._python, *registry_flags(os.environ), *arguments)

    def _run(self, command: list[str], problem: str, advice: str = "", limit: float = math.inf) -> None:
        """Run a command that has to succeed; when it does not, `problem` says what that means."""
        from d2lparams.results import Failure

        code, lines = self._follow(command, self.environ, limit)
        if code != 0:
            message = f"{problem}: {_reason(code, lines)}{advice}"
            raise InstallFailed(Failure(message, self._tail(), shlex.join(command)), self.log)

    def _tail(self) -> str:
        """The last lines of the log."""
        with self.log.open("rb") as log:
            log.seek(max(log.seek(0, os.SEEK_END) - CHUNK, 0))
            return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-20:])

    def _follow(
        self, command: list[str], environ: dict[str, str], limit: float = math.inf
    ) -> tuple[int, list[str]]:
        """Run a command to its end; its exit status, and its last lines, each passed on as it came.

        One that takes more than `limit` seconds, or prints without an end, is ended; the last line says so.

        It prints into the log and the log is read from there. So nothing is lost when this process is killed,
        and what it may leave running in the background holds no pipe that would be waited for.
        """
        lines: deque[str] = deque(maxlen=1000)  # a framework may print without an end when it is imported
        with self.log.open("ab") as log, self.log.open(encoding="utf-8", errors="replace") as printed:
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            begin, deadline = printed.seek(0, os.SEEK_END), time.monotonic() + limit
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", leash.__file__, *command],
                env=environ,
                stdin=subprocess.PIPE,  # it closes with us, and all that is started here ends with it
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a group of its own, so that what it starts can be stopped with it
            )
            try:
                ended, rest = False, ""
                while not ended:
                    if self.cancelled.wait(TICK):
                        raise Cancelled("building the environment was cancelled")
                    if time.monotonic() > deadline:
                        return 1, [*lines, f"it was ended after {limit:g} s"]
                    # Before reading: what an ended process has written is all there will be.
                    ended = process.poll() is not None
                    while not self.cancelled.is_set():
                        chunk = printed.read(CHUNK)
                        last = ended and not chunk
                        *news, rest = (rest + chunk + "\n" * last).split("\n")
                        rest = rest[-CHUNK:]
                        for line in filter(None, map(str.strip, news)):
                            lines.append(line)
                            self._pass_on(line)
                        if log.seek(0, os.SEEK_END) - begin > LOG_LIMIT:
                            return 1, [*lines, f"it was ended when it had printed {LOG_LIMIT >> 20} MiB"]
                        if not chunk:
                            break
                return process.wait(), list(lines)
            finally:
                # Done, cancelled, Ctrl-C, a full disk: nothing stays behind. EPERM is how macOS says that only
                # dead processes are left in the group.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                leash.end_marked(str(self.scratch))
                if process.stdin is not None:
                    process.stdin.close()

    def _pass_on(self, line: str) -> None:
        """Tell what uv says while one waits."""
        if _NEWS.match(line):
            self.progress(line)


_WRITE_MARKER = """\
import importlib.metadata, json, platform, sys
marker, distributions = json.loads(sys.argv[1])
versions = {name: importlib.metadata.version(name) for name in distributions}
with open(marker, "w", encoding="utf-8") as file:
    json.dump({"python_version": platform.python_version(), "versions": versions}, file)
"""

_OFFLINE = (
    "; --offline was asked for, and uv can use only what it has downloaded before: "
    "run it once without --offline"
)

# These point a new process at the interpreter or the packages of another environment: the caller's.
_MISLEADING = {"VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "PYTHONHOME"}


def _environ() -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if name not in _MISLEADING}
    # The Python that runs this, as installed and not as a virtual environment shows it, is looked at last,
    # before one is downloaded: it may not be on the path.
    path = [environ.get("PATH", os.defpath), str(Path(sys.base_prefix) / "bin")]
    return {**environ, **registry_settings(environ), "PATH": os.pathsep.join(path), "UV_NO_WRAP": "1"}


def uv_program() -> str:
    """Where uv lies.

    One thread at a time: uv asks Python's `sysconfig`, which shows a second thread a table that the first is
    still filling.
    """
    from uv import find_uv_bin

    with _FINDING_UV:
        return find_uv_bin()


def remove(folder: Path) -> bool:
    """Remove a folder, the marker first: what is half removed is no environment. False when it is not there."""
    if not folder.exists():
        return False
    (folder / MARKER).unlink(missing_ok=True)
    shutil.rmtree(folder)
    return True


def beside(path: Path, ending: str) -> Path:
    """Where what belongs to an environment lies: next to it, with an ending."""
    return path.with_name(path.name + ending)


def _reason(code: int, lines: Sequence[str]) -> str:
    """Why a command failed: uv's error, its first and its last cause, or else the last thing that was said."""
    if code < 0:
        return f"it was ended by signal {-code} ({signal.strsignal(-code)})"
    errors = [_ERROR.sub("", line).rstrip(":.") for line in lines if _ERROR.match(line)]
    said = (
        [*errors[:2], *errors[2:][-1:]] or lines[-1:] or [f"it ended with exit status {code} and said nothing"]
    )
    return ": ".join(said)


_ERROR = re.compile(r"(error:|cause:|Caused by:|\N{MULTIPLICATION SIGN}|╰─▶) *")

# What uv says while one waits; the list of every package and the advice for shells stay in the log.
_NEWS = re.compile(r"(Resolved|Downloading|Building|Built|Prepared|Installed) ")
