"""What section 6.2 of the book says in its JAX tab, in our words, and what Flax shows now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from d2lparams.interface import Claim

X = np.random.RandomState(0).uniform(0, 1, (2, 4)).astype("float32")


def _net() -> tuple[Any, Any]:
    """The section's first model."""
    net = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(1)])
    return net, net.init(jax.random.key(0), X)


def _tied() -> tuple[Any, Any]:
    """The section's model with a shared layer."""
    shared = nn.Dense(8)
    net = nn.Sequential([nn.Dense(8), nn.relu, shared, nn.relu, shared, nn.relu, nn.Dense(1)])
    return net, net.init(jax.random.key(0), X)


def _decoupled() -> Any:
    net, params = _net()
    held = [one for one in jax.tree.leaves(vars(net)) if isinstance(one, jax.Array)]
    return {"arrays in the model": len(held), "output": list(net.apply(params, X).shape)}


def _last_layer() -> Any:
    layer = _net()[1]["params"]["layers_2"]
    return {"type": type(layer).__name__, **{name: list(value.shape) for name, value in layer.items()}}


def _type() -> Any:
    kind = type(_net()[1]["params"]["layers_2"]["bias"])
    return f"{kind.__module__}.{kind.__qualname__}"


def _class() -> Any:
    bias = _net()[1]["params"]["layers_2"]["bias"]
    return "an array, and no more" if isinstance(bias, jax.Array) else "a class of parameters"


def _value() -> Any:
    return np.asarray(_net()[1]["params"]["layers_2"]["bias"]).tolist()


def _gradient() -> Any:
    net, params = _net()
    gradients = jax.grad(lambda params: net.apply(params, X).sum())(params)
    return {
        "kept with the parameter": hasattr(params["params"]["layers_2"]["bias"], "grad"),
        "returned by jax.grad": sorted(gradients["params"]),
    }


def _all() -> Any:
    shapes = jax.tree.map(lambda value: value.shape, _net()[1])
    return {
        "type": type(shapes).__name__,
        "params": {
            layer: {name: list(shape) for name, shape in one.items()} for layer, one in shapes["params"].items()
        },
    }


def _tied_layers() -> Any:
    return len(_tied()[1]["params"]) == 3


def _write() -> Any:
    """Layers 2 and 4 have no places of their own to write to: a write to the one place changes both uses."""
    net, params = _tied()
    kernel = params["params"]["layers_2"]["kernel"].at[0, 0].set(100.0)
    layer = {**params["params"]["layers_2"], "kernel": kernel}
    written = {"params": {**params["params"], "layers_2": layer}}
    hidden = X
    for name in ("layers_0", "layers_2", "layers_2", "layers_6"):
        one = written["params"][name]
        hidden = hidden @ np.asarray(one["kernel"]) + np.asarray(one["bias"])
        hidden = hidden if name == "layers_6" else np.maximum(hidden, 0)
    return bool(np.allclose(net.apply(written, X), hidden, rtol=1e-4))


CLAIMS: Sequence[Claim] = [
    Claim(
        "model and parameters",
        "6.2.1",
        "Model and parameters are apart: init gives the parameters, and apply takes them",
        {"arrays in the model": 0, "output": [2, 1]},
        _decoupled,
    ),
    Claim(
        "the last layer's parameters",
        "6.2.1",
        "params['params']['layers_2'] prints as a FrozenDict of a kernel (8, 1) and a bias (1,)",
        {"type": "FrozenDict", "kernel": [8, 1], "bias": [1]},
        _last_layer,
    ),
    Claim(
        "the type of a parameter",
        "6.2.1.1",
        "The type of a bias is jaxlib.xla_extension.ArrayImpl",
        "jaxlib.xla_extension.ArrayImpl",
        _type,
    ),
    Claim(
        "the class of a parameter",
        "6.2.1.1",
        "A parameter is an object of a class of parameters, from which the value has to be taken",
        "a class of parameters",
        _class,
    ),
    Claim("reading a value", "6.2.1.1", "The bias of the last layer starts as one zero", [0.0], _value),
    Claim(
        "the gradient before backward",
        "6.2.1.1",
        "A parameter keeps no gradient; a transformation of a function returns the gradients",
        {"kept with the parameter": False, "returned by jax.grad": ["layers_0", "layers_2"]},
        _gradient,
    ),
    Claim(
        "all parameters",
        "6.2.1.2",
        "A tree map over all parameters gives a FrozenDict of the shapes of both layers",
        {
            "type": "FrozenDict",
            "params": {
                "layers_0": {"bias": [8], "kernel": [4, 8]},
                "layers_2": {"bias": [1], "kernel": [8, 1]},
            },
        },
        _all,
    ),
    Claim(
        "a tied layer",
        "6.2.2",
        "len(params['params']) == 3 is True: four dense layers, two of which are one",
        True,
        _tied_layers,
    ),
    Claim(
        "a write through a tied layer",
        "6.2.2",
        "A change of the shared parameters changes both layers",
        True,
        _write,
    ),
]
