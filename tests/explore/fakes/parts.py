# /// script
# requires-python = "==3.11.*"
# dependencies = ["numpy==2.4.6"]
# [tool.d2lparams]
# title = "parts"
# class = "Fake"
# modules = ["numpy"]
# ///
"""A tie by module comes apart after a step of Adam."""

from __future__ import annotations

import copy
from typing import Any

from backends.numpy import Network, NumpyBackend
from d2lparams.interface import Adam, Array, Optimizer, Trainer


class Parting(Trainer):
    def __init__(self, model: Network, inner: Trainer) -> None:
        self._model, self._inner = model, inner

    def step(self, x: Array, y: Array) -> float:
        loss = self._inner.step(x, y)
        seen: set[int] = set()
        for place, layer in enumerate(self._model.layers):
            if id(layer.weight) in seen:
                self._model.layers[place] = apart = copy.copy(layer)
                apart.weight = layer.weight.copy()
            seen.add(id(layer.weight))
        return loss

    def _step(self, x: Array, y: Array) -> float:
        raise NotImplementedError


class Fake(NumpyBackend):
    def trainer(self, model: Network, optimizer: Optimizer) -> Any:
        inner = super().trainer(model, optimizer)
        return Parting(model, inner) if isinstance(optimizer, Adam) else inner
