"""One model for four frameworks: two layers of one shape, a normalisation, and a class that applies them.

The layers of the classes are registered in another order than they are applied in.
"""

from __future__ import annotations

from typing import Any

EPSILON = 2**-10


def build(framework: str, activation: str = "tanh", epsilon: float = EPSILON) -> Any:
    """The model for a framework."""
    return globals()[f"_{framework}"](activation, epsilon)


def turned(framework: str) -> Any:
    """A mistake: in every framework but PyTorch the activation is another one."""
    return build(framework, "tanh" if framework == "torch" else "relu")


def other_epsilon(framework: str) -> Any:
    """A mistake: in every framework but PyTorch epsilon is another one."""
    return build(framework, epsilon=EPSILON if framework == "torch" else 2**-4)


def wider(framework: str) -> Any:
    """A mistake that shapes give away: there is a layer more in every framework but PyTorch."""
    import numpy as np

    if framework == "torch":
        return build(framework)
    assert framework == "mxnet"
    from mxnet.gluon import nn

    net = nn.HybridSequential()
    net.add(nn.Dense(5), nn.Dense(5), nn.LayerNorm(), nn.Dense(5), nn.Dense(2))
    net.initialize()
    from mxnet import np as mnp

    net(mnp.array(np.zeros((1, 5), "float32")))
    return net


def _torch(activation: str, epsilon: float) -> Any:
    import torch
    from torch import nn

    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(5, 2)
            self.second = nn.Linear(5, 5)
            self.norm = nn.LayerNorm(5, eps=epsilon)
            self.first = nn.Linear(5, 5)

        def forward(self, x: Any) -> Any:
            activate = getattr(torch, activation)
            return self.output(activate(self.second(self.norm(activate(self.first(x))))))

    return Twins()


def _mxnet(activation: str, epsilon: float) -> Any:
    from mxnet import gluon, np, npx
    from mxnet.gluon import nn

    class Twins(gluon.Block):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Dense(2)
            self.first = nn.Dense(5, activation=activation)
            self.norm = nn.LayerNorm(epsilon=epsilon)
            self.second = nn.Dense(5)

        def forward(self, x: Any) -> Any:
            return self.output(npx.activation(self.second(self.norm(self.first(x))), act_type=activation))

    net = Twins()
    net.initialize()
    net(np.zeros((1, 5), dtype="float32"))
    return net


def _jax(activation: str, epsilon: float) -> Any:
    import jax
    from flax import linen as nn

    class Twins(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            activate = getattr(nn, activation)
            x = nn.LayerNorm(epsilon=epsilon)(activate(nn.Dense(5)(x)))
            return nn.Dense(2)(activate(nn.Dense(5)(x)))

    net = Twins()
    return net, net.init(jax.random.key(0), jax.numpy.zeros((1, 5)))


def _tensorflow(activation: str, epsilon: float) -> Any:
    import keras

    class Twins(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.final = keras.layers.Dense(2)
            self.second = keras.layers.Dense(5, activation=activation)
            self.norm = keras.layers.LayerNormalization(epsilon=epsilon)
            self.first = keras.layers.Dense(5, activation=activation)

        def call(self, x: Any) -> Any:
            return self.final(self.second(self.norm(self.first(x))))

    net = Twins()
    net(keras.ops.zeros((1, 5)))
    return net
