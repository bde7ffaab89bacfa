"""What an HDF5 file holds. Runs in a process of its own, for a C library is to read bytes of unknown origin.

Only what lies in the file itself is looked at. Links to other files, data in other files and datasets that are
put together from others are refused, and so are filters other than HDF5's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from d2lparams.checkpoints.checkpoint import MOST_TENSORS, bad, most_unpacked
from d2lparams.checks import Array
from d2lparams.tensor_file import BadFile, item_bits, shown, write

_DEEPEST = 100
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}


def layout(path: str) -> dict[str, Any]:
    """Every dataset, in the order of the file.

    Returns:
        "arrays": for each its name, dtype, shape, nbytes, "address", which an object of two names has once, and
        "start", where its numbers lie in the file as they stand in memory, or None.
        "notes": every other dataset, name to text.

    Raises:
        BadFile: when HDF5 cannot read it, or something in it is refused.
    """
    with _opened(path) as file:
        walk = _Walk(Path(path))
        walk.group(file, "", 0)
        return {"arrays": walk.arrays, "notes": walk.notes}


def extract(path: str, names: list[str], target: str) -> None:
    """Write the arrays of some datasets, by number in the given order, to a file of ours.

    Raises:
        BadFile: when one cannot be read.
    """
    with _opened(path) as file:
        datasets = _Datasets(path, file, names)
        halves = {str(number): "bfloat16" for number, name in enumerate(names) if file[name].dtype.kind == "V"}
        write(Path(target), datasets, dtypes=halves)


class _Datasets(Mapping[str, Array]):
    """The arrays of some datasets, by number, one at a time: each is read when it is asked for."""

    def __init__(self, path: str, file: h5py.File, names: list[str]) -> None:
        self._path, self._file, self._names = path, file, names

    def __getitem__(self, number: str) -> Array:
        try:
            array = np.asarray(self._file[self._names[int(number)]][()])
        except _FAILURES as error:
            raise _unreadable(self._path, error) from None
        return array.view(np.uint16) if array.dtype.kind == "V" else array

    def __iter__(self) -> Iterator[str]:
        return (str(number) for number in range(len(self._names)))

    def __len__(self) -> int:
        return len(self._names)


_FAILURES = (OSError, KeyError, ValueError, RuntimeError, TypeError, MemoryError, AttributeError, OverflowError)
"""What h5py turns a damaged file into, in one place or another."""


class _Walk:
    """Goes through all groups, and takes down what is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._left = most_unpacked(self._size)
        self._groups: set[int] = set()
        self.arrays: list[dict[str, Any]] = []
        self.notes: dict[str, str] = {}

    def group(self, group: h5py.Group, name: str, depth: int) -> None:
        """One group, and all below it."""
        address = h5py.h5o.get_info(group.id).addr
        if address in self._groups or depth > _DEEPEST:
            raise bad(self._path, f"its group {shown(name)} holds itself, or is nested too deeply")
        self._groups.add(address)
        for key in group:
            below = f"{name}/{key}" if name else key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise bad(self._path, f"{shown(below)} is a link to somewhere else, which is not followed")
            found = group[key]
            if isinstance(found, h5py.Group):
                self.group(found, below, depth + 1)
            elif isinstance(found, h5py.Dataset):
                self._dataset(found, below)
            else:
                self.notes[below] = "a type of data"
            if len(self.arrays) + len(self.notes) > MOST_TENSORS:
                raise bad(self._path, f"it holds more than {MOST_TENSORS} arrays, which no checkpoint does")

    def _dataset(self, dataset: h5py.Dataset, name: str) -> None:
        if dataset.is_virtual or dataset.external:
            raise bad(self._path, f"the numbers of {shown(name)} are in another file, where nobody looks")
        dtype, shape = self._dtype(dataset), dataset.shape
        if dtype is None or shape is None:
            self.notes[name] = _kind(dataset)
            return
        size = math.prod(shape) * (item_bits(dtype) or 8 * dataset.dtype.itemsize) // 8
        start = self._start(dataset, name, size)
        if start is None:
            self._left -= size
            if self._left < 0:
                raise bad(self._path, f"{shown(name)} would become far larger than the file is")
            self._filters(dataset, name)
        address = h5py.h5o.get_info(dataset.id).addr
        self.arrays.append(
            dict(name=name, dtype=dtype, shape=list(shape), nbytes=size, address=address, start=start)  # noqa: C408
        )

    def _dtype(self, dataset: h5py.Dataset) -> str | None:
        """The name of a dataset's dtype; None for one that is no number."""
        dtype = dataset.dtype
        if dtype.kind == "V" and dtype.itemsize == 2 and dtype.fields is None:
            # Keras keeps bfloat16 as two bytes of nobody's type, and says so beside them.
            return "bfloat16" if _said(dataset) == "bfloat16" else None
        return str(dtype.name) if dtype.kind in "fiubc" and dtype.subdtype is None else None

    def _start(self, dataset: h5py.Dataset, name: str, size: int) -> int | None:
        """Where the numbers lie in one piece, as they stand in memory; None where they do not."""
        plan = dataset.id.get_create_plist()
        plain = plan.get_layout() == h5py.h5d.CONTIGUOUS and plan.get_nfilters() == 0
        swapped = dataset.dtype.newbyteorder("<") != dataset.dtype
        start = dataset.id.get_offset()
        if not plain or swapped or start is None or not size:
            return None
        if start + size > self._size:
            raise bad(self._path, f"it is cut short: {shown(name)} would end behind the end of the file")
        return int(start)

    def _filters(self, dataset: h5py.Dataset, name: str) -> None:
        plan = dataset.id.get_create_plist()
        for number in range(plan.get_nfilters()):
            if plan.get_filter(number)[0] not in _FILTERS:
                raise bad(self._path, f"{shown(name)} is packed by a filter that is not HDF5's own")


def _opened(path: str) -> Any:
    try:
        return _Guarded(path)
    except _FAILURES as error:
        raise _unreadable(path, error) from None


class _Guarded:
    """An open file; what h5py raises about it while it is open becomes a BadFile."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = h5py.File(path, "r", locking=False)

    def __enter__(self) -> h5py.File:
        return self._file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._file.close()
        if isinstance(error, _FAILURES) and not isinstance(error, BadFile):
            raise _unreadable(self._path, error) from None


def _unreadable(path: str, error: BaseException) -> BadFile:
    reason = " ".join(str(error).strip("'\"").split()) or type(error).__name__
    return bad(Path(path), f"HDF5 cannot read it, so it is damaged: {reason[:160]}")


def _said(dataset: h5py.Dataset) -> str:
    """What Keras notes of a dataset's dtype."""
    said = dataset.attrs.get("dtype", "")
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)


def _kind(dataset: h5py.Dataset) -> str:
    """What a dataset is that is no array of numbers; it is not read, for HDF5 can be made to search forever."""
    kind = "text" if h5py.check_string_dtype(dataset.dtype) is not None else str(dataset.dtype)
    return kind if dataset.shape == () else f"{kind}, shape {dataset.shape}"
