# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "safetensors==0.8.0", "numpy==2.4.6"]
# [tool.d2lparams]
# title = "PyTorch"
# class = "TorchBackend"
# modules = ["torch", "safetensors"]
# later = ["torch._dynamo", "torch._inductor.compile_fx"]
# aliases = ["pytorch"]
# position = 1
# ///
"""PyTorch: the model is an `nn.Sequential`; parameters are mutable tensors that carry their own gradient.

A dense layer is an `nn.Linear`. In a model that is not a Sequential, PyTorch knows the order in which layers
were registered, not the one in which `forward` applies them; the layers are counted in the former.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np

from d2lparams.interface import (
    MLP,
    ROLES,
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
    needs,
)

with needs("torch"):
    import torch
    from torch import nn

    from backends.trainers.torch import TorchTrainer

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}


_Use = tuple[int, Role, str, str, Any, Any]
"""The layer, the role, the name, the access, the parameter, and the layer object; None where none is known."""


class NestMLP(nn.Module):  # type: ignore[misc]  # torch is not installed where types are checked
    """A model of two parts, as in section 6.1 of the book."""

    def __init__(self, net: nn.Module, linear: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.linear = linear

    def forward(self, x: Any) -> Any:
        """The last layer on what the inner model gives."""
        return self.linear(self.net(x))


class TorchBackend(Backend[nn.Module]):
    """PyTorch in eager mode."""

    name = "torch"
    tying: ClassVar[Mapping[By, str]] = {
        "module": "net[i] = net[j]",
        "parameter": "net[i].weight = net[j].weight",
    }

    def _mlp(self, spec: MLP) -> nn.Module:
        dtype = getattr(torch, spec.dtype)
        dense: list[nn.Module] = []
        for layer in range(spec.layers):
            outputs, inputs = spec.weight_shape(layer)
            if spec.by == "module" and spec.owner(layer) != layer:
                dense.append(dense[spec.owner(layer)])
            elif spec.lazy:
                dense.append(nn.LazyLinear(outputs, dtype=dtype))
            else:
                dense.append(nn.Linear(inputs, outputs, dtype=dtype))
            for role in spec.roles:
                setattr(dense[layer], role, getattr(dense[spec.owner(layer, role)], role))
        modules: list[nn.Module] = []
        for module in dense[:-1]:
            modules += [module, _ACTIVATIONS[spec.activation]()]
        if spec.nested:
            return NestMLP(nn.Sequential(*modules), dense[-1])
        return nn.Sequential(*modules, dense[-1])

    def _initialize(self, model: nn.Module, x: Array) -> nn.Module:
        model(torch.from_numpy(x))
        return model

    def _tie(self, model: nn.Module, layer: int, to: int, by: By, roles: Sequence[Role]) -> nn.Module:
        uses = _dense(model)
        path, mine = uses[layer]
        _, other = uses[to]
        if by == "module":
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, other)
        else:
            for role in roles:
                setattr(mine, role, getattr(other, role))
        return model

    def _parameters(self, model: nn.Module) -> Iterator[Parameter]:
        if isinstance(model, torch.fx.GraphModule):
            return _parameters(_exported(model))
        return _parameters(_standing(model))

    def _listings(self, model: nn.Module) -> dict[str, list[str]]:
        return {
            "net.named_parameters()": [f"{name} {_shape(p)}" for name, p in model.named_parameters()],
            "net.state_dict()": [f"{name} {_shape(p)}" for name, p in model.state_dict().items()],
        }

    def _counts(self, model: nn.Module) -> dict[str, int]:
        return {
            "len(list(net.parameters()))": len(list(model.parameters())),
            "len(net.state_dict())": len(model.state_dict()),
            "sum(p.numel() for p in net.parameters())": sum(p.numel() for p in model.parameters()),
        }

    def _assign(self, model: nn.Module, parameter: Parameter, value: Array) -> None:
        with torch.no_grad():
            parameter.native.copy_(torch.from_numpy(value))

    def _forward(self, model: nn.Module, x: Array) -> Array:
        with torch.no_grad():
            return _array(model(torch.from_numpy(x)))

    def _gradients(self, model: nn.Module, x: Array, y: Array) -> dict[tuple[int, Role], Array]:
        model.zero_grad()
        nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        return {(one.layer, one.role): _array(one.native.grad) for one in self._parameters(model)}

    def _trainer(self, model: nn.Module, optimizer: Optimizer) -> Trainer:
        return TorchTrainer(model, self.parameters(model), optimizer, list(model.parameters()))

    def fresh(self) -> AbstractContextManager[Any]:
        """The compiler forgets what it compiled: after some models of one class it would compile no more."""
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        return nullcontext()

    def lifecycles(self) -> Sequence[Lifecycle[nn.Module]]:
        """From `copy.deepcopy` to `torch.export`."""
        from backends.lifecycles.torch import LIFECYCLES

        return LIFECYCLES

    def script(self, lifecycle: Lifecycle[nn.Module], spec: MLP, outcome: str) -> str:
        """A program that imports PyTorch only."""
        from backends.scripts.torch import script

        return script(lifecycle, spec, outcome)

    def formats(self) -> Sequence[Format[nn.Module]]:
        """State dicts saved by PyTorch, and safetensors."""
        from backends.formats.torch import FORMATS

        return FORMATS

    def optimizers(self) -> Optimizers:
        """`torch.optim`."""
        from backends.optimizers.torch import TorchOptimizers

        return TorchOptimizers(self)

    def layers(self) -> Layers[nn.Module]:
        """`torch.nn`."""
        from backends.layers.torch import TorchLayers

        return TorchLayers()

    def carrier(self) -> Carrier[nn.Module]:
        """Of any module of layers of `torch.nn`."""
        from backends.carriers.torch import TorchCarrier

        return TorchCarrier()

    def example(self, example: Example) -> nn.Module:
        """Multilayer perceptrons by `mlp`, the others as a user writes them."""
        from backends.examples.torch import build

        return self.mlp(example.mlp) if example.mlp is not None else build(example)

    def claims(self) -> Sequence[Claim]:
        """Those of the PyTorch tab."""
        from backends.claims.torch import CLAIMS

        return CLAIMS


def _dense(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every use of every linear layer, with its path in the model."""
    return [(path.removesuffix("."), module) for path, _, module in _linear(model, "", "net")]


def _standing(model: nn.Module) -> Iterator[_Use]:
    """The parameters of the layers of `_dense`."""
    for layer, (path, access, module) in enumerate(_linear(model, "", "net")):
        held = module._parameters
        for role in ROLES:
            # Asked for an attribute, PyTorch looks there last. What is computed anew does not stand there.
            native = held.get(role)
            if native is None:
                native = getattr(module, role)
            if native is not None:
                yield layer, role, f"{path}{role}", f"{access}.{role}", native, module


def _linear(module: nn.Module, path: str, access: str) -> Iterator[tuple[str, str, nn.Module]]:
    """Every use of every linear layer, with what its parameters' names begin with, and its access.

    In the order of `named_modules(remove_duplicate=False)`, in a fourth of its time: there may be thousands.
    """
    if isinstance(module, nn.Linear):
        yield path, access, module
    for name, child in module._modules.items():
        if child is None:
            continue
        inner, step = f"{path}{name}.", f"[{name}]" if name.isdecimal() else f".{name}"
        if child._modules:
            yield from _linear(child, inner, f"{access}{step}")
        elif isinstance(child, nn.Linear):
            yield inner, f"{access}{step}", child


def _exported(model: torch.fx.GraphModule) -> Iterator[_Use]:
    """The parameters of the linear operations of an exported program, in order."""
    linear = torch.ops.aten.linear.default
    nodes = [node for node in model.graph.nodes if node.target == linear]
    for layer, node in enumerate(nodes):
        for role, argument in zip(ROLES, node.args[1:]):
            name = argument.target
            yield layer, role, name, f"net.get_parameter({name!r})", model.get_parameter(name), None


def _parameters(uses: Iterable[_Use]) -> Iterator[Parameter]:
    """With all that is asked of a tensor. Shapes and types are few, and the words for each are made once."""
    shapes: dict[Any, tuple[int, ...]] = {}
    dtypes: dict[Any, str] = {}
    for layer, role, name, access, native, module in uses:
        if type(native) is not nn.Parameter:
            native.detach()  # a lazy parameter without values says so here, in PyTorch's own words
        size = native.shape
        if (shape := shapes.get(size)) is None:
            shape = shapes[size] = tuple(size)
        if (dtype := dtypes.get(native.dtype)) is None:
            dtype = dtypes[native.dtype] = str(native.dtype).removeprefix("torch.")
        # Two tensors are one storage when they start at the same address, be they one Python object or not.
        storage = (native.device, native.data_ptr(), shape)
        # By place: names would take as long again as all the rest.
        yield Parameter(
            layer, role, name, access, shape, shape, dtype, native, storage, module, _held, _copied, _gradient
        )


def _held(one: Parameter) -> Any:
    return one.native.data


def _copied(one: Parameter) -> Array:
    return _array(one.native)


def _gradient(one: Parameter) -> Gradient:
    value = None if one.native.grad is None else _array(one.native.grad)
    return Gradient(True, f"{one.access}.grad", value)


def _shape(tensor: Any) -> str:
    lazy = isinstance(tensor, nn.parameter.UninitializedParameter)
    return f"<{type(tensor).__name__}>" if lazy else str(tuple(tensor.shape))


def _array(tensor: Any) -> Array:
    return np.array(tensor.detach().cpu().numpy())
