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

A parameter is an object with a name of its own, which holds its values and its gradient. A block that stands at
two places is tied by module; blocks that are built on each other's parameters are tied by parameter. Importing
this module switches MXNet to NumPy semantics (`npx.set_np`).

A sequential block applies its children in order. What a block of another class applies, and what stands in a
model that was imported and has no blocks, is read from the nodes of its graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy

from d2lparams.interface import (
    MLP,
    Array,
    Backend,
    By,
    Carrier,
    Claim,
    Example,
    Format,
    Gradient,
    Layers,
    Lifecycle,
    Optimizer,
    Optimizers,
    Parameter,
    Role,
    Trainer,
    Unsupported,
    needs,
)

with needs("mxnet", before=(3, 12)):
    import mxnet as mx
    from mxnet import np, npx
    from mxnet.gluon import nn

    from backends.models.mxnet import NestMLP, blocks_of, taken_from
    from backends.trainers.mxnet import GluonTrainer, array_of, mean_squared_error, refuse_unmarked
    from backends.uses.mxnet import Use, listed, uses_of

npx.set_np()


class MXNetBackend(Backend[nn.Block]):
    """MXNet 1.9, Gluon."""

    name = "mxnet"
    tying: ClassVar[Mapping[By, str]] = {
        "module": "net.register_child(net[j], 'i')",
        "parameter": "net.register_child(nn.Dense(..., params=net[j].params), 'i')",
    }

    def _mlp(self, spec: MLP) -> nn.Block:
        net = nn.HybridSequential()
        *inner, last = blocks_of(spec, net.prefix)
        net.add(*inner)
        if spec.nested:
            model = NestMLP(net, last)
        else:
            net.add(last)
            model = net
        # MXNet cannot draw float64 values, so a model is initialised and run once in float32, then cast.
        for parameter in listed(model):
            parameter.initialize()
        return model if spec.lazy else self._initialize(model, _zeros((1, spec.sizes[0]), spec.dtype))

    def _initialize(self, model: nn.Block, x: Array) -> nn.Block:
        model(np.array(x, dtype="float32"))
        model.cast(str(x.dtype))
        return model

    def _tie(self, model: nn.Block, layer: int, to: int, by: By, roles: Sequence[Role]) -> nn.Block:
        uses = uses_of(model)
        mine, other = uses[layer], uses[to]
        if mine.block is None or other.block is None:
            raise Unsupported("only a Dense block can be replaced, and one of these layers is none")
        if sum(use.path == mine.path for use in uses) > 1:
            raise Unsupported(
                f"the block of layer {layer} is called more than once, and to replace it would replace it "
                "everywhere; write the class with a block for each use"
            )
        block = _same_block(mine, other) if by == "module" else _sharing_block(model, mine, other, roles)
        *ancestors, parent = _ancestors(model, mine.path)
        if getattr(parent, mine.path[-1], None) is mine.block:
            setattr(parent, mine.path[-1], block)  # a class of the user's calls its layers by their attributes
        else:
            parent.register_child(block, mine.path[-1])
        for ancestor in (*ancestors, parent):
            if getattr(ancestor, "_active", False):
                # Gluon clears the compiled graph of the parent, but not those of the models around it.
                ancestor.hybridize(True, **dict(ancestor._flags))
                break
        return model

    def _parameters(self, model: nn.Block) -> Iterator[Parameter]:
        return _parameters(uses_of(model))

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
        array = np.array(value, dtype=value.dtype)
        # An imported graph holds arrays of the legacy class, to which those of the other cannot be assigned.
        legacy = not isinstance(parameter.native_value, np.ndarray)
        parameter.native.set_data(array.as_nd_ndarray() if legacy else array)

    def _forward(self, model: nn.Block, x: Array) -> Array:
        return array_of(model(np.array(x, dtype=x.dtype)))

    def _gradients(self, model: nn.Block, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        parameters = list(self._parameters(model))
        refuse_unmarked(one.native for one in parameters)
        mean_squared_error(model, np.array(x, dtype=x.dtype), np.array(y, dtype=y.dtype))
        return {(one.layer, one.role): array_of(one.native.grad()) for one in parameters}

    def _trainer(self, model: nn.Block, optimizer: Optimizer) -> Trainer:
        return GluonTrainer(model, self.parameters(model), listed(model), optimizer)

    def fresh(self) -> AbstractContextManager[Any]:
        """Gluon numbers blocks from a counter of the whole process; inside, it starts at zero."""
        manager: AbstractContextManager[Any] = mx.name.NameManager()
        return manager

    def lifecycles(self) -> Sequence[Lifecycle[Any]]:
        """Those of Gluon, and Python's."""
        from backends.lifecycles.mxnet import LIFECYCLES

        return LIFECYCLES

    def script(self, lifecycle: Lifecycle[Any], spec: MLP, outcome: str) -> str:
        """A program that imports MXNet."""
        from backends.scripts.mxnet import script

        return script(lifecycle, spec, outcome)

    def formats(self) -> Sequence[Format[Any]]:
        """Gluon's parameter file, by the places of blocks and by names of parameters."""
        from backends.formats.mxnet import FORMATS

        return FORMATS

    def optimizers(self) -> Optimizers:
        """Those of MXNet, through Gluon's trainer."""
        from backends.optimizers.mxnet import MXNetOptimizers

        return MXNetOptimizers(self)

    def layers(self) -> Layers[Any]:
        """Those of Gluon, channels first."""
        from backends.layers.mxnet import MXNetLayers

        return MXNetLayers()

    def carrier(self) -> Carrier[Any]:
        """For any blocks of Gluon."""
        from backends.carriers.mxnet import MXNetCarrier

        return MXNetCarrier()

    def example(self, example: Example) -> Any:
        """Sequential blocks and two classes."""
        from backends.examples.mxnet import build

        return self.mlp(example.mlp) if example.mlp is not None else build(example)

    def claims(self) -> Sequence[Claim]:
        """Those of the MXNet tab."""
        from backends.claims.mxnet import CLAIMS

        return CLAIMS


def _same_block(mine: Use, other: Use) -> Any:
    one, two = (use.block.act and use.block.act._act_type for use in (mine, other))
    if one != two:
        raise Unsupported(
            f"a Gluon Dense holds its activation, here {one or 'none'} and there {two or 'none'}; users give "
            "the model Activation blocks of their own, or build a Dense with params= of the other"
        )
    return other.block


def _sharing_block(model: nn.Block, mine: Use, other: Use, roles: Sequence[Role]) -> Any:
    """A new block on the other one's parameters; Gluon forbids a new parameter in an old block."""
    block, source = mine.block, other.block
    outputs, inputs = source.weight.shape
    prefix = block.prefix
    while any(name.startswith(prefix) for name in model.collect_params()):
        prefix = f"{prefix}tied_"
    return nn.Dense(
        outputs,
        activation=block.act and block.act._act_type,
        use_bias=block.bias is not None,
        in_units=inputs,
        dtype=source.weight.dtype,
        # Gluon holds what a shared parameter was made with against what is asked for.
        weight_initializer=(source if "weight" in roles else block).weight.init,
        bias_initializer=block.bias and (source if "bias" in roles else block).bias.init,
        params=taken_from(source, roles, prefix, block),
        flatten=block._flatten,
    )


def _ancestors(model: nn.Block, path: Sequence[str]) -> list[Any]:
    """The blocks around the one that a path leads to, from outside."""
    found = [model]
    for key in path[:-1]:
        found.append(found[-1]._children[key])
    return found


def _parameters(uses: Iterable[Use]) -> Iterator[Parameter]:
    """The parameters of uses. Types are few, and the word for each is made once."""
    dtypes: dict[Any, str] = {}
    for layer, use in enumerate(uses):
        for role, (access, native) in use.parameters.items():
            values = native.data()
            shape = native.shape
            if shape is None or -1 in shape:
                shape = tuple(values.shape)  # a graph that was imported knows of values only
            if (dtype := dtypes.get(values.dtype)) is None:
                # A legacy array has a class for a dtype.
                dtype = dtypes[values.dtype] = numpy.dtype(values.dtype).name
            # By position: names would take as long again as all the rest.
            yield Parameter(
                layer,
                role,
                native.name,
                access,
                shape,
                shape,
                dtype,
                native,
                id(values),
                use.block,
                _held,
                _copied,
                _gradient,
            )


def _held(one: Parameter) -> Any:
    return one.native.data()


def _copied(one: Parameter) -> Array:
    return array_of(one.native.data())


def _gradient(one: Parameter) -> Gradient:
    return Gradient(True, f"{one.access}.grad()", array_of(one.native.grad()))


def _zeros(shape: tuple[int, ...], dtype: str) -> Array:
    zeros: Array = np.zeros(shape, dtype=dtype).asnumpy()
    return zeros
