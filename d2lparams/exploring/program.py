"""A program of the search: a form of model and what is done to it, as data that JSON can hold.

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from d2lparams.interface import MLP, ROLES, SGD, Adam, By, Optimizer, Role

Do = Literal["write", "tie", "gradients", "train", "train on", "live", "file", "carry"]

ROWS = 3
"""Of every batch."""

# All settings are numbers that binary32 holds exactly. Adam's epsilon has the size of the gradients, lest it
# turn their rounding into steps.
OPTIMIZERS: dict[str, Optimizer] = {
    "SGD": SGD(0.125),
    "SGD with momentum": SGD(0.125, momentum=0.875),
    "Adam": Adam(0.125, beta1=0.875, beta2=0.75, epsilon=0.125),
}


@dataclass(frozen=True)
class Operation:
    """One thing that is done to a model.

    Attributes:
        do: "write" values through one use, "tie" two layers of the model that was built, look at "gradients",
            "train" one step with a new optimizer or "train on" with the last one, "live" a life cycle, save to
            a "file" and load it into another model, "carry" the values over into another model.
        way: the name of the optimizer, the life cycle or the format.
        layer: that is written, or gives up its own parameters.
        to: the layer whose parameters it takes.
        role: that is written.
        by: how it is tied.
        roles: what is tied.
    """

    do: Do
    way: str = ""
    layer: int = 0
    to: int = 0
    role: Role = "weight"
    by: By = "module"
    roles: tuple[Role, ...] = ROLES

    @property
    def name(self) -> str:
        """What is done, without the places at which it is done."""
        match self.do:
            case "tie":
                return f"tie by {self.by}"
            case "live":
                return self.way
            case "file":
                return f"file: {self.way}"
            case "train" | "train on":
                return f"{self.do}, {self.way}" if self.way else self.do
            case "carry":
                return "export and load"
        return self.do

    def __str__(self) -> str:
        match self.do:
            case "write":
                return f"write other values into layer {self.layer}'s {self.role}"
            case "tie":
                return f"tie layer {self.layer} to layer {self.to} by {self.by} ({' and '.join(self.roles)})"
            case "gradients":
                return "compute gradients"
            case "train":
                return f"take a step with {self.way}"
            case "train on":
                return "take another step with the same optimizer"
            case "live":
                return f"life cycle: {self.way}"
            case "file":
                return f"save to a file and load it into another model: {self.way}"
            case "carry":
                return "export the values and load them into another model"


@dataclass(frozen=True)
class Program:
    """A form of model, and what is done to one of this form, in order."""

    spec: MLP
    operations: tuple[Operation, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"spec": asdict(self.spec), "operations": [asdict(one) for one in self.operations]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Program:
        """As `to_json` wrote it."""
        operations = [Operation(**{**one, "roles": tuple(one["roles"])}) for one in data["operations"]]
        return cls(MLP(**data["spec"]), tuple(operations))

    @property
    def wide(self) -> bool:
        """Whether it needs 64 bits, which for some frameworks is a switch of the whole process."""
        return self.spec.dtype == "float64" or any(one.name == "cast" for one in self.operations)

    @property
    def complexity(self) -> tuple[int, ...]:
        """What makes one program smaller than another: fewer operations, then fewer layers, then the rest."""
        spec = self.spec
        settings = [spec.activation != "identity", spec.dtype != "float32", spec.lazy, spec.nested]
        tied = sum(map(len, spec.tied)) + (spec.by == "parameter") + (len(spec.roles) == 1)
        places = sum(one.layer + one.to + (one.role == "bias") for one in self.operations)
        return (len(self.operations), spec.layers, tied, sum(settings), sum(spec.sizes), places)

    def __str__(self) -> str:
        return "\n".join([described(self.spec), *(f"then {one}" for one in self.operations)])


def described(spec: MLP) -> str:
    """A form of model, in words."""
    words = [f"{'nested ' * spec.nested}MLP {'-'.join(map(str, spec.sizes))}", spec.activation, spec.dtype]
    if spec.lazy:
        words.append("built lazily")
    for group in spec.tied:
        layers = " and ".join(map(str, sorted(group)))
        what = "" if len(spec.roles) == 2 else f" ({spec.roles[0]} only)"
        words.append(f"layers {layers} tied by {spec.by}{what}")
    return ", ".join(words)
