"""Benchmarks run in every framework's environment, whatever time anything may take there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d2lparams.columns import adapters

Figures = Callable[..., list[dict[str, Any]]]
FRAMEWORKS = [name for name, one in adapters().items() if not one.reference]


@pytest.fixture
def figures(perform: Callable[..., str], tmp_path: Path) -> Figures:
    """What a benchmark found."""

    def figures(name: str, *options: Any) -> list[dict[str, Any]]:
        file = tmp_path / "found.json"
        perform(name, "--json", file, *options)
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))[name]["figures"]
        return found

    return figures


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_both_sides_list_the_same_and_are_measured(framework: str, figures: Figures) -> None:
    found = figures("looking", "--quick", "--rounds", 2, "--only", framework)
    assert [one["what"].partition(":")[0] for one in found[::2]][:2] == [
        f"{framework}, many tensors",
        f"{framework}, large tensors",
    ]
    for time, memory in zip(found[::2], found[1::2]):
        assert len(time["details"]["ours"]) == len(time["details"]["theirs"]) == 2
        assert time["value"] > 0
        assert memory["what"] == f"{time['what']}: memory"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_our_steps_and_those_by_hand_are_measured(framework: str, figures: Figures) -> None:
    options = ("--rounds", 2, "--seconds", 0.001, "--nets", "small", "--columns", framework)
    found = figures("training", *options)
    title = adapters()[framework].title
    by_hand = [one for one in found if "by hand" in one["what"]]
    assert [one["what"].partition(" 4-8")[0] for one in by_hand] == [title, title]
    assert ["step, by hand" in by_hand[0]["what"], "run, by hand" in by_hand[1]["what"]] == [True, True]
    assert all(one["target"] == 1.05 for one in by_hand)
    assert all(one["details"]["candidates"] for one in by_hand)
