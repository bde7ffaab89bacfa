"""MXNet by hand: Gluon's trainer, with the loss in the graph or behind it, and its operators for the update."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import mxnet as mx
import numpy
from mxnet import autograd, gluon, np, npx
from mxnet.gluon import nn
from nets import Loop, Net

npx.set_np()


class WithLoss(gluon.HybridBlock):
    """A model and its loss as one graph."""

    def __init__(self, model: Any, loss: Any) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def hybrid_forward(self, F: Any, x: Any, y: Any) -> Any:  # noqa: N803  (Gluon's own)
        """The mean of the loss."""
        outputs = self.model(x)
        return F.np.mean((outputs - y) ** 2 if self.loss is None else self.loss(outputs, y))


def loop(net: Net, one_graph: bool, by_operator: bool) -> Loop:
    """Hybridised with static allocation."""
    model = nn.HybridSequential()
    pairs = list(zip(net.sizes, net.sizes[1:]))
    for place, (inputs, outputs) in enumerate(pairs):
        model.add(model[2] if net.tied and place == 2 else nn.Dense(outputs, in_units=inputs))
        if place < len(pairs) - 1:
            model.add(nn.Activation(net.activation))
    model.initialize()
    loss = gluon.loss.SoftmaxCrossEntropyLoss() if net.labels else None
    whole = WithLoss(model, loss)
    for block in [whole] if one_graph else [one for one in (model, loss) if one is not None]:
        block.hybridize(static_alloc=True, static_shape=True)
    listed = list(model.collect_params().values())
    trainer = gluon.Trainer(listed, "sgd", {"learning_rate": net.rate}, kvstore=None)

    def objective(x: Any, y: Any) -> Any:
        if one_graph:
            return whole(x, y)
        return ((model(x) - y) ** 2).mean() if loss is None else loss(model(x), y).mean()

    def one(x: Any, y: Any) -> Any:
        with autograd.record():
            value = objective(x, y)
        value.backward()
        if not by_operator:
            trainer.step(1)
            return value
        for parameter in listed:
            values, by = parameter.data().as_nd_ndarray(), parameter.grad().as_nd_ndarray()
            mx.nd.sgd_update(values, by, lr=net.rate, out=values)
        return value

    def arrays(*given: Any) -> list[Any]:
        return [np.array(each, dtype=each.dtype) for each in given]

    def run(x: Any, y: Any, steps: int) -> Any:
        given = arrays(x, y)
        return numpy.array([float(value) for value in [one(*given) for _ in range(steps)]])

    return Loop(lambda x, y: float(one(*arrays(x, y))), run)


CANDIDATES: dict[str, Callable[[Net], Loop]] = {
    "hybridised, Gluon's trainer": partial(loop, one_graph=False, by_operator=False),
    "loss in the graph, Gluon's trainer": partial(loop, one_graph=True, by_operator=False),
    "loss in the graph, sgd_update": partial(loop, one_graph=True, by_operator=True),
}
