"""Functions that are run in other processes: what they answer, and how they end when they do not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from d2lparams import errands
from d2lparams.errands import ErrandFailed
from d2lparams.tensor_file import BadFile

MODULE = """\
import os, signal, sys, time
from d2lparams.tensor_file import BadFile

def double(number): return 2 * number
def talk(text): print(text); os.write(1, text.encode()); return text
def refuse(): raise BadFile("x.npz: it is cut short")
def fail(): raise ArithmeticError("two and two is\\nfive")
def leave(): sys.exit(3)
def vanish(): os._exit(3)
def crash(): import ctypes; print("on the way", file=sys.stderr); ctypes.string_at(0)
def sleep(pid):
    open(pid, "w").write(str(os.getpid()))
    time.sleep(3600)
def eat(): return len(bytearray(2**30))
def path(): return sys.path[:1]
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a function of the module above in another process."""
    (tmp_path / "errand_module.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return lambda name, options={}, **arguments: errands.run_apart(
        f"errand_module:{name}", arguments, **options
    )


def test_an_answer(run: Any) -> None:
    assert run("double", number=21) == 42
    assert run("double", number="ab") == "abab"


def test_what_is_printed_is_no_answer(run: Any) -> None:
    text = '{"value": 1}\n\ud800'[:12]
    assert run("talk", text=text) == text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fail", "ArithmeticError: two and two is five"),
        ("leave", "SystemExit: 3"),
        ("vanish", "the process left with exit code 3 before it had answered"),
        ("crash", "the process was killed by SIGSEGV"),
        ("eat", "MemoryError"),
        ("missing", "AttributeError: module 'errand_module' has no attribute 'missing'"),
    ],
)
def test_no_answer_is_one_sentence(run: Any, name: str, sentence: str) -> None:
    with pytest.raises(ErrandFailed) as caught:
        run(name, {"memory": 2**29})
    assert str(caught.value) == sentence
    if name == "crash":
        assert "on the way" in caught.value.detail
        assert "in crash" in caught.value.detail


def test_a_bad_file_stays_one(run: Any) -> None:
    with pytest.raises(BadFile, match=r"^x.npz: it is cut short$"):
        run("refuse")


def test_one_that_takes_too_long_is_ended(run: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ErrandFailed, match="it took more than 2 s"):
        run("sleep", {"seconds": 2}, pid=str(tmp_path / "pid"))
    assert time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_the_folder_of_the_script_is_not_searched(run: Any) -> None:
    """A module of ours must not stand in for one of the standard library: there is a `statistics` in both."""
    assert run("path") != [str(Path(errands.__file__).parent)]
    import statistics

    assert "d2lparams" not in str(statistics.__file__)


def test_the_reference_has_an_environment_of_its_own() -> None:
    version = errands.run_in_column("numpy", "platform:python_version", {})
    assert version.split(".")[:2] >= ["3", "11"]
    assert sys.version_info >= (3, 11)
