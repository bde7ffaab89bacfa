"""How long columns took before, so that the longest can be started first.

With fewer cores than columns, whoever starts last decides when all are done. The record is a file in the
cache, `seconds.json`: by environment, the longest that its column ever took. It is a hint; without it, or with
one that is wrong, a run is slower and no result is different.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from d2lparams import environments
from d2lparams.columns import Column
from d2lparams.results import Run


def longest_first(columns: Iterable[Column]) -> list[Column]:
    """The columns in the order in which to start them; without a record, one may have to be built: first."""
    known = _read()
    return sorted(columns, key=lambda column: -known.get(_key(column), math.inf))


def remember(columns: Sequence[Column], runs: Sequence[Run]) -> None:
    """Take down how long each column took, where that is longer than what is known."""
    known = _read()
    for column, run in zip(columns, runs, strict=True):
        if run.status == "ok" and run.scenarios:  # to build an environment is done once
            known[_key(column)] = max(run.seconds, known.get(_key(column), 0.0))
    partial = _file().with_name(f"seconds.json.{os.getpid()}")
    # Another command may write at the same time: the last one wins, and no reader sees half a file.
    with suppress(OSError):
        partial.write_text(json.dumps(known), encoding="utf-8")
        partial.replace(_file())
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def _key(column: Column) -> str:
    return environments.location(column).name


def _file() -> Path:
    return environments.cache_root() / "seconds.json"


def _read() -> dict[str, float]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
