"""The benchmark of the start runs, and writes what it found; how long anything takes is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

STARTUP = Path(__file__).parent.parent / "benchmarks" / "startup.py"


def test_it_answers_for_each_command_and_keeps_what_others_have_answered(tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text('{"another question": {"rows": []}}')
    done = subprocess.run(
        [sys.executable, STARTUP, "1", str(answers)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(answers.read_text())
    assert set(found) == {"another question", "startup"}
    rows = found["startup"]["rows"]
    assert [row["what"] for row in rows] == ["--help", "list", "compare no-such-column"]
    for row in rows:
        assert row["spread"][0] <= row["ratio"] <= row["spread"][1]
        assert row["kept"] is (row["ratio"] <= row["promised"])
        assert f"{row['what']}: ratio" in done.stdout
