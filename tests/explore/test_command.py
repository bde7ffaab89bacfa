"""The command `explore` as its users run it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

FAKES = Path(__file__).with_name("fakes")


def test_nothing_new_is_exit_code_0(command, tmp_path):
    done = command("explore", "numpy", "--minutes", "0.1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 new findings" in done.stdout
    assert not (tmp_path / "findings").exists()


def test_a_finding_is_told_in_full_and_written_and_exit_code_1(command, tmp_path):
    done = command("explore", FAKES / "parts.py", "--minutes", "0.6", "-o", tmp_path / "here", seconds=300)
    assert done.returncode == 1, done.stderr
    for said in ("tied by module", "take a step with Adam", "must hold", "share no storage", "shows it"):
        assert said in done.stdout
    assert list((tmp_path / "here").glob("*.py"))


def test_a_place_that_cannot_be_written_to_is_bad_usage(command, tmp_path):
    (tmp_path / "file").touch()
    done = command("explore", "numpy", "-o", tmp_path / "file")
    assert done.returncode == 2
    assert "cannot write to" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_column_is_bad_usage(command):
    done = command("explore", "torhc")
    assert done.returncode == 2
    assert "did you mean 'torch'" in done.stderr


def test_an_interrupt_shows_what_is_known(start, tmp_path):
    with start("explore", "numpy", "--minutes", "5", cwd=tmp_path) as process:
        # Until it has begun, an interrupt ends it too, but says nothing.
        time.sleep(8)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "programs run" in printed
