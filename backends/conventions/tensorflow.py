"""How Keras keeps the arrays of its layers.

Kernels are (..., in, out), channels stand last. The gates of a recurrent layer stand side by side in one
kernel: input, forget, cell, output, and update, reset, new (update is the share of the old state, as everywhere
here). An LSTM has one bias for each gate, a GRU two (with its default reset_after=True), one row each. A batch
normalisation calls its scale gamma and its shift beta; moving mean and variance are variables that are not
trained. The default epsilon is 1e-3 everywhere.
"""

from __future__ import annotations

from d2lparams.interface import Conventions, Held

CONVENTIONS: Conventions = {
    "dense": [Held("kernel", "weight", "in out"), Held("bias", "bias", "out")],
    "conv1d": [Held("kernel", "weight", "width in out"), Held("bias", "bias", "out")],
    "conv2d": [Held("kernel", "weight", "height width in out"), Held("bias", "bias", "out")],
    "batchnorm": [
        Held("gamma", "weight", "features"),
        Held("beta", "bias", "features"),
        Held("moving_mean", "running mean", "features"),
        Held("moving_variance", "running variance", "features"),
    ],
    "layernorm": [Held("gamma", "weight", "features"), Held("beta", "bias", "features")],
    "embedding": [Held("embeddings", "weight", "vocabulary width")],
    "lstm": [
        Held("kernel", "input weight", "in (gate units)"),
        Held("recurrent_kernel", "hidden weight", "past (gate units)"),
        Held("bias", "input bias", "(gate units)"),
    ],
    "gru": [
        Held("kernel", "input weight", "in (gate units)", "zrn"),
        Held("recurrent_kernel", "hidden weight", "past (gate units)", "zrn"),
        Held("bias", "input bias and hidden bias", "which (gate units)", "zrn"),
    ],
}

PROJECTION = [Held("embeddings", "weight", "out in")]
"""`ReversibleEmbedding` in reverse: the embedding's matrix as a dense layer without a bias."""

REVERSE = [Held("reverse_embeddings", "weight", "in out")]
"""The same where it is not tied: a matrix of its own."""
