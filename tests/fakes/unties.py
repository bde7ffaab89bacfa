# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "unties"
# class = "Fake"
# modules = ["numpy"]
# ///
"""Has ways to copy a model, one for each end that a way can have, and scripts for those that are silent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from backends.numpy import Network, NumpyBackend
from d2lparams.interface import MLP, Lifecycle
from d2lparams.scenarios import Observer

SCRIPT = """\
\"\"\"What {how} does to a tied model.\"\"\"

print("{outcome}: {how}")  # [bold]no markup[/bold], in a line of more than eighty characters
"""


def layer_by_layer(net: Network, again: Callable[[], Network], x: Any) -> Network:
    """A copy of each use."""
    return Network([copy.deepcopy(layer) for layer in net.layers], net.activation)


def with_zeros(net: Network, again: Callable[[], Network], x: Any) -> Network:
    """A copy that forgets a bias."""
    copied = copy.deepcopy(net)
    copied.layers[0].bias[:] = 1
    return copied


def in_place(net: Network, again: Callable[[], Network], x: Any) -> Network:
    """A copy that takes the original's values away."""
    copied = copy.deepcopy(net)
    for layer in net.layers:
        layer.bias = layer.bias - 1
    return copied


def to_pickle(net: Network, again: Callable[[], Network], x: Any) -> Network:
    """No copy."""
    raise TypeError("cannot pickle 'Network' object")


class Fake(NumpyBackend):
    def trouble(self, observe: Observer) -> None:
        observe.outcome("deep copy", "kept", how="copy.deepcopy(net)")
        observe.outcome("a copy of each", "broken", how="map(copy)", evidence={"uses": 2}, script=SCRIPT)

    def lifecycles(self) -> list[Lifecycle[Network]]:
        return [
            Lifecycle("deep copy", "copy.deepcopy(net)", lambda net, again, x: copy.deepcopy(net)),
            Lifecycle("layer by layer", "[copy.deepcopy(layer) for layer in net.layers]", layer_by_layer),
            Lifecycle("layer/by layer", "[copy.deepcopy(layer) for layer in net.layers]", layer_by_layer),
            Lifecycle("with zeros", "with_zeros(net)", with_zeros),
            Lifecycle("in place", "in_place(net)", in_place),
            Lifecycle("pickle", "pickle.dumps(net)", to_pickle),
        ]

    def script(self, lifecycle: Lifecycle[Network], spec: MLP, outcome: str) -> str:
        return SCRIPT.format(how=lifecycle.how, outcome=outcome)
