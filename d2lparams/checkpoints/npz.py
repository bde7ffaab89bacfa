"""NumPy's `.npz`: a zip file with an array in NumPy's own format for each name. Nothing is ever unpickled."""

from __future__ import annotations

import ast
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from d2lparams.checkpoints.archive import Archive, Member
from d2lparams.checkpoints.checkpoint import Checkpoint, Tensor, bad
from d2lparams.checkpoints.mapped import nbytes
from d2lparams.checks import Array
from d2lparams.tensor_file import from_bytes, item_bits, shown, whole_file

FORMAT = "NumPy"

_LONGEST_HEADER = 10_000  # as in NumPy, for Python's parser is no place for a large text of anybody
_ENDING = ".npy"
_KINDS = {"f": "float", "i": "int", "u": "uint", "c": "complex"}


def belongs(archive: Archive) -> bool:
    """Whether a zip file is such a one."""
    return bool(archive.members) and all(name.endswith(_ENDING) for name in archive.members)


def read(archive: Archive) -> Checkpoint:
    """List its arrays.

    Raises:
        BadFile: when one is not whole, holds Python objects, or is no array.
    """
    tensors, metadata = [], {}
    for member in archive.members.values():
        name = member.name.removesuffix(_ENDING)
        start, description, fortran, shape = _header(archive, member)
        kind = re.fullmatch(r"([<>|=])([fiubc?])(\d*)", description)
        if kind is None:
            if description[:2].strip("<>|=") in ("U", "S"):
                metadata[name] = f"an array of text, shape {shape}"
                continue
            why = (
                "Python objects, which nothing but unpickling could read" if "O" in description else description
            )
            raise bad(archive.path, f"{shown(name)} is an array of {why}; save arrays of numbers")
        dtype = "bool" if kind[2] in "b?" else f"{_KINDS[kind[2]]}{8 * int(kind[3] or 0)}"
        size = nbytes(archive.path, name, dtype, shape) if item_bits(dtype) else _plain_size(kind[3], shape)
        if start + size != member.size:
            raise bad(
                archive.path,
                f"{shown(name)}, {dtype} of shape {shape}, takes {size} bytes, not {member.size - start}",
            )
        source = partial(_array, archive, member, name, start, dtype, kind[1] == ">", fortran, shape)
        tensors.append(Tensor(name, shape, dtype, size, name, source))
    return Checkpoint(archive.path, FORMAT, tuple(tensors), metadata)


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays, uncompressed, as `numpy.savez` does.

    Raises:
        ValueError: for an array of Python objects.
        OSError: when the file cannot be written.
    """
    with whole_file(path) as target, zipfile.ZipFile(target, "w") as archive:
        for name, array in arrays.items():
            # The day of the file format's birth, so that the same arrays give the same bytes.
            with archive.open(zipfile.ZipInfo(f"{name}{_ENDING}"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _header(archive: Archive, member: Member) -> tuple[int, str, bool, tuple[int, ...]]:
    """Where the numbers begin in a member, their dtype as NumPy writes it, their order, the shape."""
    front = archive.front(member.name, 12 + _LONGEST_HEADER)
    if front[:6] != b"\x93NUMPY" or len(front) < 12 or front[6] not in (1, 2, 3):
        raise bad(archive.path, f"its member {shown(member.name)} is no array in NumPy's format")
    place, form = (10, "<H") if front[6] == 1 else (12, "<I")
    (length,) = struct.unpack_from(form, front, 8)
    if length > _LONGEST_HEADER or place + length > len(front):
        raise bad(archive.path, f"its member {shown(member.name)} is cut short, or its header is far too long")
    try:
        text = front[place : place + length].decode("utf-8" if front[6] == 3 else "latin-1")
        header: Any = ast.literal_eval(text.strip())
        description, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        whole = isinstance(fortran, bool) and isinstance(shape, tuple) and len(header) == 3
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        whole = False
    if not whole or any(not isinstance(one, int) or isinstance(one, bool) or one < 0 for one in shape):
        raise bad(archive.path, f"the header of its member {shown(member.name)} is no header of an array")
    return place + length, description if isinstance(description, str) else "records", fortran, shape


def _plain_size(width: str, shape: tuple[int, ...]) -> int:
    """The bytes of an array of a dtype that can only be listed."""
    return int(width or 0) * math.prod(shape)


def _array(
    archive: Archive,
    member: Member,
    name: str,
    start: int,
    dtype: str,
    swapped: bool,
    fortran: bool,
    shape: tuple[int, ...],
) -> Array:
    """The values of one array, as a view of the file where that has them as they stand."""
    if member.stored:
        archive.check(member.name)
        raw = archive.file.raw(member.start + start, member.size - start)
    else:
        raw = np.frombuffer(archive.read(member.name, member.size), np.uint8)[start:]
    if swapped:
        width = (item_bits(dtype) or 8) // 8
        raw = raw.reshape(-1, width)[:, ::-1].reshape(-1)
    array = from_bytes(archive.path, name, raw, dtype, shape[::-1] if fortran else shape)
    return array.T if fortran else array
