"""The reference's layers, in canonical form, every computation in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from d2lparams.interface import Array, Layer, LayerKind, Layers, Part

Values = dict[str, Array]
EPSILON = 2.0**-10

# The axes of each canonical array, by the layer's kind.
_AXES: dict[LayerKind, dict[str, str]] = {
    "dense": {"weight": "out, in", "bias": "out"},
    "conv2d": {"weight": "out, in, height, width", "bias": "out"},
    "batchnorm": dict.fromkeys(("weight", "bias", "running mean", "running variance"), "features"),
    "layernorm": dict.fromkeys(("weight", "bias"), "features"),
    "lstm": {
        "input weight": "gate (i f g o), units, in",
        "hidden weight": "gate (i f g o), units, units",
        "bias": "gate (i f g o), units",
    },
    "gru": {
        "input weight": "gate (r z n), units, in",
        "hidden weight": "gate (r z n), units, units",
        "input bias": "gate (r z n), units",
        "hidden bias": "units",
    },
    "embedding": {"weight": "vocabulary, width"},
    "tied-embedding": {"weight": "vocabulary, width"},
}


class NumpyLayers(Layers[Values]):
    """A layer is its canonical values."""

    def build(self, layer: Layer) -> Values:
        """A layer of zeros, with ones for a scale and a variance."""
        ones = layer.kind in ("batchnorm", "layernorm")
        return {
            name: np.full(shape, float(ones and name in ("weight", "running variance")), layer.dtype)
            for name, shape in _shapes(layer).items()
        }

    def parts(self, native: Values, layer: Layer) -> list[Part]:
        """The canonical arrays."""
        return [
            Part(name, value.shape, str(value.dtype), _AXES[layer.kind][name], not name.startswith("running"))
            for name, value in native.items()
        ]

    def read(self, native: Values, layer: Layer) -> Values:
        """Copies of the arrays."""
        return {name: value.copy() for name, value in native.items()}

    def assign(self, native: Values, layer: Layer, values: Mapping[str, Array]) -> None:
        """Write into the arrays."""
        for name, value in values.items():
            native[name][...] = value

    def forward(self, native: Values, layer: Layer, x: Array, *, training: bool = False) -> Array:
        """The output, float64."""
        values = {name: value.astype("float64") for name, value in native.items()}
        epsilon = EPSILON if layer.epsilon is None else layer.epsilon
        if layer.kind == "batchnorm" and training:
            mean, variance = x.mean(axis=0, dtype="float64"), x.var(axis=0, dtype="float64")
            # The update follows PyTorch's default: a tenth, and the unbiased variance.
            native["running mean"] += 0.1 * (mean - native["running mean"])
            unbiased = variance * len(x) / (len(x) - 1)
            native["running variance"] += 0.1 * (unbiased - native["running variance"])
            return _normalise(values, x, mean, variance, epsilon)
        if layer.kind == "batchnorm":
            return _normalise(values, x, values["running mean"], values["running variance"], epsilon)
        if layer.kind == "layernorm":
            mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
            return _normalise(values, x, mean, variance, epsilon)
        return _FORWARD[layer.kind](values, x)

    def gradients(self, native: Values, layer: Layer, x: Array, y: Array) -> Values:
        """Of the mean squared error of a tied embedding: the projection's part and the embedding's."""
        weight = native["weight"].astype("float64")
        embedded = weight[x]
        delta = 2.0 * (embedded @ weight.T - y) / y.size
        gradient = delta.T @ embedded
        np.add.at(gradient, x, delta @ weight)
        return {"weight": gradient}

    def defaults(self, kind: LayerKind) -> dict[str, Any]:
        """The epsilon of normalisations; there is nothing else to choose."""
        return {"epsilon": EPSILON} if kind in ("batchnorm", "layernorm") else {}


def _shapes(layer: Layer) -> dict[str, tuple[int, ...]]:
    inputs, outputs = layer.inputs, layer.outputs
    shapes: dict[LayerKind, dict[str, tuple[int, ...]]] = {
        "dense": {"weight": (outputs, inputs), "bias": (outputs,)},
        "conv2d": {"weight": (outputs, inputs, *layer.kernel), "bias": (outputs,)},
        "batchnorm": dict.fromkeys(_AXES["batchnorm"], (inputs,)),
        "layernorm": dict.fromkeys(_AXES["layernorm"], (inputs,)),
        "lstm": {
            "input weight": (4, outputs, inputs),
            "hidden weight": (4, outputs, outputs),
            "bias": (4, outputs),
        },
        "gru": {
            "input weight": (3, outputs, inputs),
            "hidden weight": (3, outputs, outputs),
            "input bias": (3, outputs),
            "hidden bias": (outputs,),
        },
        "embedding": {"weight": (inputs, outputs)},
        "tied-embedding": {"weight": (inputs, outputs)},
    }
    return shapes[layer.kind]


def _normalise(values: Values, x: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    normal: Array = (x - mean) / np.sqrt(variance + epsilon) * values["weight"] + values["bias"]
    return normal


def _dense(values: Values, x: Array) -> Array:
    output: Array = x @ values["weight"].T + values["bias"]
    return output


def _convolve(values: Values, x: Array) -> Array:
    """Cross-correlation, as every framework calls a convolution."""
    windows = np.lib.stride_tricks.sliding_window_view(x, values["weight"].shape[2:], axis=(2, 3))
    output: Array = np.einsum("nihwab,oiab->nohw", windows, values["weight"]) + values["bias"][:, None, None]
    return output


def _sigmoid(x: Array) -> Array:
    output: Array = 1 / (1 + np.exp(-x))
    return output


def _lstm(values: Values, x: Array) -> Array:
    """Equations 10.1.1 to 10.1.5 of the book: c = f c + i g; h = o tanh(c)."""
    hidden = cell = np.zeros((len(x), values["bias"].shape[1]))
    outputs = []
    for now in np.moveaxis(x, 1, 0):
        gates = now @ np.swapaxes(values["input weight"], 1, 2) + hidden @ np.swapaxes(
            values["hidden weight"], 1, 2
        )
        i, f, g, o = gates + values["bias"][:, None]
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        hidden = _sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


def _gru(values: Values, x: Array) -> Array:
    """As section 10.2 of the book, with the reset gate applied after the hidden matrix, as frameworks do.

    n = tanh(W x + b + r (U h + c)); h = z h + (1 - z) n.
    """
    hidden = np.zeros((len(x), values["hidden bias"].shape[0]))
    outputs = []
    for now in np.moveaxis(x, 1, 0):
        given = now @ np.swapaxes(values["input weight"], 1, 2) + values["input bias"][:, None]
        past = hidden @ np.swapaxes(values["hidden weight"], 1, 2)
        reset, update = _sigmoid(given[0] + past[0]), _sigmoid(given[1] + past[1])
        new = np.tanh(given[2] + reset * (past[2] + values["hidden bias"]))
        hidden = update * hidden + (1 - update) * new
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


def _embed(values: Values, x: Array) -> Array:
    output: Array = values["weight"][x]
    return output


def _embed_and_project(values: Values, x: Array) -> Array:
    output: Array = values["weight"][x] @ values["weight"].T
    return output


_FORWARD: dict[LayerKind, Callable[[Values, Array], Array]] = {
    "dense": _dense,
    "conv2d": _convolve,
    "lstm": _lstm,
    "gru": _gru,
    "embedding": _embed,
    "tied-embedding": _embed_and_project,
}
