"""MXNet's `.params`: a list of arrays and a list of their names, as `save_parameters` and `nd.save` write them.

All numbers are little-endian:

    list     u64 0x112, u64 0, u64 how many arrays, the arrays, u64 how many names (as many, or none),
             and for each a u64 length and the text
    array    u32 which version, i32 storage type (0: dense), shape, i32 i32 device, i32 dtype, the numbers
    shape    i32 how many axes, and for each an i64

A file from before NumPy's shapes came to MXNet (version 2) has no array without an axis, and none without
numbers: there, no axes mean that there is no array. Version 3 can have them, and can be read only while
MXNet's NumPy semantics are on; so it is written only where it is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from d2lparams.checkpoints.checkpoint import MOST_TENSORS, Checkpoint, Tensor, bad, each_once
from d2lparams.checkpoints.mapped import Mapped, nbytes
from d2lparams.checks import Array
from d2lparams.tensor_file import MOST_DIMENSIONS, dtype_name, shown, whole_file

FORMAT = "MXNet"
MAGIC = 0x112

_VERSION1, _VERSION2, _VERSION3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = {
    **dict(enumerate(("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"))),
    **dict(enumerate(("int16", "uint16", "uint32", "uint64", "bfloat16"), 8)),
}
_FLAGS = {name: flag for flag, name in _DTYPES.items()}
_WRITTEN = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")
"""What version 1.9.1 has arrays of."""


def belongs(file: Mapped) -> bool:
    """Whether a file begins as one."""
    return file.size >= 8 and file.number(0, 8) == MAGIC


def read(file: Mapped) -> Checkpoint:
    """List its arrays. Names of an exported model keep their "arg:" and "aux:"; without names, they count.

    Raises:
        BadFile: when it is not whole, or an array in it is sparse or has no values yet.
    """
    count, place = file.number(16, 8), 24
    if count > MOST_TENSORS or count * 8 > file.size:
        raise bad(file.path, f"it says that it holds {count} arrays, which cannot be")
    arrays: list[tuple[int, str, tuple[int, ...], int]] = []
    for number in range(count):
        start, dtype, shape = _header(file, place, number)
        size = nbytes(file.path, str(number), dtype, shape)
        file.raw(start, size)
        arrays.append((start, dtype, shape, size))
        place = start + size
    names = _names(file, place, count)
    tensors = [
        Tensor(name, shape, dtype, size, start, partial(file.array, name, start, dtype, shape))
        # An array of no bytes shares its place with the next one, and nothing else.
        if size
        else Tensor(name, shape, dtype, size, (start, name), partial(file.array, name, start, dtype, shape))
        for name, (start, dtype, shape, size) in zip(names, arrays)
    ]
    return Checkpoint(file.path, FORMAT, tuple(tensors))


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays with their names.

    Raises:
        ValueError: for a dtype that MXNet does not have.
        OSError: when the file cannot be written.
    """
    for name, array in arrays.items():
        if dtype_name(array) not in _WRITTEN:
            raise ValueError(f"{shown(name)} is {array.dtype}, of which MXNet has no arrays")
    version = _VERSION2 if all(array.ndim and array.size for array in arrays.values()) else _VERSION3
    with whole_file(path) as target:
        target.write(struct.pack("<QQQ", MAGIC, 0, len(arrays)))
        for array in arrays.values():
            target.write(struct.pack(f"<Iii{array.ndim}q", version, 0, array.ndim, *array.shape))
            target.write(struct.pack("<iii", 1, 0, _FLAGS[dtype_name(array)]))
            target.write(
                np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
            )
        target.write(struct.pack("<Q", len(arrays)))
        for name in arrays:
            target.write(struct.pack("<Q", len(name.encode())) + name.encode())


def _header(file: Mapped, place: int, number: int) -> tuple[int, str, tuple[int, ...]]:
    """Where the numbers of an array begin, their dtype, and the shape."""
    version, place = file.number(place, 4), place + 4
    if version in (_VERSION2, _VERSION3):
        if file.number(place, 4) != 0:
            raise bad(file.path, f"array {number} in it is sparse; save it dense: array.tostype('default')")
        place += 4
    if version in (_VERSION1, _VERSION2, _VERSION3):
        axes, place, width = file.number(place, 4), place + 4, 8
    else:  # the oldest: what stands there is the number of axes
        axes, width = version, 4
    if axes == (0xFFFFFFFF if version == _VERSION3 else 0):
        raise bad(file.path, f"array {number} in it has no values yet; initialize the model before it is saved")
    if axes > MOST_DIMENSIONS:
        raise bad(file.path, f"array {number} in it has {axes} axes, which no array has: it is damaged")
    shape = tuple(file.number(place + width * axis, width) for axis in range(axes))
    place += width * axes
    flag = file.number(place + 8, 4)
    if flag not in _DTYPES:
        raise bad(file.path, f"array {number} in it has a dtype that MXNet does not have: it is damaged")
    return place + 12, _DTYPES[flag], shape


def _names(file: Mapped, place: int, count: int) -> list[str]:
    """The names of the arrays; their numbers when there are none. The file must end behind them."""
    listed, place = file.number(place, 8), place + 8
    if listed not in (0, count):
        raise bad(file.path, f"it holds {count} arrays and {listed} names")
    names = [str(number) for number in range(count if not listed else 0)]
    for _ in range(listed):
        length = file.number(place, 8)
        try:
            names.append(file.take(place + 8, length).decode())
        except UnicodeDecodeError:
            raise bad(file.path, "a name in it is no text") from None
        place += 8 + length
    if place != file.size:
        raise bad(file.path, f"it has {file.size - place} bytes behind its last name")
    each_once(file.path, names)
    return names
