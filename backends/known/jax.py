"""Which Flax layers are known and why another is not, and what is told of one use of a known one.

A layer is known by its very class: one that is derived from it may compute otherwise. A known class is refused
where its settings make it compute otherwise than its kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from backends.conventions.jax import CONVENTIONS, PROJECTION
from backends.uses.jax import Path
from d2lparams.interface import Array, Convention, Kind

KINDS: Mapping[type[nn.Module], Kind] = {
    nn.Dense: "dense",
    nn.Conv: "conv2d",
    nn.BatchNorm: "batchnorm",
    nn.LayerNorm: "layernorm",
    nn.Embed: "embedding",
}
"""The layers that are known by their class alone; an `nn.RNN` is known by its cell."""

_CELLS: Mapping[type[nn.Module], Kind] = {
    nn.LSTMCell: "lstm",
    nn.OptimizedLSTMCell: "lstm",
    nn.GRUCell: "gru",
}


@dataclass(frozen=True)
class Use:
    """One use of one layer, as it was seen.

    Attributes:
        module: the path of the module that was called.
        number: how many calls of that module came before.
        path: of the layer, where its arrays are.
        name: its class.
        kind: of layer.
        rows: how its arrays hold the canonical ones.
        leaves: where in the variables each array is, by its name within the layer.
        unsure: names of arrays that only seem to be there, for a lifted transformation handed them on.
        settings: as of `NativeLayer`.
        width: the size of the input's last axis.
        shape: of the output.
        channels: which of the output's axes is that of channels, where it is an image or a sequence with them.
        first: where it is in canonical layout.
        time: which of the output's axes is that of steps, of a recurrent layer.
        flipped: whether its last step comes first there.
    """

    module: Path
    number: int
    path: Path
    name: str
    kind: Kind
    rows: Convention
    leaves: Mapping[str, Path]
    unsure: tuple[str, ...]
    settings: Mapping[str, Any]
    width: int
    shape: tuple[int, ...]
    channels: int | None = None
    first: int = 1
    time: int | None = None
    flipped: bool = False

    @property
    def many(self) -> int:
        """The number of channels; 0 where there are none."""
        return 0 if self.channels is None else self.shape[self.channels]

    def turned(self, output: Any) -> Array:
        """An output in canonical layout, as an array of its own."""
        value = np.asarray(output)
        if self.channels is not None:
            value = np.moveaxis(value, self.channels, self.first)
        if self.time is not None:
            value = np.moveaxis(np.flip(value, self.time) if self.flipped else value, self.time, -2)
        return np.array(value, order="C")

    def native(self, output: Array) -> Array:
        """The way back, of channels."""
        return output if self.channels is None else np.moveaxis(output, self.first, self.channels)


def why_not(module: Any, x: Any) -> str:
    """Why a layer of a known class computes otherwise than its kind; "" when it does not."""

    def has(*names: str) -> bool:
        return any(getattr(module, name, None) is not None for name in names)

    why = ""
    # The first of the two times that nn.scan traces its body is by this class.
    if type(x).__name__ == "JaxprTracer":
        why = "is applied inside of nn.scan, where uses cannot be told apart"
    elif type(module) is nn.Dense and has("dot_general", "dot_general_cls"):
        why = "multiplies by a function of its own"
    elif type(module) is nn.Conv:
        if len(_sizes(module.kernel_size)) > 2:
            why = f"convolves over {len(_sizes(module.kernel_size))} axes; one and two are known"
        elif has("mask", "conv_general_dilated", "conv_general_dilated_cls"):
            why = "convolves with a mask or by a function of its own"
        elif set(_sizes(module.input_dilation or 1)) != {1}:
            why = "dilates its input, as a transposed convolution does"
    elif type(module) is nn.BatchNorm and len(_sizes(module.axis)) > 1:
        why = "keeps statistics over several axes"
    elif type(module) is nn.LayerNorm:
        for axes in (module.reduction_axes, module.feature_axes):
            if [axis % x.ndim for axis in _sizes(axes)] != [x.ndim - 1]:
                why = "normalises over other axes than the last"
    elif type(module) is nn.RNN:
        why = _why_not_cell(module.cell)
    return why


def _why_not_cell(cell: Any) -> str:
    if type(cell) not in _CELLS:
        return f"runs a {type(cell).__name__}; cells that are known are LSTMCell, OptimizedLSTMCell and GRUCell"
    if cell.gate_fn not in (nn.sigmoid, jax.nn.sigmoid, jax.lax.logistic):
        return "has another recurrent activation than the sigmoid"
    if cell.activation_fn not in (nn.tanh, jnp.tanh, jax.lax.tanh):
        return "has another activation than tanh"
    if cell.carry_init not in (nn.initializers.zeros_init(), jax.nn.initializers.zeros):
        return "begins with another state than zeros"
    return ""


def _sizes(value: Any) -> Sequence[int]:
    return (value,) if isinstance(value, int) else tuple(value)


def use_of(module: Any, method: str, x: Any, output: Any, kwargs: Mapping[str, Any]) -> Use:
    """What a use is, apart from where its arrays are."""
    settings: dict[str, Any] = {}
    layout: dict[str, Any] = {}
    if type(module) is nn.RNN:
        kind = _CELLS[type(module.cell)]
        given = {name: value for name, value in kwargs.items() if value is not None}
        reverse = given.get("reverse", module.reverse)
        if reverse:
            settings["reverse"] = True
        layout["time"] = 0 if given.get("time_major", module.time_major) else output.ndim - 2
        layout["flipped"] = reverse and not given.get("keep_order", module.keep_order)
    elif type(module) is nn.Conv:
        spatial = len(_sizes(module.kernel_size))
        kind = "conv1d" if spatial == 1 else "conv2d"
        layout = {"channels": output.ndim - 1, "first": output.ndim - 1 - spatial}
        if module.feature_group_count != 1:
            settings["groups"] = module.feature_group_count
    else:
        kind = "dense" if method == "attend" else KINDS[type(module)]
    if type(module) in (nn.BatchNorm, nn.LayerNorm):
        settings["epsilon"] = float(module.epsilon)
    if type(module) is nn.BatchNorm and output.ndim > 2:
        layout["channels"] = _sizes(module.axis)[0] % output.ndim
    return Use(
        module=module.path,
        number=0,
        path=(),
        name=type(module).__name__,
        kind=kind,
        rows=PROJECTION if method == "attend" else CONVENTIONS[kind],
        leaves={},
        unsure=(),
        settings=settings,
        width=x.shape[-1] if x.ndim else 0,
        shape=tuple(output.shape),
        **layout,
    )
