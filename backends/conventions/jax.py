"""Flax linen keeps inputs before outputs and channels last, and has an array of its own for each gate.

A kernel is (in, out), that of a convolution (height, width, in, out), of one with groups (height, width, in for
each group, out). An embedding is (vocabulary, width), and `attend` reads it as a projection to the vocabulary.

An LSTM cell has a kernel for the input, `ii`, `if`, `ig`, `io`, and one for the state, `hi`, `hf`, `hg`, `ho`;
the first letter says what it is applied to, the second which gate it is. There is one bias for each gate, kept
with the state's kernel. A GRU cell's are `ir`, `iz`, `in` and `hr`, `hz`, `hn`; one bias for each gate, kept
with the input's kernel, and a second for the new gate, `hn.bias`, which stands inside of the reset gate.

Running statistics are in the collection "batch_stats", all else is in "params". They are float32 in a float64
model too, unless the layer has `force_float32_reductions=False`. A layer is named by what follows its own path;
a scale of a normalisation is what others call its weight. The default epsilon is 1e-5 for a batch normalisation
and 1e-6 for a layer normalisation; the running average keeps 0.99 of what it was.
"""

from __future__ import annotations

from d2lparams.interface import Conventions, Held

CONVENTIONS: Conventions = {
    "dense": [Held("kernel", "weight", "in out"), Held("bias", "bias", "out")],
    "conv1d": [Held("kernel", "weight", "width in out"), Held("bias", "bias", "out")],
    "conv2d": [Held("kernel", "weight", "height width in out"), Held("bias", "bias", "out")],
    "batchnorm": [
        Held("scale", "weight", "features"),
        Held("bias", "bias", "features"),
        Held("mean", "running mean", "features"),
        Held("var", "running variance", "features"),
    ],
    "layernorm": [Held("scale", "weight", "features"), Held("bias", "bias", "features")],
    "embedding": [Held("embedding", "weight", "vocabulary width")],
    "lstm": [
        Held("i{gate}.kernel", "input weight", "in units", "ifgo"),
        Held("h{gate}.kernel", "hidden weight", "past units", "ifgo"),
        Held("h{gate}.bias", "input bias", "units", "ifgo"),
    ],
    "gru": [
        Held("i{gate}.kernel", "input weight", "in units", "rzn"),
        Held("h{gate}.kernel", "hidden weight", "past units", "rzn"),
        Held("i{gate}.bias", "input bias", "units", "rzn"),
        Held("h{gate}.bias", "hidden bias", "units", "n"),
    ],
}

PROJECTION = [Held("embedding", "weight", "out in")]
"""An embedding's array as `attend` reads it: a dense layer without bias."""
