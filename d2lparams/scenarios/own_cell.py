"""A cell of the user's own, run as a scenario; the magic `%%compare` of a notebook runs this.

It is not listed with the others: workers take it as a file of scenarios. `Observer.given` says what is asked:

    source      the file that the cell stands in; empty lines before it make its lines count as in the notebook
    filename    what tracebacks call it
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from d2lparams.cells import remember
from d2lparams.interface import MLP, SGD, Adam, AdamW, Backend, Unsupported
from d2lparams.scenarios.registry import Observer, scenario

NAMES = {
    "np": np,
    "MLP": MLP,
    "SGD": SGD,
    "Adam": Adam,
    "AdamW": AdamW,
    "Unsupported": Unsupported,
}
"""What a cell can use beside `backend` and `observe`."""


@scenario(section="6.2", title="A cell of your own")
def cell(backend: Backend[Any], observe: Observer) -> None:
    """What the cell asks."""
    __tracebackhide__ = True
    source, filename = Path(observe.given["source"]).read_text(encoding="utf-8"), observe.given["filename"]
    remember(source, filename)
    module = ModuleType("cell")
    # Dataclasses and pickle look a class up by the name of its module.
    sys.modules["cell"] = module
    vars(module).update(NAMES, backend=backend, observe=observe)
    exec(compile(source, filename, "exec", dont_inherit=True), vars(module))
