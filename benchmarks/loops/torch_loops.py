"""PyTorch by hand: eager with each form of its SGD, with a compiled loss, and with all of a step compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from nets import Loop, Net
from torch import nn


def model_and_loss(net: Net) -> tuple[Any, Any]:
    """As a user writes them."""
    activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[net.activation]
    layers = [nn.Linear(inputs, outputs) for inputs, outputs in zip(net.sizes, net.sizes[1:])]
    if net.tied:
        layers[2] = layers[1]
    modules = [one for layer in layers for one in (layer, activation())][:-1]
    return nn.Sequential(*modules), nn.functional.cross_entropy if net.labels else nn.functional.mse_loss


def looped(step: Callable[[Any, Any], Any]) -> Loop:
    """A step on tensors, from NumPy; a run fetches its losses once."""

    def run(x: Any, y: Any, steps: int) -> Any:
        inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
        return torch.stack([step(inputs, targets) for _ in range(steps)]).numpy()

    return Loop(lambda x, y: step(torch.from_numpy(x), torch.from_numpy(y)).item(), run)


def eager(net: Net, compiled: bool = False, **form: bool) -> Loop:
    """Forward, backward, and an optimizer of `torch.optim`."""
    model, loss = model_and_loss(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=net.rate, **form)

    def objective(x: Any, y: Any) -> Any:
        return loss(model(x), y)

    if compiled:
        objective = torch.compile(objective)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        value = objective(x, y)
        value.backward()
        optimizer.step()
        return value.detach()

    return looped(step)


def whole(net: Net) -> Loop:
    """Forward, backward and the update in one compiled function."""
    model, loss = model_and_loss(net)
    parameters = list(model.parameters())
    torch._dynamo.config.trace_autograd_ops = True

    def step(x: Any, y: Any) -> Any:
        value = loss(model(x), y)
        gradients = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients):
                parameter.sub_(gradient, alpha=net.rate)
        return value.detach()

    return looped(torch.compile(step, fullgraph=True, dynamic=False))


CANDIDATES: dict[str, Callable[[Net], Loop]] = {
    "eager": eager,
    "eager, fused": partial(eager, fused=True),
    "eager, foreach": partial(eager, foreach=True),
    "loss compiled, fused": partial(eager, compiled=True, fused=True),
    "step compiled": whole,
}
