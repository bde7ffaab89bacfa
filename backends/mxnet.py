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

import json
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy

from d2lparams.interface import (
    MLP,
    ROLES,
    SGD,
    Adam,
    AdamW,
    Array,
    Backend,
    By,
    Claim,
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
    from mxnet import autograd, gluon, np, npx
    from mxnet.gluon import nn

npx.set_np()


class NestMLP(gluon.HybridBlock):  # type: ignore[misc]
    """An inner model of dense layers, and an output layer."""

    def __init__(self, net: Any, linear: Any, **options: Any) -> None:
        super().__init__(**options)
        self.net = net
        self.linear = linear

    def hybrid_forward(self, F: Any, x: Any) -> Any:  # noqa: N803  (Gluon's own name)
        """The output layer on what the inner model gives."""
        return self.linear(self.net(x))


class _Use(NamedTuple):
    """One use of a dense layer: the keys of the children that lead to its block, the block, its parameters.

    Of each parameter the expression that reaches it, and itself. A use that is read from a graph alone has no
    block and no path.
    """

    path: tuple[str, ...]
    block: Any
    parameters: Mapping[Role, tuple[str, Any]]


class MXNetBackend(Backend[nn.Block]):
    """MXNet 1.9, Gluon."""

    name = "mxnet"
    tying: ClassVar[Mapping[By, str]] = {
        "module": "net.register_child(net[j], 'i')",
        "parameter": "net.register_child(nn.Dense(..., params=net[j].params), 'i')",
    }

    def _mlp(self, spec: MLP) -> nn.Block:
        net = nn.HybridSequential()
        *inner, last = _blocks(spec, net.prefix)
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
        uses = _uses(model)
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
        for index, use in enumerate(_uses(model)):
            for role, (access, native) in use.parameters.items():
                yield _parameter(index, role, access, native)

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
        from backends.lifecycles.mxnet import script

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

    def claims(self) -> Sequence[Claim]:
        """Those of the MXNet tab."""
        from backends.claims.mxnet import CLAIMS

        return CLAIMS


def listed(model: nn.Block) -> list[Any]:
    """The model's parameters, each once.

    `collect_params` lists a weight that is shared without its bias under two names, and Gluon's trainer refuses
    to step a parameter that it was given twice.
    """
    return list({parameter.name: parameter for parameter in model.collect_params().values()}.values())


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


# -- building and tying ----------------------------------------------------------------------------------------


def activations(spec: MLP) -> tuple[list[str | None], bool]:
    """The activation after each dense layer, and whether they have to be blocks of their own.

    A Dense holds its activation. Where one block stands at places with different ones, it cannot.
    """
    one = None if spec.activation == "identity" else spec.activation
    native: list[str | None] = [*[one] * (spec.layers - 1), None]
    shared = spec.layers if spec.by == "module" else 0
    return native, any(native[spec.owner(layer)] != native[layer] for layer in range(shared))


def _blocks(spec: MLP, prefix: str) -> list[Any]:
    """The blocks in order of application."""
    native, separate = activations(spec)
    dense: list[Any] = []
    blocks: list[Any] = []
    for layer, activation in enumerate(native):
        outputs, inputs = spec.weight_shape(layer)
        owner = spec.owner(layer, spec.roles[0])
        if owner != layer and spec.by == "module":
            dense.append(dense[owner])
        else:
            tied = None if owner == layer else _shared(dense[owner], spec.roles, f"{prefix}dense{layer}_")
            dense.append(
                nn.Dense(
                    outputs,
                    activation=None if separate else activation,
                    in_units=0 if spec.lazy else inputs,
                    params=tied,
                )
            )
        blocks.append(dense[layer])
        if separate and activation:
            blocks.append(nn.Activation(activation))
    return blocks


def _shared(other: Any, roles: Sequence[Role], prefix: str, own: Any = None) -> Any:
    """What a new block takes its parameters from: another block, and for those that it keeps, its own."""
    if set(roles) == set(ROLES):
        return other.params
    # A bias that is not shared would be made anew under the other bias's name, and collide with it in
    # collect_params. A dictionary with names of its own may list the other weight under such a name.
    shared = gluon.ParameterDict(prefix)
    for role in ROLES:
        native = getattr(other if role in roles else own, role, None)
        if native is not None:
            shared.update({prefix + role: native})
    return shared


def _same_block(mine: _Use, other: _Use) -> Any:
    one, two = (use.block.act and use.block.act._act_type for use in (mine, other))
    if one != two:
        raise Unsupported(
            f"a Gluon Dense holds its activation, here {one or 'none'} and there {two or 'none'}; users give "
            "the model Activation blocks of their own, or build a Dense with params= of the other"
        )
    return other.block


def _sharing_block(model: nn.Block, mine: _Use, other: _Use, roles: Sequence[Role]) -> Any:
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
        params=_shared(source, roles, prefix, block),
        flatten=block._flatten,
    )


def _ancestors(model: nn.Block, path: Sequence[str]) -> list[Any]:
    """The blocks around the one that a path leads to, from outside."""
    found = [model]
    for key in path[:-1]:
        found.append(found[-1]._children[key])
    return found


# -- the uses of dense layers ----------------------------------------------------------------------------------


def _uses(model: nn.Block) -> list[_Use]:
    """Every use of every dense layer, in order of application."""
    standing = list(_standing(model, (), "net"))
    if _applies_children_in_order(model):
        return standing
    try:
        # Symbols of parameters that have no shape yet would be kept by the blocks.
        parameters = {one.name: one for one in listed(model) if one.data() is not None}
        nodes = json.loads(_graph(model).tojson())["nodes"]
    except Exception:
        # Its class computes with arrays only, or has no values yet; its children are what is known of it.
        return standing
    return list(_applied(nodes, parameters, standing))


def _standing(block: nn.Block, path: tuple[str, ...], access: str) -> Iterator[_Use]:
    """A use for each place where a dense block stands, in the order in which the blocks were added."""
    if isinstance(block, nn.Dense):
        found: dict[Role, Any] = {role: getattr(block, role) for role in ROLES}
        parameters = {role: (f"{access}.{role}", one) for role, one in found.items() if one is not None}
        yield _Use(path, block, parameters)
        return
    indexed = isinstance(block, (nn.Sequential, nn.HybridSequential))
    for place, (key, child) in enumerate(block._children.items()):
        yield from _standing(child, (*path, key), f"{access}[{place}]" if indexed else f"{access}.{key}")


def _applies_children_in_order(block: nn.Block) -> bool:
    """Whether all that a block applies are its children, one after the other."""
    if type(block) in (nn.Sequential, nn.HybridSequential, NestMLP):
        return all(_applies_children_in_order(child) for child in block._children.values())
    return isinstance(block, nn.Dense) or not (block._children or block._reg_params)


def _graph(model: nn.Block) -> Any:
    """The model as a symbol."""
    if isinstance(model, gluon.SymbolBlock):
        return model._cached_graph[1]  # with NumPy semantics, a SymbolBlock cannot be called with a symbol
    return model(mx.sym.var("data").as_np_ndarray())


def _applied(
    nodes: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], standing: Sequence[_Use]
) -> Iterator[_Use]:
    """The uses that a graph makes of dense layers; its nodes stand in order of application."""
    names = [[one.name for _, one in use.parameters.values()] for use in standing]
    waiting = list(range(len(standing)))
    for node in nodes:
        if node["op"] != "FullyConnected":
            continue
        read = [nodes[place]["name"] for place, *_ in node["inputs"][1:]]
        if not set(read) <= set(parameters):
            continue  # its weight is computed, and no parameter
        places = [place for place in range(len(standing)) if names[place] == read]
        if not places:
            found = {
                role: (f"net.collect_params()[{name!r}]", parameters[name]) for role, name in zip(ROLES, read)
            }
            yield _Use((), None, found)
            continue
        # Blocks with the same parameters stand for one use each; a block that is called again, for the next.
        place = next((place for place in places if place in waiting), places[-1])
        if place in waiting:
            waiting.remove(place)
        yield standing[place]


def _parameter(layer: int, role: Role, access: str, native: Any) -> Parameter:
    values = native.data()
    return Parameter(
        layer=layer,
        role=role,
        native_name=native.name,
        access=access,
        # Of a graph that was imported, the values have a shape and the parameters have none.
        native_shape=tuple(values.shape),
        shape=tuple(values.shape),
        dtype=numpy.dtype(values.dtype).name,  # a legacy array has a class for a dtype
        native=native,
        native_value=values,
        storage=id(values),
        read=lambda: array_of(native.data()),
        read_gradient=lambda: Gradient(True, f"{access}.grad()", array_of(native.grad())),
    )


def _zeros(shape: tuple[int, ...], dtype: str) -> Array:
    zeros: Array = np.zeros(shape, dtype=dtype).asnumpy()
    return zeros


# -- training --------------------------------------------------------------------------------------------------


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
