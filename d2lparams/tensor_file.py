"""Files of arrays in the safetensors format: written at once, and read without a copy.

A file is the length of its header (8 bytes, little-endian), the header, which is a JSON object, and the arrays'
bytes. The header tells for each array its dtype, its shape and its place among the bytes; `__metadata__` in it
holds notes, text to text. What is written here, the `safetensors` library reads, and the other way round:

    order    the header lists arrays in the order in which they were given; their bytes stand in the order of
             their items' size, so that each begins where its items may, and there are no holes
    whole    a file appears under its name when all of it is written, and never in part
    strict   all that the header says is held against the file before any array is made from it

Imports the standard library and NumPy only: this module runs inside every framework's environment.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

import numpy as np

from d2lparams.checks import Array

LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

MOST_DIMENSIONS = 32
"""The most that NumPy can handle before version 2."""

METADATA = "__metadata__"

# What a header may hold, so that reading it takes no more memory than a header of two million arrays does.
_MOST_BRACKETS, _MOST_COMMAS = 6_000_000, 20_000_000
_ALIGNMENT = 64
_BUFFER = 2**20


class BadFile(ValueError):
    """A file that is not whole, or not what it says. One sentence that begins with its path."""


@dataclass(frozen=True)
class _Dtype:
    """A dtype of the format.

    Attributes:
        code: its name in the file.
        name: its name here: NumPy's, or the one that frameworks use where NumPy has none.
        bits: of one item.
        numpy: what NumPy reads it as, or None.
    """

    code: str
    name: str
    bits: int
    numpy: str | None = None


_DTYPES = [
    _Dtype("F64", "float64", 64, "<f8"),
    _Dtype("F32", "float32", 32, "<f4"),
    _Dtype("F16", "float16", 16, "<f2"),
    _Dtype("BF16", "bfloat16", 16, "<u2"),
    _Dtype("I64", "int64", 64, "<i8"),
    _Dtype("I32", "int32", 32, "<i4"),
    _Dtype("I16", "int16", 16, "<i2"),
    _Dtype("I8", "int8", 8, "|i1"),
    _Dtype("U64", "uint64", 64, "<u8"),
    _Dtype("U32", "uint32", 32, "<u4"),
    _Dtype("U16", "uint16", 16, "<u2"),
    _Dtype("U8", "uint8", 8, "|u1"),
    _Dtype("BOOL", "bool", 8, "|b1"),
    # These are listed, and handed on as bytes; NumPy cannot read their values.
    _Dtype("C64", "complex64", 64),
    _Dtype("F8_E4M3", "float8_e4m3fn", 8),
    _Dtype("F8_E5M2", "float8_e5m2", 8),
    _Dtype("F8_E4M3FNUZ", "float8_e4m3fnuz", 8),
    _Dtype("F8_E5M2FNUZ", "float8_e5m2fnuz", 8),
    _Dtype("F8_E8M0", "float8_e8m0fnu", 8),
    _Dtype("F6_E2M3", "float6_e2m3fn", 6),
    _Dtype("F6_E3M2", "float6_e3m2fn", 6),
    _Dtype("F4", "float4_e2m1fn", 4),
]
_CODES = {one.code: one for one in _DTYPES}
_NAMES = {one.name: one for one in _DTYPES}
_NO_METADATA: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Entry:
    """What the header says of one array.

    Attributes:
        name: unique in the file.
        dtype: such as "float32", "bfloat16", "float8_e4m3fn".
        shape: () for a single number.
        start: where its bytes begin, counted from the beginning of the file.
        stop: where they end.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return self.stop - self.start


class TensorFile:
    """An open file of arrays, see `open_tensor_file`; a context manager.

    Arrays are views of the file, and keep it open for as long as they live. The file must not be written to in
    place meanwhile; to replace it, as `write` does, harms nobody.

    Attributes:
        path: the file.
        metadata: its notes, text to text.
        entries: what it holds, by name, in the order of its header.
    """

    def __init__(
        self, path: Path, metadata: dict[str, str], entries: dict[str, Entry], data: mmap.mmap
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.entries = entries
        self._data: mmap.mmap | None = data

    def array(self, name: str) -> Array:
        """One of the arrays, read-only, without a copy; a bfloat16 is given as float32, which is one.

        Raises:
            KeyError: for a name that is not there.
            BadFile: for a dtype that NumPy cannot read, and for truth values that are neither 0 nor 1.
        """
        entry = self.entries[name]
        return from_bytes(self.path, name, self.raw(name), entry.dtype, entry.shape)

    def raw(self, name: str) -> Array:
        """The bytes of one of the arrays: uint8, one axis, read-only, without a copy."""
        entry = self.entries[name]
        if self._data is None:
            raise ValueError(f"{shown_path(self.path)} has been closed")
        if not entry.nbytes:
            nothing = np.empty(0, np.uint8)
            nothing.setflags(write=False)
            return nothing
        return np.frombuffer(self._data, np.uint8, entry.nbytes, entry.start)

    def close(self) -> None:
        """Let go of the file; the system keeps it for the arrays that still look at it."""
        data, self._data = self._data, None
        if data is not None:
            with contextlib.suppress(BufferError):
                data.close()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write(
    path: Path,
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str] = _NO_METADATA,
    *,
    dtypes: Mapping[str, str] = _NO_METADATA,
) -> None:
    """Write arrays, whole or not at all. The same arrays give the same bytes.

    An array is copied only where it is not contiguous and little-endian, and then one at a time. A mapping may
    make its arrays when it is asked for them: each is asked for twice, first for its dtype and shape.

    Args:
        path: takes the place of a file that is there.
        arrays: by name.
        metadata: notes.
        dtypes: what an array's items are, by name, where NumPy has no such dtype: bfloat16 in an array of
            uint16, for instance.

    Raises:
        ValueError: for a dtype that the format does not have, a name or a note that cannot be written.
        OSError: when the file cannot be written.
    """
    header, order = _header(arrays, metadata, dtypes)
    with whole_file(path) as target:
        target.write(len(header).to_bytes(8, "little"))
        target.write(header)
        for name in order:
            target.write(_bytes(arrays[name]))


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Any]:
    """A new binary file to write to, which gets its name when the block has ended well, and else is removed.

    Raises:
        OSError: when it cannot be written.
    """
    partial = path.parent / f".{secrets.token_hex(8)}.partial"
    try:
        # One buffer for many small arrays; what is larger than it is written by itself, without a copy.
        with partial.open("xb", buffering=_BUFFER) as target:
            yield target
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def open_tensor_file(path: Path) -> TensorFile:
    """Open a file of arrays; what its header says is checked, and nothing but the header is read.

    Raises:
        BadFile: when it is no such file, or is not whole, or cannot be read.
    """
    with open_regular(path) as source:
        size = os.fstat(source.fileno()).st_size
        length = int.from_bytes(source.read(8), "little")
        if size < 8 or length > LONGEST_HEADER or 8 + length > size:
            _bad(path, f"it is cut short, or no safetensors file: {size} bytes cannot hold what it announces")
        metadata, entries = _parsed(path, source.read(length), 8 + length, size)
        try:
            data = mmap.mmap(source.fileno(), size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            _bad(path, f"it cannot be mapped: {error}")
    return TensorFile(path, metadata, entries, data)


def open_regular(path: Path) -> Any:
    """Open a file for reading bytes; a folder, a pipe or a device is none.

    Raises:
        BadFile: when there is no such file, or it cannot be opened.
    """
    try:
        # A pipe would be waited for until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        _bad(path, f"it cannot be opened: {reason}")
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        _bad(path, f"it is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")
    return os.fdopen(descriptor, "rb", buffering=0)


def dtype_name(array: Array) -> str:
    """The name of an array's dtype, as an `Entry` has it.

    Raises:
        ValueError: for one that the format does not have.
    """
    name = str(array.dtype.name)
    # A dtype that a package adds to NumPy has a name of the format, too: bfloat16.
    if name not in _NAMES or _NAMES[name].bits != array.dtype.itemsize * 8 or name == "complex64":
        raise ValueError(f"an array of dtype {array.dtype} cannot be written")
    return name


def from_bytes(path: Path, name: str, raw: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    """The read-only array that bytes are, without a copy; a bfloat16 is given as float32, which is one.

    Args:
        path: the file that they are from, for the sentence.
        name: what they are called there.
        raw: uint8, one axis, as many as dtype and shape need, little-endian.
        dtype: its name.
        shape: the array's.

    Raises:
        BadFile: for a dtype that NumPy cannot read, and for truth values that are neither 0 nor 1.
    """
    known = _NAMES.get(dtype)
    if known is None or known.numpy is None:
        _bad(path, f"{shown(name)} is {dtype}, whose values cannot be read here")
    if dtype == "bool" and raw.size and raw.max() > 1:
        _bad(path, f"{shown(name)} is said to be bool, and holds other bytes than 0 and 1")
    array = raw.view(np.dtype(known.numpy)).reshape(shape)
    if dtype == "bfloat16":
        # The upper half of a float32 is all that it is.
        array = (array.astype(np.uint32) << 16).view(np.float32)
    array.setflags(write=False)
    return array


def item_bits(dtype: str) -> int | None:
    """How many bits an item of a dtype has, by its name; None for a name that the format does not have."""
    return _NAMES[dtype].bits if dtype in _NAMES else None


def is_readable(dtype: str) -> bool:
    """Whether the values of a dtype can be read here, by its name."""
    return dtype in _NAMES and _NAMES[dtype].numpy is not None


def shown(name: str) -> str:
    """A name as text for a sentence: in quotes, cut when it is long, nothing in it acts on a terminal."""
    return repr(name if len(name) <= 80 else f"{name[:79]}…")


def shown_path(path: Path) -> str:
    """A path as text for a sentence; nothing in it acts on a terminal."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _header(
    arrays: Mapping[str, Array], metadata: Mapping[str, str], dtypes: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """The header, padded, and the names in the order of their bytes."""
    names: dict[str, _Dtype] = {}
    shapes: dict[str, Sequence[int]] = {}
    for name, array in arrays.items():
        names[name] = _NAMES[_stored_dtype(name, array, dtypes)]
        shapes[name] = array.shape
    order = sorted(names, key=lambda name: -names[name].bits)
    places, end = {}, 0
    for name in order:
        start, end = end, end + math.prod(shapes[name]) * names[name].bits // 8
        places[name] = [start, end]
    document: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    for name, dtype in names.items():
        document[name] = {"dtype": dtype.code, "shape": list(shapes[name]), "data_offsets": places[name]}
    if METADATA in names or not all(isinstance(text, str) for item in metadata.items() for text in item):
        raise ValueError(f"no array can be called {METADATA!r}, and notes are text to text")
    try:
        header = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a name or a note is no text that can be written: {error.object!r:.80}") from None
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    if len(header) > LONGEST_HEADER:
        raise ValueError(
            f"{len(names)} arrays need a header of {len(header)} bytes; {LONGEST_HEADER} is the most"
        )
    return header, order


def _stored_dtype(name: str, array: Array, dtypes: Mapping[str, str]) -> str:
    stored = dtypes.get(name)
    if stored is None:
        try:
            return dtype_name(array)
        except ValueError as error:
            raise ValueError(f"{shown(name)}: {error}") from None
    if stored not in _NAMES or _NAMES[stored].bits != array.dtype.itemsize * 8:
        raise ValueError(f"{shown(name)}: items of {array.dtype} cannot be {stored}")
    return stored


def _bytes(array: Array) -> memoryview:
    """The bytes of an array as the file has them."""
    if array.dtype.byteorder not in "=|<" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    # A dtype that a package adds to NumPy shows no memory by itself; its bytes do.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _parsed(path: Path, text: bytes, begin: int, size: int) -> tuple[dict[str, str], dict[str, Entry]]:
    """The notes and the entries that a header holds, checked against the size of the file."""
    if text.count(b"[") + text.count(b"{") > _MOST_BRACKETS or text.count(b",") > _MOST_COMMAS:
        _bad(path, "its header lists millions of arrays, which no checkpoint does")
    try:
        document = json.loads(text.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _bad(path, f"its header is no JSON object that says what it holds: {_brief(error)}")
    if not isinstance(document, dict) or not text.startswith(b"{"):
        _bad(path, "its header is no JSON object")
    if not _is_text(document):
        _bad(path, "a name in its header is no text")
    metadata = document.pop(METADATA, {})
    if not (isinstance(metadata, dict) and _is_text(metadata) and _is_text(metadata.values())):
        _bad(path, "the notes in its header are not text to text")
    entries = {name: _entry(path, name, value, begin, size) for name, value in document.items()}
    end = begin
    for entry in sorted(entries.values(), key=lambda one: (one.start, one.stop)):
        if entry.start != end:
            what = "overlaps another array" if entry.start < end else "begins behind bytes that are nobody's"
            _bad(path, f"{shown(entry.name)} {what}")
        end = entry.stop
    if end != size:
        _bad(path, f"it has {size - end} bytes behind the last array")
    return metadata, entries


def _entry(path: Path, name: str, value: Any, begin: int, size: int) -> Entry:
    """What the header says of one array, checked."""
    what = f"what it says of {shown(name)} cannot be:"
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        _bad(path, f"{what} an array has dtype, shape and data_offsets")
    code, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(code, str) or code not in _CODES:
        _bad(path, f"{what} there is no dtype {code!r:.80}")
    if not isinstance(shape, list) or not all(_natural(one) for one in shape):
        _bad(path, f"{what} a shape is a list of whole numbers, not {shape!r:.80}")
    if not (isinstance(offsets, list) and len(offsets) == 2 and all(_natural(one) for one in offsets)):
        _bad(path, f"{what} a place is where its bytes begin and end, not {offsets!r:.80}")
    if len(shape) > MOST_DIMENSIONS:
        _bad(path, f"{what} no array has {len(shape)} axes; {MOST_DIMENSIONS} is the most")
    bits = math.prod(shape) * _CODES[code].bits
    # An axis of no length does not make up for others that no memory could hold.
    if bits % 8 or math.prod(one for one in shape if one) * _CODES[code].bits >= 2**66:
        _bad(path, f"{what} {code} of shape {tuple(shape)!r:.80} is no number of bytes")
    start, stop = offsets
    if stop - start != bits // 8:
        _bad(path, f"{what} {code} of shape {tuple(shape)!r:.80} takes {bits // 8} bytes, not {stop - start}")
    if begin + stop > size:
        _bad(path, f"it is cut short: {shown(name)} would end behind the end of the file")
    return Entry(name, _CODES[code].name, tuple(shape), begin + start, begin + stop)


def _is_text(items: Iterable[object]) -> bool:
    """Whether all of them are text that can be written; JSON can name characters that there are not."""
    try:
        return all(isinstance(one, str) and one.encode() is not None for one in items)
    except UnicodeEncodeError:
        return False


def _natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no name stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{shown(twice)} stands in it twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def _brief(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error)[:120]


def _bad(path: Path, problem: str) -> NoReturn:
    raise BadFile(f"{shown_path(path)}: {problem}")
