"""What computes with a Gluon model: the loss with its gradients, and steps by Gluon's trainer."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mxnet as mx
from mxnet import autograd, gluon, np
from mxnet.gluon import nn

from d2lparams.interface import SGD, Adam, AdamW, Array, Optimizer, Parameter, Trainer, Unsupported


def mean_squared_error(model: nn.Block, x: Any, y: Any) -> Any:
    """The loss, with the gradients left in the parameters."""
    with autograd.record():
        loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    return loss


def array_of(values: Any) -> Array:
    """A copy for NumPy."""
    array: Array = values.asnumpy()
    return array


def refuse_unmarked(parameters: Iterator[Any]) -> None:
    """Say why a copy has no gradients, before MXNet says it of a node in a graph.

    Raises:
        Unsupported: when autograd does not know the arrays of the parameters.
    """
    if any(one.grad_req != "null" and one.data().grad is None for one in parameters):
        raise Unsupported(
            "autograd does not know the arrays of a copy that was pickled, as copy.deepcopy does it, too, and "
            "backward fails; users call net.collect_params().reset_ctx(mx.cpu()) on the copy first"
        )


class GluonTrainer(Trainer):
    """The model hybridised with static allocation where it can be (it stays so), updated by Gluon's trainer.

    Args:
        model: what is trained.
        parameters: its uses.
        given: what Gluon's trainer is handed.
        optimizer: the rule.
        batch_size: what a step is told; it divides the gradient, and the loss is a mean already.
    """

    def __init__(
        self,
        model: nn.Block,
        parameters: Sequence[Parameter],
        given: list[Any],
        optimizer: Optimizer,
        batch_size: int = 1,
    ) -> None:
        super().__init__(parameters)
        refuse_unmarked(one.native for one in parameters)
        rule = _rule(optimizer)
        # Block.load lists parameters under other names than their own, and no graph finds them then. A graph
        # that optimize_for has handed to a backend is trained as it is; to compile it again would undo that.
        found = {one.name for one in given} <= set(model.collect_params())
        if found and getattr(model, "_backend", None) is None:
            model.hybridize(static_alloc=True, static_shape=True)
        self._model, self._given, self._batch_size = model, given, batch_size
        self._trainer = gluon.Trainer(given, rule, kvstore=None)

    def _step(self, x: Array, y: Array) -> float:
        loss = mean_squared_error(self._model, np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype))
        self._trainer.step(self._batch_size)
        return float(loss)

    def _set_learning_rate(self, learning_rate: float) -> None:
        self._trainer.set_learning_rate(learning_rate)

    def _slots(self) -> dict[str, tuple[int, ...]]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "states"
            self._trainer.save_states(str(path))
            states, _ = pickle.loads(path.read_bytes())
        return {
            f"state {place} of {self._given[index].name}": tuple(array.shape)
            for index, state in states.items()
            for place, array in enumerate(state if isinstance(state, tuple) else (state,))
            if array is not None
        }


def _rule(optimizer: Optimizer) -> Any:
    match optimizer:
        case SGD():
            return mx.optimizer.SGD(
                learning_rate=optimizer.learning_rate, momentum=optimizer.momentum, wd=optimizer.weight_decay
            )
        case Adam():
            return mx.optimizer.Adam(
                learning_rate=optimizer.learning_rate,
                beta1=optimizer.beta1,
                beta2=optimizer.beta2,
                epsilon=optimizer.epsilon,
            )
        case AdamW():
            raise Unsupported(
                "MXNet 1.9 has operators for AdamW (mx.nd.contrib.adamw_update), but no optimizer; users take "
                "BERTAdam of GluonNLP, or write one of these operators"
            )
