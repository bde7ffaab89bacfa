"""Files of a Flax model's variables: msgpack with and without a target, and NumPy's archive of a flat dict.

Flax writes the tree of variables; which module it belongs to is not in the file. Without a target nothing is
compared when the file is read: it is `module.apply` that finds out, so the model is applied once to a shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization
from flax.traverse_util import flatten_dict, unflatten_dict

from backends.uses.jax import Model, uses_of
from d2lparams.interface import Array, Format

Entries = dict[str, Array]
Change = Callable[[Entries], Entries]


def _write(model: Model, path: Path) -> None:
    path.write_bytes(serialization.to_bytes(model[1]))


def _into_target(model: Model, path: Path) -> Model:
    module, variables = model
    return module, serialization.from_bytes(variables, path.read_bytes())


def _without_target(model: Model, path: Path) -> Model:
    module, variables = model
    restored = serialization.msgpack_restore(path.read_bytes())
    return _applied(module, restored, variables)


def _edit_msgpack(path: Path, change: Change) -> None:
    entries = flatten_dict(serialization.msgpack_restore(path.read_bytes()), sep="/")
    path.write_bytes(serialization.msgpack_serialize(unflatten_dict(change(entries), sep="/")))


def _write_archive(model: Model, path: Path) -> None:
    entries: dict[str, Any] = flatten_dict(model[1], sep="/")
    with path.open("wb") as file:
        np.savez(file, **entries)


def _from_archive(model: Model, path: Path) -> Model:
    module, variables = model
    with np.load(path) as archive:
        restored = unflatten_dict(dict(archive), sep="/")
    return _applied(module, restored, variables)


def _edit_archive(path: Path, change: Change) -> None:
    with np.load(path) as archive:
        entries: dict[str, Any] = change(dict(archive))
    with path.open("wb") as file:
        np.savez(file, **entries)


def _applied(module: Any, restored: Any, variables: Any) -> Model:
    """The model with what was read, after a first call; the width of the input is that of the first layer."""
    # The first layer that is called: in a tree of variables another may stand before it.
    kernel = flatten_dict(variables["params"])[uses_of((module, variables))[0].leaves["weight"]]
    jax.eval_shape(module.apply, restored, jax.ShapeDtypeStruct((1, kernel.shape[0]), kernel.dtype))
    return module, restored


FORMATS: Sequence[Format[Model]] = [
    Format("from_bytes", "serialization.from_bytes(params, data)", _write, _into_target, _edit_msgpack),
    Format(
        "msgpack_restore",
        "params = serialization.msgpack_restore(data); net.apply(params, x)",
        _write,
        _without_target,
        _edit_msgpack,
    ),
    Format(
        "numpy.savez",
        "params = unflatten_dict(dict(np.load(file)), sep='/'); net.apply(params, x)",
        _write_archive,
        _from_archive,
        _edit_archive,
    ),
]
