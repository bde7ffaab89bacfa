"""What section 6.2 of the book says in its MXNet tab, and how it is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mxnet import autograd, np
from mxnet.gluon import nn

from backends.trainers.mxnet import array_of
from d2lparams.interface import Claim


def _net() -> nn.Block:
    """The section's network, after the first batch, which deferred initialisation waits for."""
    net = nn.Sequential()
    net.add(nn.Dense(8, activation="relu"), nn.Dense(1))
    net.initialize()
    net(np.random.uniform(size=(2, 4)))
    return net


def _tied(tied: bool = True) -> nn.Block:
    """The section's network with a shared layer, or with a layer of its own in the place of the second use."""
    net, shared = nn.Sequential(), nn.Dense(8, activation="relu")
    other = nn.Dense(8, activation="relu", params=shared.params if tied else None)
    net.add(nn.Dense(8, activation="relu"), shared, other, nn.Dense(10))
    net.initialize()
    net(np.random.uniform(size=(2, 20)))
    return net


def _kind(one: object) -> str:
    return f"{type(one).__module__}.{type(one).__qualname__}"


def _shapes(parameters: Any) -> dict[str, list[int]]:
    return {name: list(one.shape) for name, one in parameters.items()}


def _last_layer() -> Any:
    parameters = _net()[1].params
    return [_kind(parameters), _shapes(parameters)]


def _value() -> Any:
    value = _net()[1].bias.data()
    return [_kind(value), value.tolist()]


def _equal(net: nn.Block) -> Any:
    """The comparison of the section: the first rows of the two layers' weights, entry by entry."""
    return (net[1].weight.data()[0] == net[2].weight.data()[0]).tolist()


def _written() -> Any:
    net = _tied()
    net[1].weight.data()[0, 0] = 100
    return _equal(net)


def _gradients_add_up() -> bool:
    """Whether the shared gradient is the sum of the two that separate layers with the same values have."""
    tied, untied = _tied(), _tied(tied=False)
    for mine, other in zip(untied, tied):
        mine.weight.set_data(other.weight.data())
        mine.bias.set_data(other.bias.data())
    x = np.random.uniform(size=(8, 20))
    for net in (tied, untied):
        with autograd.record():
            loss = (net(x) ** 2).mean()
        loss.backward()
    shared, first, second = (array_of(one.weight.grad()) for one in (tied[1], untied[1], untied[2]))
    largest = float(abs(shared).max())
    return bool(abs(shared - (first + second)).max() <= 1e-5 * largest > 0)


CLAIMS: Sequence[Claim] = [
    Claim(
        "the last layer's parameters",
        "6.2.1",
        "net[1].params is a dictionary of parameters: a weight (1, 8) and a bias (1,), by their full names",
        ["mxnet.gluon.parameter.ParameterDict", {"dense1_weight": [1, 8], "dense1_bias": [1]}],
        _last_layer,
    ),
    Claim(
        "the type of a parameter",
        "6.2.1.1",
        "net[1].bias is an object of a class for parameters",
        "mxnet.gluon.parameter.Parameter",
        lambda: _kind(_net()[1].bias),
    ),
    Claim(
        "reading a value",
        "6.2.1.1",
        "net[1].bias.data() is an array of the values; a bias starts at zero",
        ["mxnet.numpy.ndarray", [0.0]],
        _value,
    ),
    Claim(
        "the gradient before backward",
        "6.2.1.1",
        "net[1].weight.grad() holds zeros as long as nothing was differentiated",
        [[0.0] * 8],
        lambda: _net()[1].weight.grad().tolist(),
    ),
    Claim(
        "all parameters",
        "6.2.1.2",
        "net.collect_params() lists a weight and a bias of each dense layer, by their full names",
        {"dense0_weight": [8, 4], "dense0_bias": [8], "dense1_weight": [1, 8], "dense1_bias": [1]},
        lambda: _shapes(_net().collect_params()),
    ),
    Claim(
        "a tied layer",
        "6.2.2",
        "the weights of net[1] and net[2] are equal when one is built on the other's parameters",
        [True] * 8,
        lambda: _equal(_tied()),
    ),
    Claim(
        "a write through a tied layer",
        "6.2.2",
        "after a write through net[1] the two are still equal: they are one object, not two equal ones",
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
