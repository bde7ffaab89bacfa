"""PyTorch's `.pt` and `.pth`: a zip file with a pickle, which says what there is, and each storage's numbers.

A pickle is a program. Before PyTorch sees it, its operations are looked through here: what a state dict does
not need is refused. PyTorch then reads it, without its numbers, in its own environment, and says where they
lie; that is held against the zip file's directory, and the numbers are looked at here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from d2lparams import errands
from d2lparams.checkpoints.archive import Archive, Member
from d2lparams.checkpoints.checkpoint import Checkpoint, Tensor, bad, each_once
from d2lparams.checkpoints.mapped import Mapped, nbytes
from d2lparams.checks import Array
from d2lparams.tensor_file import BadFile, from_bytes, item_bits, shown
from d2lparams.tensor_file import write as write_file

FORMAT = "PyTorch"
ADVICE = "save the values only: torch.save(net.state_dict(), path)"
"""What to do about a file that holds more than values."""

OLD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file of PyTorch before 1.6 begins."""

_LONGEST_PICKLE = 64 * 2**20
_SECONDS = 120.0
_SAFE = {
    *("collections OrderedDict", "collections Counter", "_codecs encode", "torch Size", "torch device"),
    *("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"),
    *("torch._utils _rebuild_parameter", "torch.nn.parameter Parameter", "torch Tensor"),
    *("torch.storage UntypedStorage", "torch.storage TypedStorage", "builtins set", "builtins bytearray"),
}
"""The names that a state dict may call; those of dtypes and of their storages, too."""

_OPERATIONS = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "NONE", "NEWTRUE", "NEWFALSE"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "EMPTY_SET", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("SETITEM", "SETITEMS", "APPEND", "APPENDS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("BININT", "BININT1", "BININT2", "BINFLOAT", "LONG1", "BINUNICODE", "SHORT_BINSTRING"),
}
"""What PyTorch's own reader of values knows, and nothing else."""


def belongs(archive: Archive) -> bool:
    """Whether a zip file is such a one."""
    return _pickle(archive) is not None


def read(
    archive: Archive, *, offline: bool = False, progress: Callable[[str], None] = lambda text: None
) -> Checkpoint:
    """List the tensors of a state dict; keys of nested dicts have "." between them.

    Args:
        archive: the zip file.
        offline: build PyTorch's environment, when it is not there, from what is on this machine only.
        progress: is told of that.

    Raises:
        BadFile: when it holds something else, or is not whole.
        InstallFailed: when PyTorch's environment cannot be built.
    """
    check(archive)
    try:
        found = errands.run_in_column(
            "torch",
            "backends.files.torch:layout",
            {"path": errands.existing(archive.path)},
            memory=errands.MEMORY + 2 * archive.file.size,  # PyTorch maps the file as its own
            seconds=_SECONDS,
            offline=offline,
            progress=progress,
        )
    except errands.ErrandFailed as error:
        raise bad(archive.path, f"PyTorch cannot read it: {error}") from None
    except BadFile as error:
        raise bad(archive.path, str(error).removeprefix(f"{errands.existing(archive.path)}: ")) from None
    return listed(archive, found)


def check(archive: Archive) -> None:
    """Look a file through that PyTorch is to read.

    Raises:
        BadFile: when it is one that PyTorch must not read, or that is not whole.
    """
    pickle = _pickle(archive)
    assert pickle is not None
    folder = pickle.name.removesuffix("data.pkl")
    for name, member in archive.members.items():
        if not name.startswith(folder):
            raise bad(archive.path, f"its member {shown(name)} stands where PyTorch puts none")
        if not member.stored:
            raise bad(
                archive.path,
                f"its member {shown(name)} is compressed, as PyTorch writes no file; unpack it first",
            )
    order = archive.members.get(f"{folder}byteorder")
    if order is not None and archive.read(order.name, 100) != b"little":
        raise bad(archive.path, "it is from a machine of the other byte order; save it again on one like this")
    _look_through(archive.path, archive.read(pickle.name, _LONGEST_PICKLE))


def listed(archive: Archive, found: Any) -> Checkpoint:
    """The checkpoint that PyTorch has found in a file, held against the file."""
    each_once(archive.path, (one["name"] for one in found["tensors"]))
    members = {one.start: one for one in archive.members.values() if one.size}
    checked: set[str] = set()
    tensors = []
    for one in found["tensors"]:
        name, dtype, shape, strides = one["name"], one["dtype"], tuple(one["shape"]), tuple(one["strides"])
        size, width = nbytes(archive.path, name, dtype, shape), (item_bits(dtype) or 8) // 8
        extent = (
            width * (1 + sum((length - 1) * stride for length, stride in zip(shape, strides))) if size else 0
        )
        storage = members.get(one["storage"])
        if min(strides, default=0) < 0 or (
            size
            and (
                storage is None
                or not storage.start <= one["start"] <= one["start"] + extent <= storage.start + storage.size
            )
        ):
            raise bad(archive.path, f"{shown(name)} would lie outside of the numbers that are its own")
        view = (one["start"], extent, dtype, shape, strides)
        block = (one["start"], extent) if size else name
        source = partial(_array, archive, storage, checked, name, *view)
        tensors.append(Tensor(name, shape, dtype, size, block, source))
    return Checkpoint(archive.path, FORMAT, tuple(tensors), dict(found["notes"]))


def write(
    path: Path,
    arrays: Mapping[str, Array],
    ties: Sequence[Sequence[str]] = (),
    *,
    offline: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Write arrays as a state dict; names of a tie share one tensor.

    Raises:
        ValueError: for a dtype that cannot be written.
        ErrandFailed: when PyTorch cannot write it.
        InstallFailed: when PyTorch's environment cannot be built.
        OSError: when the file cannot be written.
    """
    later = {name for group in ties for name in group[1:]}
    with errands.temporary_folder() as folder:
        source, target = Path(folder, "values.safetensors"), path.with_name(f".{path.name}.partial")
        write_file(source, {name: array for name, array in arrays.items() if name not in later})
        try:
            errands.run_in_column(
                "torch",
                "backends.files.torch:pack",
                {
                    "source": str(source),
                    "target": errands.existing(target),
                    "ties": [list(one) for one in ties],
                },
                memory=errands.MEMORY + 3 * source.stat().st_size,
                offline=offline,
                progress=progress,
            )
            target.replace(path)
        finally:
            target.unlink(missing_ok=True)


def refuse_pickle(file: Mapped) -> None:
    """A file that is a pickle and nothing else is refused, with what to do about it.

    Raises:
        BadFile: when it is one.
    """
    front = file.take(0, min(file.size, 64))
    if front.startswith(OLD):
        raise bad(file.path, f"it is in PyTorch's form from before version 1.6; load it there, and {ADVICE}")
    if file.size > 1 and front[0] == 0x80 and 2 <= front[1] <= 5:
        raise bad(file.path, f"it is a pickle, a program that would be run to read it, so it is not; {ADVICE}")


def _pickle(archive: Archive) -> Member | None:
    """The member that says what there is."""
    found = [
        one for name, one in archive.members.items() if name.endswith("/data.pkl") and name.count("/") == 1
    ]
    return found[0] if len(found) == 1 else None


def _look_through(path: Path, content: bytearray) -> None:
    """Every operation of a pickle must be one that a state dict needs."""
    try:
        for operation, argument, _ in pickletools.genops(bytes(content)):
            if operation.name == "GLOBAL" and not _is_safe(str(argument)):
                called = str(argument).replace(" ", ".")
                raise bad(
                    path,
                    f"it holds more than values ({shown(called)[1:-1]}), which would be run; {ADVICE}",
                )
            if operation.name not in _OPERATIONS:
                raise bad(path, f"it holds more than values (the operation {operation.name}); {ADVICE}")
    except BadFile:
        raise
    except Exception as error:  # pickletools has no exception of its own
        raise bad(path, f"what it says of its values is damaged: {error!s:.100}") from None


def _is_safe(name: str) -> bool:
    module, _, word = name.partition(" ")
    if module == "torch" and (word.endswith("Storage") or item_bits(word) or word in _DTYPES):
        return word.isidentifier()
    return name in _SAFE


_DTYPES = {"complex64", "complex128", "complex32", "float", "double", "half", "int", "long", "short"}


def _array(
    archive: Archive,
    storage: Member | None,
    checked: set[str],
    name: str,
    start: int,
    extent: int,
    dtype: str,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> Array:
    """The values of one tensor, as a view of the file; a storage is held against its checksum once."""
    if storage is None or not extent:
        return from_bytes(archive.path, name, archive.file.raw(0, 0), dtype, shape)
    if storage.name not in checked:
        archive.check(storage.name)
        checked.add(storage.name)
    width = (item_bits(dtype) or 8) // 8
    flat = from_bytes(archive.path, name, archive.file.raw(start, extent), dtype, (extent // width,))
    steps = tuple(stride * flat.itemsize for stride in strides)
    return np.lib.stride_tricks.as_strided(flat, shape, steps, writeable=False)
