"""Keras's files: `.weights.h5`, and `.keras`, a zip file that holds one beside the model's description.

A tensor's name is the path of its dataset. HDF5 reads in another process, see `hdf5`, and says where numbers
lie; here, the file is only bytes. What is compressed in it is unpacked there, into a folder that goes when the
checkpoint is closed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from d2lparams import errands
from d2lparams.checkpoints.archive import Archive
from d2lparams.checkpoints.checkpoint import Checkpoint, Tensor, bad
from d2lparams.checkpoints.mapped import Mapped, nbytes
from d2lparams.checks import Array
from d2lparams.tensor_file import (
    BadFile,
    TensorFile,
    from_bytes,
    is_readable,
    item_bits,
    open_tensor_file,
    shown,
    whole_file,
)

FORMAT = "Keras"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
WEIGHTS, CONFIG, METADATA = "model.weights.h5", "config.json", "metadata.json"

_LONGEST_NOTE = 64 * 2**20
_SECONDS = 60.0


def belongs(file: Mapped) -> bool:
    """Whether a file begins as HDF5 does."""
    return file.size > 8 and file.take(0, 8) == SIGNATURE


def archived(archive: Archive) -> bool:
    """Whether a zip file is a `.keras`."""
    return WEIGHTS in archive.members and CONFIG in archive.members


def read(file: Mapped) -> Checkpoint:
    """List the datasets of an HDF5 file.

    Raises:
        BadFile: when HDF5 cannot read it.
    """
    checkpoint = Checkpoint(file.path, FORMAT, ())
    folder = Path(checkpoint.resources.enter_context(errands.temporary_folder()))
    try:
        checkpoint.tensors, checkpoint.metadata = _listed(file, file.path, folder)
    except BaseException:
        checkpoint.close()
        raise
    return checkpoint


def read_archive(archive: Archive) -> Checkpoint:
    """List the datasets of the weights in a `.keras` file.

    Raises:
        BadFile: when a part of it is not whole.
    """
    path, notes = archive.path, {}
    if METADATA in archive.members:
        notes = _notes(path, archive.read(METADATA, _LONGEST_NOTE))
    if not isinstance(_json(path, CONFIG, archive.read(CONFIG, _LONGEST_NOTE)), dict):
        raise bad(path, f"its {CONFIG} describes no model")
    checkpoint = Checkpoint(path, FORMAT, ())
    folder = Path(checkpoint.resources.enter_context(errands.temporary_folder()))
    try:
        weights = folder / WEIGHTS
        archive.copy(WEIGHTS, weights)
        file = Mapped(weights, unpacked_from=path)
        checkpoint.resources.callback(file.close)
        checkpoint.tensors, found = _listed(file, weights, folder)
        checkpoint.metadata = {**notes, **found}
    except BaseException:
        checkpoint.close()
        raise
    return checkpoint


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as datasets; "/" in a name stands between groups.

    Raises:
        ValueError: when one name is the beginning of another.
        OSError: when the file cannot be written.
    """
    import h5py

    with whole_file(path) as target, h5py.File(target, "w") as file:
        for name, array in arrays.items():
            try:
                file.create_dataset(name, data=array)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{shown(name)} cannot be written as HDF5: {error}") from None


def _listed(file: Mapped, source: Path, folder: Path) -> tuple[tuple[Tensor, ...], dict[str, str]]:
    """The tensors and the notes of an HDF5 file; `source` is where it is, and `folder` a place to unpack to."""
    path = file.path
    found = _apart(path, source, "layout", {})
    unpacked = _Unpacked(path, source, folder)
    tensors = []
    for array in found["arrays"]:
        name, dtype, start, shape = array["name"], array["dtype"], array["start"], tuple(array["shape"])
        size = nbytes(path, name, dtype, shape) if item_bits(dtype) else array["nbytes"]
        if start is None and is_readable(dtype):
            read: Callable[[], Array] = partial(unpacked.array, name)
            unpacked.names.append(name)
        else:
            read = partial(file.array, name, start or 0, dtype, shape)
        tensors.append(Tensor(name, shape, dtype, size, array["address"], read))
    return tuple(tensors), found["notes"]


class _Unpacked:
    """The datasets that have to be unpacked, all of them when the first is asked for."""

    def __init__(self, path: Path, source: Path, folder: Path) -> None:
        self._path, self._source, self._folder = path, source, folder
        self._file: TensorFile | None = None
        self._numbers: dict[str, str] = {}
        self.names: list[str] = []

    def array(self, name: str) -> Array:
        if self._file is None:
            target = self._folder / "unpacked.safetensors"
            _apart(self._path, self._source, "extract", {"names": self.names, "target": str(target)})
            self._file = open_tensor_file(target)
            self._numbers = {one: str(number) for number, one in enumerate(self.names)}
        entry = self._file.entries[self._numbers[name]]
        return from_bytes(self._path, name, self._file.raw(entry.name), entry.dtype, entry.shape)


def _apart(path: Path, source: Path, function: str, arguments: Mapping[str, Any]) -> Any:
    """What a function of `hdf5` says of a file."""
    memory = errands.MEMORY
    try:
        return errands.run_apart(
            f"d2lparams.checkpoints.hdf5:{function}",
            {"path": errands.existing(source), **arguments},
            memory=memory,
            seconds=_SECONDS,
        )
    except BadFile as error:
        # The sentence begins with the file that HDF5 was shown, which may be one of ours.
        raise bad(path, str(error).removeprefix(f"{errands.existing(source)}: ")) from None
    except errands.ErrandFailed as error:
        raise bad(path, f"HDF5 cannot read it: {error}") from None


def _notes(path: Path, content: bytearray) -> dict[str, str]:
    found = _json(path, METADATA, content)
    if not isinstance(found, dict):
        raise bad(path, f"its {METADATA} is no JSON object")
    return {str(key): str(value) for key, value in found.items()}


def _json(path: Path, name: str, content: bytearray) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(content)
    raise bad(path, f"its {name} is no JSON")
