"""A model of the user's own, carried from one column to another one and back; `d2lparams transfer` runs this.

It is not listed with the others: workers take it as a file of scenarios. `Observer.given` says what is asked:

    model      FILE.py:FUNCTION, the function that builds it; it is called with the backend's name
    source     the column that hands over
    save       where the values are to be kept, too, as a safetensors file
    mapping    from layers of the target to layers of the source, as JSON
    untie      "yes" lets places that are one in the source be two in the target
    settings   "no" leaves settings such as epsilon out of account
    rtol       how far results may be apart, relative to the largest magnitude in an array

Beside the function that builds, the file may have a function `inputs`, which returns a batch: a NumPy array,
channels first; or that and the kind of the layer that takes it, where three axes could mean two things.
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from d2lparams.interface import Backend
from d2lparams.scenarios.registry import Observer, scenario
from d2lparams.transfers import bring_back, hand_over, take_over
from d2lparams.worker import load_file


@scenario(section="6.2", title="A model carried elsewhere and back", stages=3)
def transfer(backend: Backend[Any], observe: Observer) -> None:
    """Is the model the same in the other framework?"""
    assert observe.folder is not None
    given, folder = observe.given, observe.folder
    name, _, function = given["model"].rpartition(":")
    # What stands beside the file can be imported by it; last, lest a torch.py there be taken for PyTorch.
    sys.path.append(str(Path(name).parent))
    module = load_file(Path(name), "model_file")
    model = _built(module, function, backend.name)
    if observe.stage == 0:
        x, kind = _inputs(module)
        hand_over(backend, model, folder, observe.column, x, kind)
        if "save" in given:
            shutil.copyfile(folder / observe.column / "parameters.safetensors", given["save"])
    elif observe.stage == 1:
        options: dict[str, Any] = {
            "untie": given.get("untie") == "yes",
            "settings": given.get("settings") != "no",
            "mapping": json.loads(given.get("mapping", "{}")),
        }
        rtol = float(given["rtol"])
        take_over(backend, model, folder, given["source"], observe, options, rtol=rtol, told=True)
    else:
        for path in sorted((folder / observe.column / "back").iterdir()):
            bring_back(backend, model, folder, path.stem, observe)


def _built(module: ModuleType, function: str, framework: str) -> Any:
    build = getattr(module, function, None)
    if not callable(build):
        raise ValueError(f"{module.__file__} has no function {function!r}")
    model = build(framework) if inspect.signature(build).parameters else build()
    if model is None:
        raise ValueError(f"{function}({framework!r}) returned None, and not a model of that framework")
    return model


def _inputs(module: ModuleType) -> tuple[Any, Any]:
    function = getattr(module, "inputs", None)
    if function is None:
        return None, None
    found = function()
    x, kind = found if isinstance(found, tuple) else (found, None)
    return np.asarray(x), kind
