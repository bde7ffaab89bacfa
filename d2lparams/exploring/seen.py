"""What was seen of the models of a program after each of its operations; JSON there and back, bit for bit.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from d2lparams.checks import Array


@dataclass(frozen=True)
class Use:
    """One use of one parameter. `storage` is a number, the same for uses of one storage, in any model."""

    layer: int
    role: str
    storage: int
    value: Array


@dataclass(frozen=True)
class Snapshot:
    """A model at one moment.

    Attributes:
        uses: of its parameters, in order.
        output: for the program's batch; None where it was not asked for.
        counts: the framework's own.
        error: what was raised when it was looked at; then nothing else is there.
    """

    uses: tuple[Use, ...] = ()
    output: Array | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Seen:
    """What one operation did.

    Attributes:
        error: what it raised, its type first; "" when nothing.
        unsupported: why the framework cannot do it, by design.
        ended: how the process ended or that it hangs, in words; "" when it goes on.
        models: all that are alive, the current one last: a life cycle that gives a new model adds one.
        in_place: whether what came out is the model that went in.
        gradients: by "layer role", where they were asked for.
        loss: of a step, before it.
    """

    error: str = ""
    unsupported: str = ""
    ended: str = ""
    models: tuple[Snapshot, ...] = ()
    in_place: bool = True
    gradients: Mapping[str, Array] | None = None
    loss: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        gradients: dict[str, Any] | None = None
        if self.gradients is not None:
            gradients = {name: _packed(value) for name, value in self.gradients.items()}
        models = [
            {
                "uses": [[one.layer, one.role, one.storage, _packed(one.value)] for one in model.uses],
                "output": None if model.output is None else _packed(model.output),
                "counts": dict(model.counts),
                "error": model.error,
            }
            for model in self.models
        ]
        loss = None if self.loss is None else _packed(np.array(self.loss))
        return {**vars(self), "models": models, "gradients": gradients, "loss": loss}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Seen:
        """As `to_json` wrote it."""
        models = tuple(
            Snapshot(
                tuple(
                    Use(layer, role, storage, _unpacked(value)) for layer, role, storage, value in one["uses"]
                ),
                one["output"] and _unpacked(one["output"]),
                one["counts"],
                one["error"],
            )
            for one in data["models"]
        )
        gradients = data["gradients"] and {name: _unpacked(value) for name, value in data["gradients"].items()}
        loss = data["loss"] and float(_unpacked(data["loss"]))
        return cls(**{**data, "models": models, "gradients": gradients, "loss": loss})


def _packed(array: Array) -> list[Any]:
    return [str(array.dtype), list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _unpacked(data: list[Any]) -> Array:
    dtype, shape, text = data
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)
