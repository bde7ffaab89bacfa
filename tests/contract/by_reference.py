"""What the reference computes with canonical arrays: the judge of what a carrier sees of a native layer."""

from __future__ import annotations

import numpy as np

from backends.layers.numpy import NumpyLayers
from d2lparams.conventions import with_summed_biases
from d2lparams.interface import Layer


def computed(record, arrays, x):
    """What the reference's layer of that kind gives for x, channels second, with these canonical arrays."""
    kind, settings = record.kind, record.settings
    values = with_summed_biases(kind, _completed(kind, arrays, x))
    layer = Layer("conv2d" if kind == "conv1d" else kind, 1, 1, epsilon=settings.get("epsilon"))
    judge = NumpyLayers()
    if kind == "conv1d":
        values["weight"] = values["weight"][:, :, None]
        return judge.forward(values, layer, x[:, :, None])[:, :, 0]
    if kind == "batchnorm" and x.ndim > 2:
        rows = np.moveaxis(x, 1, -1)
        given = judge.forward(values, layer, rows.reshape(-1, x.shape[1]))
        return np.moveaxis(given.reshape(rows.shape), -1, 1)
    if settings.get("reverse"):
        return judge.forward(values, layer, x[:, ::-1])[:, ::-1]
    return judge.forward(values, layer, x)


def _completed(kind, arrays, x):
    """With zeros for a bias and ones for a scale that is not there, for the reference has all."""
    found = dict(arrays)
    if kind in ("batchnorm", "layernorm"):
        found.setdefault("weight", np.ones(x.shape[1]))
    if kind in ("lstm", "gru"):
        for name in ("input bias", "hidden bias"):
            found.setdefault(name, np.zeros(found["hidden weight"].shape[:2]))
    elif kind != "embedding":
        found.setdefault("bias", np.zeros(len(found.get("weight", x[0]))))
    return found
