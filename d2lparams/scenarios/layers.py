"""Other layers, whose parameters do not look alike: orientation, gate order, biases, statistics, defaults.

Each framework's layer is given the same canonical values (see `Layers` in `d2lparams.subjects`) and must
compute what the reference computes. Wherever they can be, weights are square and asymmetric, and no bias is
zero, so that a swapped axis or gate cannot hide. All in float32, within 1e-5 of the largest entry: a sum of
28 terms, the convolution's, is off by at most 28 roundings of 6e-8 of the sum of their magnitudes, which for
numbers drawn so is some three times the largest entry; twice that for two that are compared. Others have
fewer terms, and activations whose slopes are at most 1; what is normalised is divided by a deviation of the
order of its entries.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from d2lparams.interface import Array, Backend, Layer, Layers
from d2lparams.scenarios.initializers import describe, histogram
from d2lparams.scenarios.inputs import draw
from d2lparams.scenarios.registry import Observer, scenario

RTOL = 1e-5
Values = dict[str, Array]
SIZE = 3  # channels in and out, features and units: square wherever it can be
EPSILON = 0.125  # of normalisations; far from every framework's default, of which Keras' is 1e-3
TOKENS = np.array([4, 0, 3, 3, 1])
# Large enough that a bound or a deviation measured on it is within a percent.
LARGE = {
    "dense": Layer("dense", 256, 1024),
    "conv2d": Layer("conv2d", 32, 1024),
    "embedding": Layer("embedding", 1024, 128),
    "lstm": Layer("lstm", 128, 256),
    "gru": Layer("gru", 128, 256),
    "batchnorm": Layer("batchnorm", 64, 64),
    "layernorm": Layer("layernorm", 64, 64),
}


@scenario(section="7.2", title="A convolution")
def conv2d(backend: Backend[Any], observe: Observer) -> None:
    """Is a kernel (out, in, height, width) or (height, width, in, out), and what does it compute?"""
    layers, layer = backend.layers(), Layer("conv2d", SIZE, SIZE, kernel=(SIZE, SIZE))
    values = {"weight": _draw(1, (SIZE, SIZE, SIZE, SIZE)), "bias": _draw(2, (SIZE,))}
    _observe(layers, observe, layer, values, _draw(3, (2, SIZE, 5, 5)))


@scenario(section="8.5", title="Batch normalisation")
def batch_norm(backend: Backend[Any], observe: Observer) -> None:
    """Which statistics does it keep, what does its momentum mean, and is the variance kept the unbiased one?

    With one epsilon for all, the outputs must agree, in training and afterwards. How far the running statistics
    move towards a batch, and which of the two variances they move towards, is a framework's own way. That they
    move once, as the default momentum says (which is the old share or the new one), and that the layer computes
    with them afterwards, is not.
    """
    layers, layer = backend.layers(), Layer("batchnorm", SIZE, SIZE, epsilon=EPSILON)
    values = {
        "weight": _draw(1, (SIZE,)),
        "bias": _draw(2, (SIZE,)),
        "running mean": _draw(3, (SIZE,)),
        "running variance": 1 + _draw(4, (SIZE,)) / 2,
    }
    native, x = _observe(layers, observe, layer, values, 4 * _draw(5, (8, SIZE)))
    observe.invariant("output in training", layers.forward(native, layer, x, training=True), rtol=RTOL)
    after = layers.read(native, layer)
    mean, biased, unbiased = x.mean(axis=0), x.var(axis=0), x.var(axis=0, ddof=1)
    share = float(np.median((after["running mean"] - values["running mean"]) / (mean - values["running mean"])))
    observe.trait("a new batch counts", f"{share:.3g}")
    moved = after["running variance"] - (1 - share) * values["running variance"]
    found = {"biased": share * biased, "unbiased": share * unbiased}
    kept = [name for name, expected in found.items() if np.allclose(moved, expected, rtol=1e-3)]
    observe.trait("running variance", " or ".join(kept) or "neither the biased nor the unbiased")
    observe.invariant("running variance is one of the known", bool(kept), expected=True)
    momentum = layers.defaults("batchnorm").get("momentum", share)
    once = min(abs(share - momentum), abs(share - (1 - momentum))) < 1e-3
    observe.invariant("a new batch counts as the default momentum says", once, expected=True)
    deviation = np.sqrt(after["running variance"] + EPSILON)
    expected = (x - after["running mean"]) / deviation * values["weight"] + values["bias"]
    off = np.max(np.abs(layers.forward(native, layer, x) - expected)) / np.max(np.abs(expected))
    observe.invariant("output afterwards, by its own statistics", bool(off <= RTOL), expected=True)


@scenario(section="11.7", title="Layer normalisation")
def layer_norm(backend: Backend[Any], observe: Observer) -> None:
    """What does it call its scale and shift, and which epsilon has it by default?"""
    layers, layer = backend.layers(), Layer("layernorm", SIZE, SIZE, epsilon=EPSILON)
    values = {"weight": _draw(1, (SIZE,)), "bias": _draw(2, (SIZE,))}
    _observe(layers, observe, layer, values, 4 * _draw(3, (4, SIZE)))


@scenario(section="10.1", title="LSTM")
def lstm(backend: Backend[Any], observe: Observer) -> None:
    """In which order do the four gates stand, together or apart, and is there one bias or are there two?"""
    values = {
        "input weight": _draw(1, (4, SIZE, SIZE)),
        "hidden weight": _draw(2, (4, SIZE, SIZE)),
        "bias": _draw(3, (4, SIZE)),
    }
    _observe(backend.layers(), observe, Layer("lstm", SIZE, SIZE), values, _draw(4, (2, 4, SIZE)))


@scenario(section="10.2", title="GRU")
def gru(backend: Backend[Any], observe: Observer) -> None:
    """In which order do the three gates stand, and is the new gate's hidden bias inside of the reset gate?"""
    values = {
        "input weight": _draw(1, (3, SIZE, SIZE)),
        "hidden weight": _draw(2, (3, SIZE, SIZE)),
        "input bias": _draw(3, (3, SIZE)),
        "hidden bias": _draw(4, (SIZE,)),
    }
    _observe(backend.layers(), observe, Layer("gru", SIZE, SIZE), values, _draw(5, (2, 4, SIZE)))


@scenario(section="15.1", title="An embedding tied to the output projection")
def tied_embedding(backend: Backend[Any], observe: Observer) -> None:
    """Can the matrix that embeds tokens also project onto them, and do both uses' gradients add up?

    The transposed tie of language models: five tokens, and vectors of five numbers, lest an orientation hide.
    """
    layers, layer = backend.layers(), Layer("tied-embedding", 5, 5)
    values = {"weight": _draw(1, (5, 5))}
    native, x = _observe(layers, observe, layer, values, TOKENS)
    y = _draw(2, (len(TOKENS), 5))
    observe.invariant("gradient of both uses", layers.gradients(native, layer, x, y)["weight"], rtol=RTOL)


@scenario(section="6.3", title="Default initialisations")
def default_initializers(backend: Backend[Any], observe: Observer) -> None:
    """Which distribution do parameters start from when nobody says, and with which bound or deviation?

    Measured on a large layer of each kind: the bound or the deviation is named by the rule that gives it within
    two percent. The values themselves are drawn as histograms.
    """
    layers = backend.layers()
    for kind, layer in LARGE.items():
        values = layers.read(layers.build(layer), layer)
        observe.trait(
            kind,
            {
                # The canonical bias of a gate is the sum of two where a framework has two.
                name: describe(value, _fans(layer, name), summed=name.endswith("bias"))
                for name, value in values.items()
            },
        )
        histograms = {name: histogram(value) for name, value in values.items()}
        observe.drawing(f"values of {kind}", histograms, form="histograms")


def _observe(
    layers: Layers[Any], observe: Observer, layer: Layer, values: Values, x: Array
) -> tuple[Any, Array]:
    """Arrays, defaults and output of one layer; returns the layer and its input."""
    native = layers.build(layer)
    layers.assign(native, layer, values)
    parts = layers.parts(native, layer)
    observe.trait(
        "arrays", [f"{one.name} {one.shape}{'' if one.trained else ', not trained'}" for one in parts]
    )
    observe.trait("axes", {one.name: one.axes for one in parts})
    observe.trait("dtypes", sorted({one.dtype for one in parts}))
    observe.trait("defaults", layers.defaults(layer.kind))
    back = layers.read(native, layer)
    observe.invariant("values", {name: back[name] for name in values}, expected=values, rtol=1e-6)
    observe.invariant("output", layers.forward(native, layer, x), rtol=RTOL)
    return native, x


def _draw(seed: int, shape: tuple[int, ...]) -> Array:
    return draw(seed, shape, "float32")


def _fans(layer: Layer, name: str) -> tuple[int, int]:
    """How many values go into one output of this weight, and out of one input: (in, out)."""
    area = layer.kernel[0] * layer.kernel[1] if layer.kind == "conv2d" else 1
    inputs = layer.outputs if name == "hidden weight" else layer.inputs
    return inputs * area, layer.outputs * area
