"""The benchmark of looking at models runs in every framework's environment, whatever time it may take there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2lparams.columns import adapters

ROOT = Path(__file__).parent.parent.parent
MODELS = ["many tensors", "large tensors"]


@pytest.mark.parametrize("framework", [name for name, one in adapters().items() if not one.reference])
def test_both_sides_list_the_same_and_are_measured(framework: str, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    script = str(ROOT / "benchmarks" / "looking.py")
    order = [sys.executable, script, "--quick", "--rounds", "2", "--only", framework, "--json", str(file)]
    done = subprocess.run(order, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text(encoding="utf-8"))["looking"]["rows"]
    assert [row["model"] for row in rows if row["promised"]] == MODELS
    for row in rows:
        assert row["framework"] == framework
        assert row["tensors"] >= 4
        assert len(row["ours"]) == len(row["theirs"]) == 2
        assert row["ratio"] > 0
