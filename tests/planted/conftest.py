"""Each run is made once, and at the end the score is told."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.planted.catalog import ERRORS, Planted
from tests.planted.running import Ran, run_beside

SCORE = pytest.StashKey[dict[Planted, str]]()


@pytest.fixture(scope="session")
def run(command: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Ran]:
    """Run the errors of one backend that are looked for in one group of scenarios."""

    @cache
    def run(backend: str, group: str) -> Ran:
        errors = [one for one in ERRORS if not one.why_not and (one.backend, one.group) == (backend, group)]
        return run_beside(command, backend, errors, tmp_path_factory.mktemp(f"{backend}-{group}"))

    return run


@pytest.fixture
def score(request: pytest.FixtureRequest) -> dict[Planted, str]:
    """Where each error was flagged, for the table at the end; empty for one that was not caught."""
    return request.config.stash.setdefault(SCORE, {})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The score, and with PLANTED_REPORT a file of Markdown with the table."""
    flagged = config.stash.get(SCORE, None)
    if flagged is None:
        return
    looked_at = [one for one in ERRORS if one in flagged]
    caught = [one for one in looked_at if flagged[one]]
    score = f"planted errors: {len(caught)} of {len(looked_at)} caught"
    rows = [
        (one.backend, one.says, flagged[one] or f"not caught: {one.why_not or 'nothing flags it'}")
        for one in looked_at
    ]
    terminalreporter.section("planted errors")
    for row in rows:
        terminalreporter.write_line(" | ".join(row))
    terminalreporter.write_line(score)
    if target := os.environ.get("PLANTED_REPORT"):
        cells = [("backend", "error", "flagged by"), ("---", "---", "---"), *rows]
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]
        Path(target).write_text(f"{score[0].upper()}{score[1:]}.\n\n" + "\n".join(lines) + "\n", "utf-8")
