# /// script
# requires-python = "==3.11.*"
# dependencies = ["torch==2.13.0", "numpy==2.4.6"]
# [tool.d2lparams]
# title = "PyTorch"
# class = "TorchBackend"
# modules = ["torch"]
# aliases = ["pytorch"]
# position = 1
# ///
"""PyTorch: the model is an `nn.Sequential`; parameters are mutable tensors that carry their own gradient.

A dense layer is an `nn.Linear`. In a model that is not a Sequential, PyTorch knows the order in which layers
were registered, not the one in which `forward` applies them; the layers are counted in the former.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

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

with needs("torch"):
    import torch
    from torch import nn

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}


class TorchBackend(Backend[nn.Module]):
    """PyTorch in eager mode."""

    name = "torch"
    tying = "net[i] = net[j]"

    def _mlp(self, spec: MLP) -> nn.Module:
        dtype = getattr(torch, spec.dtype)
        dense: list[nn.Module] = []
        for layer in range(spec.layers):
            outputs, inputs = spec.weight_shape(layer)
            if spec.owner(layer) != layer:
                dense.append(dense[spec.owner(layer)])
            elif spec.lazy:
                dense.append(nn.LazyLinear(outputs, dtype=dtype))
            else:
                dense.append(nn.Linear(inputs, outputs, dtype=dtype))
        modules = [dense[0]]
        for module in dense[1:]:
            modules += [_ACTIVATIONS[spec.activation](), module]
        return nn.Sequential(*modules)

    def _initialize(self, model: nn.Module, x: Array) -> nn.Module:
        model(torch.from_numpy(x))
        return model

    def _tie(self, model: nn.Module, layer: int, to: int) -> nn.Module:
        uses = _dense(model)
        parent, _, child = uses[layer][0].rpartition(".")
        setattr(model.get_submodule(parent), child, uses[to][1])
        return model

    def _parameters(self, model: nn.Module) -> Iterator[Parameter]:
        for index, (path, module) in enumerate(_dense(model)):
            for role in ROLES:
                if getattr(module, role) is not None:
                    yield _parameter(index, role, path, getattr(module, role))

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
        return _Trainer(model, self.parameters(model), optimizer)


def _dense(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every use of every linear layer, with its path in the model."""
    modules = model.named_modules(remove_duplicate=False)
    return [(path, module) for path, module in modules if isinstance(module, nn.Linear)]


def _parameter(layer: int, role: Role, path: str, native: Any) -> Parameter:
    native.detach()  # a lazy parameter without values says so here, in PyTorch's own words
    parts = [part for part in path.split(".") if part]
    access = "net" + "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts) + f".{role}"

    def gradient() -> Gradient:
        return Gradient(True, f"{access}.grad", None if native.grad is None else _array(native.grad))

    return Parameter(
        layer=layer,
        role=role,
        native_name=".".join([*parts, role]),
        access=access,
        native_shape=tuple(native.shape),
        shape=tuple(native.shape),
        dtype=str(native.dtype).removeprefix("torch."),
        native=native,
        native_value=native.data,
        # Two tensors are one storage when they start at the same address, be they one Python object or not.
        storage=(native.device, native.data_ptr(), tuple(native.shape)),
        read=lambda: _array(native),
        read_gradient=gradient,
    )


def _shape(tensor: Any) -> str:
    lazy = isinstance(tensor, nn.parameter.UninitializedParameter)
    return f"<{type(tensor).__name__}>" if lazy else str(tuple(tensor.shape))


def _array(tensor: Any) -> Array:
    return np.array(tensor.detach().cpu().numpy())


class _Trainer(Trainer):
    """Eager mode: a compiler takes seconds, and saves nothing on steps of this size.

    The fused optimizer wakes every thread for every parameter, which pays for large ones only: the limit is the
    size from which PyTorch itself spreads an operation over threads (`at::internal::GRAIN_SIZE`).
    """

    def __init__(self, model: nn.Module, parameters: list[Parameter], optimizer: Optimizer) -> None:
        super().__init__(parameters)
        self._model = model
        trained = list(model.parameters())
        fused = max(parameter.numel() for parameter in trained) >= 32768
        if isinstance(optimizer, SGD):
            self._optimizer: Any = torch.optim.SGD(
                trained, lr=optimizer.learning_rate, momentum=optimizer.momentum, fused=fused
            )
        else:
            betas = (optimizer.beta1, optimizer.beta2)
            self._optimizer = torch.optim.Adam(
                trained, lr=optimizer.learning_rate, betas=betas, eps=optimizer.epsilon, fused=fused
            )

    def _step(self, x: Array, y: Array) -> float:
        self._optimizer.zero_grad()
        loss = nn.functional.mse_loss(self._model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())
