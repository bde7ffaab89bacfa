# /// script
# requires-python = "==3.11.*"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "copies"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Two ways to copy: one unties, one shares a part of what it copies."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from backends.numpy import Network, NumpyBackend
from d2lparams.interface import Lifecycle


def layer_by_layer(net: Network, again: Callable[[], Network], x: Any) -> Network:
    """A copy of each use."""
    return Network([copy.deepcopy(layer) for layer in net.layers], net.activation)


def all_but_the_bias(net: Network, again: Callable[[], Network], x: Any) -> Network:
    """A copy whose biases are those of the original."""
    copied = copy.deepcopy(net)
    for mine, other in zip(copied.layers, net.layers):
        mine.bias = other.bias
    return copied


def deepcopy(net: Network, again: Callable[[], Network], x: Any) -> Network:
    """Python's copy."""
    return copy.deepcopy(net)


class Fake(NumpyBackend):
    def lifecycles(self) -> list[Lifecycle[Network]]:
        return [
            Lifecycle("layer by layer", "[copy.deepcopy(layer) for layer in net.layers]", layer_by_layer),
            Lifecycle("all but the bias", "all_but_the_bias(net)", all_but_the_bias),
            Lifecycle("deepcopy", "copy.deepcopy(net)", deepcopy),
        ]
