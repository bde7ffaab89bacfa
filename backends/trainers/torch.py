"""What trains a PyTorch model: its own loop, in eager mode, with an optimizer of `torch.optim`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from d2lparams.interface import SGD, Adam, Array, Optimizer, Parameter, Trainer


class TorchTrainer(Trainer):
    """Eager mode: a compiler takes seconds, and saves nothing on steps of this size.

    The fused optimizer wakes every thread for every parameter, which pays for large ones only: the limit is the
    size from which PyTorch itself spreads an operation over threads (`at::internal::GRAIN_SIZE`).

    Args:
        model: what is trained.
        parameters: of the model, as the harness lists them.
        optimizer: the rule.
        trained: what the optimizer is handed.
    """

    def __init__(
        self, model: nn.Module, parameters: list[Parameter], optimizer: Optimizer, trained: list[Any]
    ) -> None:
        super().__init__(parameters)
        self._model = model
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}
        fused = max(parameter.numel() for parameter in trained) >= 32768
        self._optimizer = _rule(optimizer, trained, fused)

    def _step(self, x: Array, y: Array) -> float:
        self._optimizer.zero_grad()
        loss = nn.functional.mse_loss(self._model(torch.from_numpy(x)), torch.from_numpy(y))
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    def _set_learning_rate(self, learning_rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate

    def _slots(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{key} of {self._names[id(parameter)]}": tuple(value.shape)
            for parameter, state in self._optimizer.state.items()
            for key, value in state.items()
            if torch.is_tensor(value) and value.shape == parameter.shape
        }


def _rule(optimizer: Optimizer, trained: list[Any], fused: bool) -> Any:
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(
            trained,
            lr=optimizer.learning_rate,
            momentum=optimizer.momentum,
            weight_decay=optimizer.weight_decay,
            fused=fused,
        )
    settings = {
        "lr": optimizer.learning_rate,
        "betas": (optimizer.beta1, optimizer.beta2),
        "eps": optimizer.epsilon,
        "fused": fused,
    }
    if isinstance(optimizer, Adam):
        return torch.optim.Adam(trained, **settings)
    return torch.optim.AdamW(trained, weight_decay=optimizer.weight_decay, **settings)
