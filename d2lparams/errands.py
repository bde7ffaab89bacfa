"""Has one function run in another process, with limits, and brings its answer: JSON in, JSON out.

For what must not happen in this process: a function that needs a framework runs in the column's environment,
and one that shows bytes of unknown origin to a C library runs apart, where a crash costs nothing. However it
ends, no process of its stays behind.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from d2lparams import bootstrap, environments
from d2lparams.child import ending, kill_group
from d2lparams.columns import Column, adapters
from d2lparams.tensor_file import BadFile

MEMORY = 4 * 2**30
"""Bytes that an errand may take, beside what it is told that it may."""

SECONDS = 120.0
"""Wall-clock time that an errand may take."""

_LONGEST_ANSWER = 256 * 2**20
_TICK = 0.1


class ErrandFailed(Exception):
    """An errand brought no answer. One sentence; `detail` is a traceback, or the end of what it printed."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


def run_in_column(
    name: str,
    function: str,
    arguments: Mapping[str, Any],
    *,
    memory: int = MEMORY,
    seconds: float = SECONDS,
    offline: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Any:
    """Run a function of a backend's module in that backend's environment, which is built when it is not there.

    Args:
        name: of the backend.
        function: `module:function`, such as "backends.files.torch:layout".
        arguments: its keyword arguments, JSON data.
        memory: bytes it may take.
        seconds: it may take; building the environment does not count.
        offline: build the environment from what is on this machine only.
        progress: is told what is being built.

    Returns:
        What it returns, JSON data.

    Raises:
        BadFile: when the function raised that.
        ErrandFailed: when it raised something else, crashed, or took too long.
        InstallFailed: when the environment cannot be built.
    """
    adapter = adapters()[name]
    environment = environments.ensure(Column(name, adapter), offline=offline, progress=progress)
    # Isolated: neither the user's PYTHON* variables nor the current folder are the framework's business.
    return run(
        [str(environment.python), "-I"], function, arguments, memory, seconds, environment.variables(adapter)
    )


def run_apart(
    function: str, arguments: Mapping[str, Any], *, memory: int = MEMORY, seconds: float = SECONDS
) -> Any:
    """Run a function in a process of this program's own Python; as `run_in_column`."""
    # Not isolated, for a PYTHON* variable may say where our packages are; but without the script's folder.
    return run([sys.executable, "-P"], function, arguments, memory, seconds, {})


def run(
    python: list[str],
    function: str,
    arguments: Mapping[str, Any],
    memory: int,
    seconds: float,
    environ: Mapping[str, str],
) -> Any:
    """Run a function in a new process of a Python that is given with its flags; as `run_in_column`."""
    order = json.dumps({"function": function, "arguments": dict(arguments), "memory": memory})
    flags = [*(["-B"] if sys.dont_write_bytecode else []), "-X", "utf8"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*python, *flags, bootstrap.__file__, bootstrap.ERRAND, order],
            env={**environ, **os.environ},
            stdin=subprocess.PIPE,  # never written to: it closes with us, and the process ends with it
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # a group of its own to kill
        )
        try:
            line = _answer(process, time.monotonic() + seconds, seconds)
            if not line.endswith(b"\n"):
                process.wait(10)
                how = ending(process.returncode, before="it had answered")
                raise ErrandFailed(f"the process {how}", _tail(log))
        finally:
            _kill(process)
    return outcome(line)


def outcome(line: bytes) -> Any:
    """What an answer says: the value, or the exception that it stands for."""
    found = json.loads(line)
    if "bad" in found:
        raise BadFile(found["bad"])
    if "failed" in found:
        raise ErrandFailed(found["failed"], found["detail"])
    return found["value"]


def _answer(process: subprocess.Popen[bytes], deadline: float, seconds: float) -> bytes:
    """What the process writes until it closes its end."""
    assert process.stdout is not None
    chunks = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not chunks.endswith(b"\n"):
            if time.monotonic() >= deadline:
                raise ErrandFailed(f"it took more than {seconds:g} s")
            # A child of the process may hold the pipe open; then only the process itself tells of its end.
            ended = process.poll() is not None
            if selector.select(0 if ended else _TICK):
                chunk = os.read(process.stdout.fileno(), 2**20)
                chunks += chunk
                if not chunk:
                    break
            elif ended:
                break
            if len(chunks) > _LONGEST_ANSWER:
                raise ErrandFailed(f"its answer has more than {_LONGEST_ANSWER >> 20} MiB")
    return bytes(chunks)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it started."""
    kill_group(process)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def _tail(log: Any) -> str:
    log.seek(max(log.seek(0, os.SEEK_END) - 4096, 0))
    text: str = log.read().decode("utf-8", "replace")
    return text


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for what an errand leaves; it goes with its context."""
    return tempfile.TemporaryDirectory(prefix="d2lparams-", ignore_cleanup_errors=True)


def existing(path: Path) -> str:
    """A path as an errand needs it: its process may have another current folder."""
    return str(path.absolute())
