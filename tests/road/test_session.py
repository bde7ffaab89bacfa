"""A session on the real frameworks: the second comparison starts no process and sees what the first one saw."""

from __future__ import annotations

from typing import Any

import pytest

import d2lparams
from d2lparams.columns import adapters

FRAMEWORKS = [name for name, adapter in adapters().items() if not adapter.reference]


def seen(comparison: Any) -> dict[str, Any]:
    """What there is to compare: what is drawn anew each time is for the eye."""
    return {
        f"{run.name}: {one.name}": [
            (seen.name, seen.value) for seen in one.observations if seen.kind != "drawing"
        ]
        for run in comparison.columns
        for one in run.scenarios
    }


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_second_comparison_starts_no_process_and_sees_the_same(framework: str) -> None:
    """Nor what the first one left: names that are counted, and what is switched for the whole process."""
    asked = ["forward", "tying", "default-initializers", "lazy-shapes"]
    with d2lparams.Session([framework]) as session:
        # The second one begins with what the first one begins with, and not with what float64 has switched on.
        first = session.compare(scenarios=asked)
        pids = session.pids
        again = session.compare(scenarios=asked)
        alone = session.compare(scenarios=["default-initializers"])
        assert session.pids == pids
        assert set(pids) == {"numpy", framework}
    assert {run.status for run in (*first.columns, *again.columns)} == {"ok"}
    assert seen(again) == seen(first)
    assert seen(alone) == seen(d2lparams.compare([framework], ["default-initializers"]))
