"""The files that PyTorch's users keep values in: a state dict by `torch.save`, and safetensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from d2lparams.interface import Array, Format

Change = Callable[[dict[str, Array]], dict[str, Array]]


def _save(model: nn.Module, path: Path) -> None:
    torch.save(model.state_dict(), path)


def _load(model: nn.Module, path: Path, *, strict: bool = True, assign: bool = False) -> nn.Module:
    model.load_state_dict(torch.load(path), strict=strict, assign=assign)
    return model


def _edit(path: Path, change: Change) -> None:
    entries = {name: np.array(value.numpy()) for name, value in torch.load(path).items()}
    torch.save({name: torch.tensor(value) for name, value in change(entries).items()}, path)


def _save_safe(model: nn.Module, path: Path) -> None:
    safetensors.torch.save_model(model, str(path))


def _load_safe(model: nn.Module, path: Path, *, strict: bool = True) -> nn.Module:
    safetensors.torch.load_model(model, path, strict=strict)
    return model


def _edit_safe(path: Path, change: Change) -> None:
    entries = {name: np.array(value.numpy()) for name, value in safetensors.torch.load_file(path).items()}
    # Beside the values the file has notes: which names were left out because they are another one's.
    with safetensors.safe_open(path, "pt") as file:
        notes = file.metadata()
    edited = {name: torch.tensor(value) for name, value in change(entries).items()}
    safetensors.torch.save_file(edited, path, metadata=notes)


FORMATS: Sequence[Format[nn.Module]] = [
    Format("load_state_dict", "net.load_state_dict(torch.load(path))", _save, _load, _edit),
    Format(
        "load_state_dict(strict=False)",
        "net.load_state_dict(torch.load(path), strict=False)",
        _save,
        partial(_load, strict=False),
        _edit,
    ),
    Format(
        "load_state_dict(assign=True)",
        "net.load_state_dict(torch.load(path), assign=True)",
        _save,
        partial(_load, assign=True),
        _edit,
    ),
    Format("safetensors", "safetensors.torch.load_model(net, path)", _save_safe, _load_safe, _edit_safe),
    Format(
        "safetensors(strict=False)",
        "safetensors.torch.load_model(net, path, strict=False)",
        _save_safe,
        partial(_load_safe, strict=False),
        _edit_safe,
    ),
]
