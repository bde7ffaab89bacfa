# /// script
# requires-python = "==3.11.*"
# dependencies = ["mxnet==1.9.1", "numpy==1.23.5"]
# [tool.d2lparams]
# title = "MXNet"
# class = "MXNetBackend"
# modules = ["mxnet"]
# aliases = ["gluon"]
# position = 2
# ///
"""MXNet's Gluon with NumPy semantics: the model is a `HybridSequential` of `Dense` blocks.

A parameter is an object with a name of its own, which holds its values and its gradient; blocks that share it
are built from the same parameters. Importing this module switches MXNet to NumPy semantics (`npx.set_np`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from d2lparams.interface import (
    MLP,
    ROLES,
    SGD,
    Array,
    Backend,
    Gradient,
    Optimizer,
    Parameter,
    Role,
    Trainer,
    needs,
)

with needs("mxnet", before=(3, 12)):
    import mxnet as mx
    from mxnet import autograd, gluon, np, npx
    from mxnet.gluon import nn

npx.set_np()


class MXNetBackend(Backend[nn.Block]):
    """MXNet 1.9, Gluon."""

    name = "mxnet"
    tying = "net.register_child(nn.Dense(..., params=net[j].params), 'i')"

    def _mlp(self, spec: MLP) -> nn.Block:
        activation = None if spec.activation == "identity" else spec.activation
        net = nn.HybridSequential()
        for layer in range(spec.layers):
            outputs, inputs = spec.weight_shape(layer)
            tied = spec.owner(layer) != layer
            net.add(
                nn.Dense(
                    outputs,
                    activation=activation if layer < spec.layers - 1 else None,
                    in_units=0 if spec.lazy else inputs,
                    params=net[spec.owner(layer)].params if tied else None,
                )
            )
        # MXNet cannot draw float64 values, so a model is initialised and run once in float32, then cast.
        net.initialize()
        if spec.lazy:
            return net
        return self._initialize(net, _zeros((1, spec.sizes[0]), spec.dtype))

    def _initialize(self, model: nn.Block, x: Array) -> nn.Block:
        model(np.array(x, dtype="float32"))
        model.cast(str(x.dtype))
        return model

    def _tie(self, model: nn.Block, layer: int, to: int) -> nn.Block:
        uses = _dense(model)
        path, mine = uses[layer]
        _, other = uses[to]
        outputs, inputs = other.weight.shape
        parent = model
        for child in path[:-1]:
            parent = parent._children[child]
        # Gluon forbids a new parameter in an old block: a new block is built on the other one's parameters.
        block = nn.Dense(
            outputs,
            activation=mine.act and mine.act._act_type,
            use_bias=other.bias is not None,
            in_units=inputs,
            dtype=other.weight.dtype,
            params=other.params,
            flatten=mine._flatten,
        )
        if getattr(parent, path[-1], None) is mine:
            setattr(parent, path[-1], block)  # a class of the user's calls its layers by their attributes
        else:
            parent.register_child(block, path[-1])
        return model

    def _parameters(self, model: nn.Block) -> Iterator[Parameter]:
        for index, (path, block) in enumerate(_dense(model)):
            for role in ROLES:
                if getattr(block, role) is not None:
                    yield _parameter(index, role, path, getattr(block, role))

    def _listings(self, model: nn.Block) -> dict[str, list[str]]:
        parameters = model.collect_params().items()
        return {"net.collect_params()": [f"{name} {parameter.shape}" for name, parameter in parameters]}

    def _counts(self, model: nn.Block) -> dict[str, int]:
        parameters = model.collect_params().values()
        return {
            "len(net.collect_params().keys())": len(parameters),
            "sum(p.data().size for p in net.collect_params().values())": sum(p.data().size for p in parameters),
        }

    def _assign(self, model: nn.Block, parameter: Parameter, value: Array) -> None:
        parameter.native.set_data(np.array(value, dtype=value.dtype))

    def _forward(self, model: nn.Block, x: Array) -> Array:
        return _array(model(np.array(x, dtype=x.dtype)))

    def _gradients(self, model: nn.Block, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        _loss(model, np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype))
        return {(one.layer, one.role): _array(one.native.grad()) for one in self._parameters(model)}

    def _trainer(self, model: nn.Block, optimizer: Optimizer) -> Trainer:
        return _Trainer(model, self.parameters(model), optimizer)

    def fresh(self) -> AbstractContextManager[Any]:
        """Gluon numbers blocks from a counter of the whole process; inside, it starts at zero."""
        manager: AbstractContextManager[Any] = mx.name.NameManager()
        return manager


def _dense(block: nn.Block, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], nn.Block]]:
    """Every use of every dense block with its path, in the order in which the blocks were added."""
    if isinstance(block, nn.Dense):
        return [(path, block)]
    return [use for name, child in block._children.items() for use in _dense(child, (*path, name))]


def _parameter(layer: int, role: Role, path: tuple[str, ...], native: Any) -> Parameter:
    values = native.data()
    access = "net" + "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in path) + f".{role}"
    return Parameter(
        layer=layer,
        role=role,
        native_name=native.name,
        access=access,
        native_shape=tuple(native.shape),
        shape=tuple(native.shape),
        dtype=str(values.dtype),
        native=native,
        native_value=values,
        storage=id(values),
        read=lambda: _array(native.data()),
        read_gradient=lambda: Gradient(True, f"{access}.grad()", _array(native.grad())),
    )


def _loss(model: nn.Block, x: Any, y: Any) -> Any:
    """The mean squared error, with the gradients left in the parameters."""
    with autograd.record():
        loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    return loss


def _zeros(shape: tuple[int, ...], dtype: str) -> Array:
    zeros: Array = np.zeros(shape, dtype=dtype).asnumpy()
    return zeros


def _array(values: Any) -> Array:
    array: Array = values.asnumpy()
    return array


class _Trainer(Trainer):
    """The model hybridised with static allocation (it stays so), updated by Gluon's trainer."""

    def __init__(self, model: nn.Block, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        self._model = model
        model.hybridize(static_alloc=True, static_shape=True)
        if isinstance(optimizer, SGD):
            rule = mx.optimizer.SGD(learning_rate=optimizer.learning_rate, momentum=optimizer.momentum)
        else:
            rule = mx.optimizer.Adam(
                learning_rate=optimizer.learning_rate,
                beta1=optimizer.beta1,
                beta2=optimizer.beta2,
                epsilon=optimizer.epsilon,
            )
        self._trainer = gluon.Trainer(model.collect_params(), rule, kvstore=None)

    def _step(self, x: Array, y: Array) -> float:
        loss = _loss(self._model, np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype))
        # The loss is a mean already; `step` would divide the gradient by the batch size that it is given.
        self._trainer.step(1)
        return float(loss)
