"""What section 6.2 of the book says in its PyTorch tab, and how it is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from d2lparams.interface import Claim


def _net() -> nn.Module:
    """The section's network, after the first batch, which lazy layers wait for."""
    net = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))
    net(torch.rand(2, 4))
    return net


def _tied(middle: Any = None) -> nn.Module:
    """The section's network with a shared layer, or with a given one in the place of its second use."""
    shared = nn.LazyLinear(8)
    layers = (nn.LazyLinear(8), nn.ReLU(), shared, nn.ReLU(), middle or shared, nn.ReLU(), nn.LazyLinear(1))
    net = nn.Sequential(*layers)
    net(torch.rand(2, 4))
    return net


def _kind(one: object) -> str:
    return f"{type(one).__module__}.{type(one).__qualname__}"


def _last_layer() -> Any:
    state = _net()[2].state_dict()
    return [_kind(state), {name: list(value.shape) for name, value in state.items()}]


def _value() -> Any:
    value = _net()[2].bias.data
    return [_kind(value), list(value.shape)]


def _all_parameters() -> Any:
    return {name: list(one.shape) for name, one in _net().named_parameters()}


def _equal(net: nn.Module) -> Any:
    """The comparison of the section: the first rows of the two layers' weights, entry by entry."""
    return (net[2].weight.data[0] == net[4].weight.data[0]).tolist()


def _written() -> Any:
    net = _tied()
    net[2].weight.data[0, 0] = 100
    return _equal(net)


def _gradients_add_up() -> bool:
    """Whether the shared gradient is the sum of the two that separate layers with the same values have."""
    tied, untied = _tied(), _tied(nn.LazyLinear(8))
    untied.load_state_dict(tied.state_dict())
    x = torch.rand(8, 4)
    for net in (tied, untied):
        net(x).square().mean().backward()
    return bool(torch.allclose(tied[2].weight.grad, untied[2].weight.grad + untied[4].weight.grad, atol=1e-6))


CLAIMS: Sequence[Claim] = [
    Claim(
        "the last layer's parameters",
        "6.2.1",
        "net[2].state_dict() is an ordered dict of a weight (1, 8) and a bias (1,)",
        ["collections.OrderedDict", {"weight": [1, 8], "bias": [1]}],
        _last_layer,
    ),
    Claim(
        "the type of a parameter",
        "6.2.1.1",
        "net[2].bias is an object of a class for parameters",
        "torch.nn.parameter.Parameter",
        lambda: _kind(_net()[2].bias),
    ),
    Claim(
        "reading a value",
        "6.2.1.1",
        "net[2].bias.data is a tensor of the values",
        ["torch.Tensor", [1]],
        _value,
    ),
    Claim(
        "the gradient before backward",
        "6.2.1.1",
        "net[2].weight.grad is None as long as nothing was differentiated",
        True,
        lambda: _net()[2].weight.grad is None,
    ),
    Claim(
        "all parameters",
        "6.2.1.2",
        "net.named_parameters() gives a weight and a bias of each linear layer, by its place",
        {"0.weight": [8, 4], "0.bias": [8], "2.weight": [1, 8], "2.bias": [1]},
        _all_parameters,
    ),
    Claim(
        "a tied layer",
        "6.2.2",
        "the weights of net[2] and net[4] are equal when one layer stands at both places",
        [True] * 8,
        lambda: _equal(_tied()),
    ),
    Claim(
        "a write through a tied layer",
        "6.2.2",
        "after a write through net[2] the two are still equal: they are one object, not two equal ones",
        [True] * 8,
        _written,
    ),
    Claim(
        "the gradients of a tied layer",
        "6.2.2",
        "the gradients of both uses are added together",
        True,
        _gradients_add_up,
    ),
]
