"""Safetensors: files of any writer, and our own, which say which names are one storage.

In our own files the note "d2lparams" is a JSON document; its "ties" are groups of names. The data of the first
name of a group is in the file, and the others stand for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from d2lparams.checkpoints.checkpoint import Checkpoint, Tensor, bad, each_once
from d2lparams.checkpoints.mapped import Mapped
from d2lparams.checks import Array
from d2lparams.tensor_file import LONGEST_HEADER, TensorFile, open_tensor_file, shown
from d2lparams.tensor_file import write as write_file

FORMAT = "safetensors"
NOTE = "d2lparams"


def belongs(file: Mapped) -> bool:
    """Whether a file begins as one."""
    return file.size >= 9 and file.number(0, 8) <= LONGEST_HEADER and file.take(8, 1) == b"{"


def read(path: Path) -> Checkpoint:
    """List its arrays, and what stands for one of them behind it.

    Raises:
        BadFile: when it is not whole, or its ties name what is not there.
    """
    file = open_tensor_file(path)
    try:
        others = _ties(file)
        tensors = []
        for entry in file.entries.values():
            for name in (entry.name, *others.get(entry.name, ())):
                source = partial(file.array, entry.name)
                tensors.append(Tensor(name, entry.shape, entry.dtype, entry.nbytes, entry.name, source))
        each_once(path, (one.name for one in tensors))
        checkpoint = Checkpoint(path, FORMAT, tuple(tensors), dict(file.metadata))
    except BaseException:
        file.close()
        raise
    checkpoint.resources.callback(file.close)
    return checkpoint


def write(
    path: Path,
    arrays: Mapping[str, Array],
    ties: Sequence[Sequence[str]] = (),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays; of a tie, the first name's.

    Raises:
        ValueError: for what the format cannot hold.
        OSError: when the file cannot be written.
    """
    later = {name for group in ties for name in group[1:]}
    notes = dict(metadata or {})
    if ties and NOTE not in notes:
        notes[NOTE] = json.dumps({"ties": [list(group) for group in ties]})
    write_file(path, {name: array for name, array in arrays.items() if name not in later}, notes)


def _ties(file: TensorFile) -> dict[str, list[str]]:
    """For a name whose data is in the file, the names that stand for it."""
    if NOTE not in file.metadata:
        return {}
    try:
        document: Any = json.loads(file.metadata[NOTE])
    except (ValueError, RecursionError):
        raise bad(file.path, f"its note {NOTE!r} is no JSON") from None
    groups = document.get("ties", []) if isinstance(document, dict) else None
    if not isinstance(groups, list) or not all(_is_group(group) for group in groups):
        raise bad(file.path, f"the ties in its note {NOTE!r} are no groups of names")
    for group in groups:
        if group[0] not in file.entries:
            raise bad(file.path, f"it ties names to {shown(group[0])}, which is not in it")
    others: dict[str, list[str]] = {}
    for group in groups:
        others.setdefault(group[0], []).extend(group[1:])
    return others


def _is_group(group: object) -> bool:
    return isinstance(group, list) and len(group) > 1 and all(isinstance(name, str) for name in group)
