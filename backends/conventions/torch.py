"""PyTorch keeps what stands in an output first: (out, in), and gates one under the other in one matrix.

Every array is the canonical one as it stands, or is after a split of its first axis, so that all of them can be
seen without a copy. A convolution in groups has (out, in / groups, ...), as canonical form has it then.

The gates of an LSTM are input, forget, cell, output; those of a GRU reset, update, new. Each gate has two
biases, one beside each weight, which are kept apart. A GRU applies its reset gate after the product with the
hidden weight, and the new gate's hidden bias stands inside of it. `nn.LSTM` and `nn.GRU` hold several levels
and directions, and say behind each name which one it is (`weight_ih_l0`, `weight_ih_l1_reverse`); here the
names stand without, for each level and direction is a layer.

A batch normalisation keeps running mean and running variance (the unbiased one) as buffers, together with
`num_batches_tracked`, which counts and is not carried. The epsilon of all normalisations is 1e-5 by default.
"""

from __future__ import annotations

from d2lparams.interface import Conventions, Held

CONVENTIONS: Conventions = {
    "dense": [Held("weight", "weight", "out in"), Held("bias", "bias", "out")],
    "conv1d": [Held("weight", "weight", "out in width"), Held("bias", "bias", "out")],
    "conv2d": [Held("weight", "weight", "out in height width"), Held("bias", "bias", "out")],
    "batchnorm": [
        Held("weight", "weight", "features"),
        Held("bias", "bias", "features"),
        Held("running_mean", "running mean", "features"),
        Held("running_var", "running variance", "features"),
    ],
    "layernorm": [Held("weight", "weight", "features"), Held("bias", "bias", "features")],
    "embedding": [Held("weight", "weight", "vocabulary width")],
    "lstm": [
        Held("weight_ih", "input weight", "(gate units) in", "ifgo"),
        Held("weight_hh", "hidden weight", "(gate units) past", "ifgo"),
        Held("bias_ih", "input bias", "(gate units)", "ifgo"),
        Held("bias_hh", "hidden bias", "(gate units)", "ifgo"),
    ],
    "gru": [
        Held("weight_ih", "input weight", "(gate units) in", "rzn"),
        Held("weight_hh", "hidden weight", "(gate units) past", "rzn"),
        Held("bias_ih", "input bias", "(gate units)", "rzn"),
        Held("bias_hh", "hidden bias", "(gate units)", "rzn"),
    ],
}
"""How the layers of `torch.nn` hold the canonical arrays, by attribute."""
