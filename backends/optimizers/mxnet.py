"""What is particular about MXNet's optimizers, and about the trainer of Gluon that drives them."""

from __future__ import annotations

import inspect
from typing import Any

import mxnet as mx
from mxnet import gluon, np

from backends.mxnet import MXNetBackend
from backends.trainers.mxnet import GluonTrainer, mean_squared_error
from backends.uses.mxnet import listed
from d2lparams.interface import Array, Optimizer, Optimizers, Trainer

# Arguments of every optimizer that a user of Gluon sets, and how the object calls them.
_COMMON = {"learning_rate": "lr", "wd": "wd", "rescale_grad": "rescale_grad", "clip_gradient": "clip_gradient"}


class MXNetOptimizers(Optimizers):
    """`collect_params` lists a shared parameter once; a list of one's own may hold it twice."""

    def __init__(self, backend: MXNetBackend) -> None:
        self._backend = backend

    def defaults(self) -> dict[str, dict[str, Any]]:
        """From optimizers that were made without arguments; the base class fills in most of them."""
        found: dict[str, dict[str, Any]] = {}
        for name in ("SGD", "Adam"):
            made = getattr(mx.optimizer, name)()
            own = [key for key in inspect.signature(type(made)).parameters if key != "kwargs"]
            names = {**_COMMON, **{key: key for key in own if key not in _COMMON}}
            found[name] = {key: getattr(made, attribute) for key, attribute in names.items()}
        return found

    def global_norm(self, model: Any, x: Array, y: Array) -> tuple[str, float]:
        """Gluon's, which clips as well; with an infinite limit it leaves the gradients as they are."""
        mean_squared_error(model, np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype))
        # It refuses the arrays of NumPy semantics, and takes no others than float32.
        gradients = [one.grad().astype("float32") for one in model.collect_params().values()]
        norm = gluon.utils.clip_global_norm([one.as_nd_ndarray() for one in gradients], float("inf"))
        arrays = "[p.grad().astype('float32').as_nd_ndarray() for p in net.collect_params().values()]"
        return f"gluon.utils.clip_global_norm({arrays}, max_norm)", float(norm)

    def penalty(self, model: Any) -> tuple[str, float]:
        """Of what the model lists."""
        squares = sum((one.data() ** 2).sum() for one in model.collect_params().values())
        return "sum((p.data() ** 2).sum() for p in net.collect_params().values())", float(squares)

    def duplicated(self, model: Any, optimizer: Optimizer) -> Trainer:
        """With a list that has an entry for each use."""
        parameters = self._backend.parameters(model)
        return GluonTrainer(model, parameters, [one.native for one in parameters], optimizer)

    def scaled(self, model: Any, optimizer: Optimizer, batch_size: int) -> Trainer:
        """`step` is told the batch size."""
        return GluonTrainer(model, self._backend.parameters(model), listed(model), optimizer, batch_size)
