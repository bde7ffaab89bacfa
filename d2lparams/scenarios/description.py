"""A scenario as it is listed and run.

Imports nothing that runs one: who lists scenarios, or has others run them, loads no more than this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from d2lparams.interface import Backend
    from d2lparams.scenarios.registry import Observer

Function = Callable[["Backend[Any]", "Observer"], None]


@dataclass(frozen=True)
class Scenario:
    """A scenario as it is listed and run.

    Attributes:
        name: the function's, with hyphens; what `-s` takes.
        section: of *Dive into Deep Learning* that it belongs to.
        title: one line.
        question: the function's docstring: what is asked, and what to look for.
        function: what is run; two descriptions of one scenario are equal whoever made them.
        group: the subject, which is the name of the module that it stands in.
        full: whether it runs only when it is asked for, because it takes long.
        stages: how often it is called on each column. A stage begins when the one before has ended on every
            column, and finds what that left in `Observer.folder`; the observations of all are one result.
    """

    name: str
    section: str
    title: str
    question: str
    function: Function = field(compare=False)
    group: str = ""
    full: bool = False
    stages: int = 1
