"""`torch.optim`: its defaults, its norm of gradients, and what it does with a list of duplicates."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from backends.torch import TorchBackend
from backends.trainers.torch import TorchTrainer
from d2lparams.interface import Array, Optimizer, Optimizers, Trainer, Unsupported

_PLAIN = (int, float, str)


class TorchOptimizers(Optimizers):
    """SGD, Adam and AdamW of `torch.optim`."""

    def __init__(self, backend: TorchBackend) -> None:
        self._backend = backend

    def defaults(self) -> dict[str, dict[str, Any]]:
        """What an optimizer's `defaults` hold when it is given parameters only."""
        one = [torch.zeros(1)]
        return {
            cls.__name__: {
                name: _plain(value) for name, value in cls(one).defaults.items() if value is not None
            }
            for cls in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
        }

    def global_norm(self, model: nn.Module, x: Array, y: Array) -> tuple[str, float]:
        """`clip_grad_norm_` with a limit that clips nothing gives the norm."""
        self._backend.gradients(model, x, y)
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=float("inf"))
        return "nn.utils.clip_grad_norm_(net.parameters(), max_norm)", float(norm)

    def penalty(self, model: nn.Module) -> tuple[str, float]:
        """The sum over `net.parameters()`, which lists a shared parameter once."""
        total = sum(float(one.detach().square().sum()) for one in model.parameters())
        return "sum(p.square().sum() for p in net.parameters())", total

    def duplicated(self, model: nn.Module, optimizer: Optimizer) -> Trainer:
        """A list with one entry for each use."""
        uses = self._backend.parameters(model)
        return TorchTrainer(model, uses, optimizer, [one.native for one in uses])

    def scaled(self, model: nn.Module, optimizer: Optimizer, batch_size: int) -> Trainer:
        """There is no such argument."""
        raise Unsupported("optimizer.step() takes no batch size")


def _plain(value: Any) -> Any:
    return value if isinstance(value, _PLAIN) else str(value)
