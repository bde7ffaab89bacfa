"""How Gluon keeps the arrays of its layers.

Weights are (out, in), kernels (out, in, ...). The gates of a recurrent layer stand one under the other in one
matrix: input, forget, cell, output, and reset, update, new; each gate has two biases, which are added. A batch
normalisation calls its scale gamma and its shift beta, and keeps running mean and running variance as
parameters without a gradient. The default epsilon is 1e-5 everywhere.

A recurrent layer's parameters have the direction and the level in front of their names (`l0_i2h_weight`); here
they stand without, for each level and direction is a layer. A cell's have none.
"""

from __future__ import annotations

from d2lparams.interface import Conventions, Held

RECURRENT = [
    Held("i2h_weight", "input weight", "(gate units) in"),
    Held("h2h_weight", "hidden weight", "(gate units) past"),
    Held("i2h_bias", "input bias", "(gate units)"),
    Held("h2h_bias", "hidden bias", "(gate units)"),
]

CONVENTIONS: Conventions = {
    "dense": [Held("weight", "weight", "out in"), Held("bias", "bias", "out")],
    "conv1d": [Held("weight", "weight", "out in width"), Held("bias", "bias", "out")],
    "conv2d": [Held("weight", "weight", "out in height width"), Held("bias", "bias", "out")],
    "batchnorm": [
        Held("gamma", "weight", "features"),
        Held("beta", "bias", "features"),
        Held("running_mean", "running mean", "features"),
        Held("running_var", "running variance", "features"),
    ],
    "layernorm": [Held("gamma", "weight", "features"), Held("beta", "bias", "features")],
    "embedding": [Held("weight", "weight", "vocabulary width")],
    "lstm": RECURRENT,
    "gru": RECURRENT,
}
