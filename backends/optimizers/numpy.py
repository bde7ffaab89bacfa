"""The reference's optimizers: everything that counts a parameter counts it once, for it looks at storages."""

from __future__ import annotations

from typing import Any

import numpy as np

from backends.numpy import Network, NumpyBackend
from d2lparams.interface import Array, Optimizer, Optimizers, Trainer, Unsupported, unique


class NumpyOptimizers(Optimizers):
    """Sums over the storages of a network."""

    def __init__(self, backend: NumpyBackend) -> None:
        self._backend = backend

    def defaults(self) -> dict[str, dict[str, Any]]:
        """Those of the published algorithms."""
        adam = {"learning_rate": 0.001, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
        return {"SGD": {"momentum": 0.0}, "Adam": adam, "AdamW": {**adam, "weight_decay": 0.01}}

    def global_norm(self, model: Network, x: Array, y: Array) -> tuple[str, float]:
        """The root of the sum of squares."""
        gradients = self._backend.gradients(model, x, y)
        found = [gradients[one.layer, one.role] for one in unique(self._backend.parameters(model))]
        return "sqrt(sum of squares)", float(np.sqrt(sum(np.sum(one**2) for one in found)))

    def penalty(self, model: Network) -> tuple[str, float]:
        """The sum of squares."""
        found = [one.value.astype("float64") for one in unique(self._backend.parameters(model))]
        return "sum of squares", float(sum(np.sum(one**2) for one in found))

    def duplicated(self, model: Network, optimizer: Optimizer) -> Trainer:
        """There is no list to hand over."""
        raise Unsupported("the reference looks at storages and takes no list")

    def scaled(self, model: Network, optimizer: Optimizer, batch_size: int) -> Trainer:
        """There is no such argument."""
        raise Unsupported("a step of the reference takes no batch size")
