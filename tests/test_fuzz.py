"""Files of every format, harmed in thousands of ways: each is refused in a sentence, or is whole.

Whatever is done to a file, opening it and reading all that is in it ends in `BadFile`, or gives arrays of the
shapes and dtypes that were announced; it never raises anything else, crashes, hangs, or takes much memory. All
of it is drawn from a seed, which a failure tells. `FUZZ=20` in the environment tries twenty times as much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import samples

ROOT = Path(__file__).parent.parent
TIMES = int(os.environ.get("FUZZ", "1"))
ROUNDS = {**dict.fromkeys(samples.IN_PROCESS, 3000), **dict.fromkeys(samples.HDF5, 1000)}


@pytest.mark.parametrize(("form", "rounds"), ROUNDS.items(), ids=ROUNDS.keys())
def test_a_harmed_file_is_refused_or_whole(form: str, rounds: int, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", "0"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", form, str(rounds * TIMES), str(tmp_path), str(seed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300 * TIMES,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == rounds * TIMES
    # Harm that is never seen, or always, would test nothing.
    assert counts["bad"] > rounds * TIMES // 4
    assert counts["whole"] > rounds * TIMES // 100
    left = {path.name for path in tmp_path.iterdir()}
    assert all(name.startswith(("sample.", "harmed.")) for name in left)
