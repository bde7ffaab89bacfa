"""A scenario of three stages, in which columns leave files for each other, and one of a single stage."""

from __future__ import annotations

from typing import Any

from d2lparams.scenarios import Observer, scenario


@scenario(section="0", title="Exchange", stages=3)
def exchange(backend: Any, observe: Observer) -> None:
    """What have the others left, in the stages before this one?"""
    folder, stage = observe.folder, observe.stage
    assert folder is not None
    left = sorted(path.name for path in folder.iterdir() if int(path.name[0]) < stage)
    observe.trait(f"stage {stage}", left)
    observe.trait(f"given in stage {stage}", dict(observe.given))
    (folder / f"{stage} of {observe.column}").touch()
    if stage == 1 and observe.column == "raises":
        raise ArithmeticError("two and two is five")


@scenario(section="0", title="Once")
def once(backend: Any, observe: Observer) -> None:
    """How often is it called?"""
    observe.trait("called", observe.stage)
