"""What computes with a Gluon model: the loss with its gradients, and steps by Gluon's trainer."""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy
from mxnet import autograd, gluon, np
from mxnet.gluon import nn

from d2lparams.interface import (
    LOSSES,
    MEAN_SQUARED_ERROR,
    SGD,
    SOFTMAX_CROSS_ENTROPY,
    Adam,
    AdamW,
    Array,
    Optimizer,
    Parameter,
    Trainer,
    Unsupported,
)


def mean_squared_error(model: nn.Block, x: Any, y: Any) -> Any:
    """The loss, with the gradients left in the parameters."""
    return _with_gradients(lambda: ((model(x) - y) ** 2).mean())


def _with_gradients(compute: Callable[[], Any]) -> Any:
    """The loss that is computed, with the gradients left in the parameters."""
    with autograd.record():
        loss = compute()
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


class _MeanSquaredError(gluon.HybridBlock):  # type: ignore[misc]  # mxnet is not installed where types are checked
    """A model with the loss behind it, so that both are one graph."""

    def __init__(self, model: nn.Block) -> None:
        super().__init__(prefix="trained_")  # a name of its own would count, and others be named by the count
        self.model = model

    def hybrid_forward(self, F: Any, x: Any, y: Any) -> Any:  # noqa: N803  (Gluon's own)
        """The loss."""
        return F.np.mean((self.model(x) - y) ** 2)


class _SoftmaxCrossEntropy(gluon.HybridBlock):  # type: ignore[misc]  # mxnet is not installed where types are checked
    """A model with the loss behind it, so that both are one graph."""

    def __init__(self, model: nn.Block) -> None:
        super().__init__(prefix="trained_")
        self.model, self.loss = model, gluon.loss.SoftmaxCrossEntropyLoss(prefix="loss_")

    def hybrid_forward(self, F: Any, x: Any, y: Any) -> Any:  # noqa: N803  (Gluon's own)
        """The loss."""
        return F.np.mean(self.loss(self.model(x), y))


_BLOCKS = {MEAN_SQUARED_ERROR: _MeanSquaredError, SOFTMAX_CROSS_ENTROPY: _SoftmaxCrossEntropy}


def _softmax_cross_entropy(model: nn.Block, x: Any, y: Any) -> Any:
    """The loss, with the gradients left in the parameters."""
    return _with_gradients(lambda: gluon.loss.SoftmaxCrossEntropyLoss(prefix="loss_")(model(x), y).mean())


_OBJECTIVES = {MEAN_SQUARED_ERROR: mean_squared_error, SOFTMAX_CROSS_ENTROPY: _softmax_cross_entropy}


class GluonTrainer(Trainer):
    """Model and loss as one hybridised graph where they can be, updated by Gluon's trainer.

    To hybridise takes milliseconds, so that nothing waits for it, and the model stays so. Told not to compile,
    the trainer leaves the model as it is.

    Args:
        model: what is trained.
        parameters: its uses.
        given: what Gluon's trainer is handed.
        optimizer: the rule.
        batch_size: what a step is told; it divides the gradient, and the loss is a mean already.
    """

    losses = LOSSES

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
        self._model, self._given, self._batch_size = model, given, batch_size
        largest = max(math.prod(one.shape) for one in parameters)
        self._trainer = gluon.Trainer(given, _rule(optimizer, one_by_one=largest >= 32768), kvstore=None)

    @cached_property
    def _backward(self) -> Callable[[Any, Any], Any]:
        """What gives the loss of x and y, and leaves the gradients in the parameters."""
        # Block.load lists parameters under other names than their own, and no graph finds them then. A graph
        # that optimize_for has handed to a backend is trained as it is; to compile it again would undo that.
        found = {one.name for one in self._given} <= set(self._model.collect_params())
        if self._compile is False or not found or getattr(self._model, "_backend", None) is not None:
            return partial(_OBJECTIVES[self._loss], self._model)
        blocks: list[Any] = []
        self._model.apply(blocks.append)
        # A graph that was imported takes no symbol, so that it cannot become a part of another graph.
        if not all(
            isinstance(one, gluon.HybridBlock) and not isinstance(one, gluon.SymbolBlock) for one in blocks
        ):
            self._model.hybridize(static_alloc=True, static_shape=True)  # those in it that can be
            return partial(_OBJECTIVES[self._loss], self._model)
        whole: Any = _BLOCKS[self._loss](self._model)
        whole.hybridize(static_alloc=True, static_shape=True)
        return lambda x, y: _with_gradients(lambda: whole(x, y))

    def _step(self, x: Array, y: Array) -> float:
        loss = self._backward(np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype))
        self._trainer.step(self._batch_size)
        return float(loss)

    def _run(self, x: Array, y: Array, steps: int) -> Array:
        inputs, targets = np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype)
        losses = []
        for _ in range(steps):
            losses.append(self._backward(inputs, targets))
            self._trainer.step(self._batch_size)
        return numpy.array([float(one) for one in losses])

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


class _OneByOne(mx.optimizer.SGD):  # type: ignore[misc]  # mxnet is not installed where types are checked
    """MXNet's SGD by its operators for one array.

    The class itself takes those for several arrays at once, even for a single one. On a CPU these need three
    times as long for the same numbers (1.4 and 0.5 ms for 200000), and save only what a call costs.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.aggregate_num = 0

    def update_multi_precision(self, index: int, weight: Any, grad: Any, state: Any) -> None:
        """As the class does it, in the precision of the weight."""
        self._update_count(index)
        settings = {"lr": self._get_lr(index), "wd": self._get_wd(index), "rescale_grad": self.rescale_grad}
        if state is None:
            mx.nd.sgd_update(weight, grad, out=weight, **settings)
        else:
            mx.nd.sgd_mom_update(weight, grad, state, momentum=self.momentum, out=weight, **settings)


def _rule(optimizer: Optimizer, one_by_one: bool) -> Any:
    match optimizer:
        case SGD():
            make = _OneByOne if one_by_one else mx.optimizer.SGD
            return make(
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
