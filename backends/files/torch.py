"""Files of PyTorch: a state dict as `torch.save` writes it.

PyTorch reads what stands where, and only that: with `weights_only`, so that nothing in a file is run, and onto
the device "meta", so that no number is read. Where the numbers lie is then known, and anybody can look there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from d2lparams.tensor_file import BadFile, open_tensor_file, shown


def layout(path: str) -> dict[str, Any]:
    """What stands where in a file.

    Returns:
        "tensors": for each its name, dtype, shape and strides, "start", where its first number lies in the
        file, and the "storage" that it is a view of, by the place where that begins. "notes": every other
        value, name to text.

    Raises:
        BadFile: when PyTorch refuses the file, or something in it is no dense tensor and no plain value.
    """
    try:
        loaded = torch.load(path, weights_only=True, mmap=True, map_location="meta")
    except Exception as error:
        lines = f"{type(error).__name__}: {error}".split("\n")
        raise BadFile(f"{path}: PyTorch cannot read it: {lines[0][:200]}") from None
    tensors, notes = [], {}
    for name, value in _leaves("", loaded, 0):
        if isinstance(value, torch.Tensor):
            tensors.append(_placed(path, name, value))
        else:
            notes[name] = str(value)[:1000]
    return {"tensors": tensors, "notes": notes}


def pack(source: str, target: str, ties: Sequence[Sequence[str]]) -> None:
    """Write a file of arrays as a state dict. Tied names share one tensor, as in a model that ties them.

    Args:
        source: the file of arrays; of a tie, the first name's.
        target: the file to write.
        ties: groups of names.
    """
    others = {group[0]: group[1:] for group in ties}
    state: dict[str, torch.Tensor] = {}
    with open_tensor_file(Path(source)) as file:
        for name, entry in file.entries.items():
            tensor = torch.empty(entry.shape, dtype=getattr(torch, entry.dtype))
            if entry.nbytes:
                tensor.reshape(-1).view(torch.uint8).copy_(torch.from_numpy(file.raw(name)))
            state.update(dict.fromkeys((name, *others.get(name, ())), tensor))
    torch.save(state, target)


def _leaves(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Everything in nested containers, with "." between keys."""
    if depth > 100:
        raise BadFile(f"{shown(name)} is nested too deeply")
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, (list, tuple)) and not isinstance(value, torch.Size):
        items = enumerate(value)
    else:
        yield name, value
        return
    for key, item in items:
        yield from _leaves(f"{name}.{key}" if name else str(key), item, depth + 1)


def _placed(path: str, name: str, tensor: torch.Tensor) -> dict[str, Any]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_conj() or tensor.is_neg():
        raise BadFile(f"{path}: {shown(name)} is no plain dense tensor; save it as one")
    storage = tensor.untyped_storage()._checkpoint_offset
    if storage is None:
        raise BadFile(f"{path}: {shown(name)} has no place in the file")
    return {
        "name": name,
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "strides": list(tensor.stride()),
        "start": storage + tensor.storage_offset() * tensor.element_size(),
        "storage": storage,
    }
