"""Flax's `.msgpack`: nested maps with arrays in them, as `flax.serialization.to_bytes` writes them.

An array is an extension of type 1: msgpack again, of its shape, the name of its dtype and its bytes. Type 3 is
a single number of that form, type 2 a complex one. An array of more than a gigabyte is a map of its parts.

Read with a reader of its own: it touches the structure only, so that arrays need no copy, and takes no more
memory than the structure has entries, whatever lengths a file claims.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from d2lparams.checkpoints.checkpoint import MOST_TENSORS, Checkpoint, Tensor, bad, each_once
from d2lparams.checkpoints.mapped import Mapped, nbytes
from d2lparams.checks import Array
from d2lparams.tensor_file import dtype_name, from_bytes, shown, whole_file

FORMAT = "Flax"
CHUNK = 2**30
"""No array, and no part of one, has more bytes."""

_ARRAY, _COMPLEX, _NUMBER = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"
_MOST_ENTRIES, _DEEPEST = MOST_TENSORS, 100


@dataclass(frozen=True)
class _Bytes:
    """Bytes, by their place in the file."""

    start: int
    count: int


@dataclass(frozen=True)
class _Extension:
    """An extension, by its type and the place of its content."""

    kind: int
    start: int
    count: int


@dataclass(frozen=True)
class _Stored:
    """An array, by the place of its numbers."""

    shape: tuple[int, ...]
    dtype: str
    start: int
    count: int


def belongs(file: Mapped) -> bool:
    """Whether a file begins as a map does."""
    first = file.number(0, 1)
    return 0x81 <= first <= 0x8F or first in (0xDE, 0xDF) or (first == 0x80 and file.size == 1)


def read(file: Mapped) -> Checkpoint:
    """List its arrays; names are keys with "/" between them.

    Raises:
        BadFile: when it is not whole, or something in it is no array and no plain value.
    """
    reader = _Reader(file)
    tree = reader.value(0, file.size)
    if reader.place != file.size:
        raise bad(file.path, f"it has {file.size - reader.place} bytes behind its end")
    tensors, metadata = [], {}
    for name, found in _leaves(file, "", tree):
        if isinstance(found, Tensor):
            tensors.append(found)
        else:
            metadata[name] = str(found)
    each_once(file.path, (one.name for one in tensors))
    return Checkpoint(file.path, FORMAT, tuple(tensors), metadata)


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as nested maps; "/" in a name stands between keys.

    Raises:
        ValueError: when one name is the beginning of another, or a dtype has no name in the format.
        OSError: when the file cannot be written.
    """
    tree: dict[str, Any] = {}
    for name in arrays:
        *folders, last = name.split("/")
        branch = tree
        for key in folders:
            branch = branch.setdefault(key, {})
            if not isinstance(branch, dict):
                raise ValueError(f"{shown(name)} cannot stand in a file with a name that it begins with")
        if last in branch:
            raise ValueError(f"{shown(name)} cannot stand in a file with a name that begins with it")
        branch[last] = name
    for array in arrays.values():
        dtype_name(array)
    with whole_file(path) as target:
        for part in _packed(tree, arrays):
            target.write(part)


class _Reader:
    """Reads values one after the other; `place` is where the next one begins."""

    def __init__(self, file: Mapped) -> None:
        self._file = file
        self._entries = 0
        self.place = 0

    def value(self, start: int, stop: int) -> Any:
        """The value that begins at a place, and is over before another."""
        self.place, self._stop = start, stop
        return self._value(0)

    def _value(self, depth: int) -> Any:
        self._entries += 1
        if self._entries > _MOST_ENTRIES or depth > _DEEPEST:
            raise bad(self._file.path, "it has more entries, or is nested deeper, than any checkpoint")
        first = self._number(1)
        if first <= 0x7F:
            return first
        if first <= 0x8F:
            return self._map(first & 0xF, depth)
        if first <= 0x9F:
            return self._list(first & 0xF, depth)
        if first <= 0xBF:
            return self._text(first & 0x1F)
        if first >= 0xE0:
            return first - 0x100
        if first in (0xC0, 0xC2, 0xC3):
            return {0xC0: None, 0xC2: False, 0xC3: True}[first]
        if 0xC4 <= first <= 0xC6:
            return _Bytes(*self._skip(self._number(1 << (first - 0xC4))))
        if 0xC7 <= first <= 0xC9:
            return self._extension(self._number(1 << (first - 0xC7)))
        if first in (0xCA, 0xCB):
            form, count = (">f", 4) if first == 0xCA else (">d", 8)
            return struct.unpack(form, self._take(count))[0]
        if 0xCC <= first <= 0xD3:
            return self._number(1 << (first & 3), signed=first >= 0xD0)
        if 0xD4 <= first <= 0xD8:
            return self._extension(1 << (first - 0xD4))
        if 0xD9 <= first <= 0xDB:
            return self._text(self._number(1 << (first - 0xD9)))
        if first in (0xDC, 0xDD):
            return self._list(self._number(2 << (first - 0xDC)), depth)
        if first in (0xDE, 0xDF):
            return self._map(self._number(2 << (first - 0xDE)), depth)
        raise bad(self._file.path, f"it is no msgpack: there is a byte {first:#x} at {self.place - 1}")

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self._value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise bad(self._file.path, f"a key in it is no text, or stands in its map twice: {key!r:.80}")
            found[key] = self._value(depth + 1)
        return found

    def _list(self, count: int, depth: int) -> list[Any]:
        return [self._value(depth + 1) for _ in range(count)]

    def _text(self, count: int) -> str:
        try:
            return self._take(count).decode()
        except UnicodeDecodeError:
            raise bad(self._file.path, "a text in it is no text") from None

    def _extension(self, count: int) -> _Extension:
        kind = self._number(1)
        return _Extension(kind, *self._skip(count))

    def _number(self, count: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(count), "big", signed=signed)

    def _take(self, count: int) -> bytes:
        return self._file.take(*self._skip(count))

    def _skip(self, count: int) -> tuple[int, int]:
        start, self.place = self.place, self.place + count
        if self.place > self._stop:
            raise bad(self._file.path, "it is cut short: a value in it does not end before the file does")
        return start, count


def _leaves(file: Mapped, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every array as a Tensor, and every other value, with its name."""
    if isinstance(value, dict) and _CHUNKED in value:
        yield name, _chunked(file, name, value)
    elif isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(file, f"{name}/{key}" if name else str(key), item)
    elif isinstance(value, _Extension) and value.kind in (_ARRAY, _NUMBER):
        array = _stored(file, name, value)
        read = partial(_array, file, name, array)
        yield name, Tensor(name, array.shape, array.dtype, array.count, (name, array.start), read)
    elif isinstance(value, _Extension) and value.kind == _COMPLEX:
        yield name, "a complex number"
    elif isinstance(value, _Extension):
        raise bad(file.path, f"{shown(name)} is an extension of type {value.kind}, which Flax does not have")
    else:
        yield name, f"{value.count} bytes" if isinstance(value, _Bytes) else value


def _stored(file: Mapped, name: str, value: Any) -> _Stored:
    if not isinstance(value, _Extension) or value.kind not in (_ARRAY, _NUMBER):
        raise bad(file.path, f"a part of {shown(name)} is no array")
    reader = _Reader(file)
    content = reader.value(value.start, value.start + value.count)
    if reader.place != value.start + value.count or not isinstance(content, list) or len(content) != 3:
        raise bad(file.path, f"{shown(name)} is no array in Flax's form")
    shape, dtype, numbers = content
    if not (isinstance(shape, list) and isinstance(dtype, str) and isinstance(numbers, _Bytes)):
        raise bad(file.path, f"{shown(name)} is no array in Flax's form")
    return _fitting(file, name, shape, dtype, numbers.start, numbers.count)


def _fitting(file: Mapped, name: str, shape: Sequence[Any], dtype: str, start: int, count: int) -> _Stored:
    """An array whose shape and dtype need as many bytes as there are."""
    if not all(isinstance(size, int) and not isinstance(size, bool) for size in shape):
        raise bad(file.path, f"the shape of {shown(name)} is not one of whole numbers")
    size = nbytes(file.path, name, dtype, shape)
    if size != count:
        raise bad(file.path, f"{shown(name)}, {dtype} of shape {tuple(shape)}, takes {size} bytes, not {count}")
    return _Stored(tuple(shape), dtype, start, count)


def _array(file: Mapped, name: str, array: _Stored) -> Array:
    return from_bytes(file.path, name, file.raw(array.start, array.count), array.dtype, array.shape)


def _chunked(file: Mapped, name: str, value: dict[str, Any]) -> Tensor:
    """An array in parts."""
    shape, chunks = (_numbered(file, name, value.get(key)) for key in ("shape", "chunks"))
    parts = [_stored(file, name, one) for one in chunks]
    if not parts or len({one.dtype for one in parts}) > 1:
        raise bad(file.path, f"the parts of {shown(name)} are of several dtypes, or there are none")
    whole = _fitting(file, name, shape, parts[0].dtype, parts[0].start, sum(one.count for one in parts))

    def read() -> Array:
        raw = np.concatenate([file.raw(one.start, one.count) for one in parts])
        return from_bytes(file.path, name, raw, whole.dtype, whole.shape)

    return Tensor(name, whole.shape, whole.dtype, whole.count, (name, whole.start), read)


def _numbered(file: Mapped, name: str, value: Any) -> list[Any]:
    """A tuple as Flax writes it: a map from "0", "1" and so on."""
    if not isinstance(value, dict) or list(value) != [str(number) for number in range(len(value))]:
        raise bad(file.path, f"{shown(name)} is not in parts as Flax writes them")
    return list(value.values())


def _packed(tree: dict[str, Any], arrays: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    """The file, piece by piece."""
    yield b"\xdf" + struct.pack(">I", len(tree))
    for key, value in tree.items():
        yield _text(key)
        if isinstance(value, dict):
            yield from _packed(value, arrays)
            continue
        array = np.ascontiguousarray(arrays[value]).reshape(arrays[value].shape)
        if array.nbytes <= CHUNK:
            yield from _extension(array)
            continue
        flat, items = array.reshape(-1), CHUNK // array.itemsize
        yield b"\x83" + _text(_CHUNKED) + b"\xc3" + _text("shape") + b"\xdf" + struct.pack(">I", array.ndim)
        for axis in range(array.ndim):
            yield _text(str(axis)) + b"\xcf" + struct.pack(">Q", array.shape[axis])
        yield _text("chunks") + b"\xdf" + struct.pack(">I", math.ceil(flat.size / items))
        for number, start in enumerate(range(0, flat.size, items)):
            yield _text(str(number))
            yield from _extension(flat[start : start + items])


def _extension(array: Array) -> Iterator[bytes | memoryview]:
    """An array, or a part of one."""
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    shape = b"".join(b"\xcf" + struct.pack(">Q", size) for size in array.shape)
    front = b"\x93\xdc" + struct.pack(">H", array.ndim) + shape + _text(dtype_name(array))
    front += b"\xc6" + struct.pack(">I", array.nbytes)
    yield b"\xc9" + struct.pack(">IB", len(front) + array.nbytes, _ARRAY) + front
    yield array.reshape(-1).view(np.uint8).data


def _text(value: str) -> bytes:
    return b"\xdb" + struct.pack(">I", len(value.encode())) + value.encode()
