"""Files of values, whatever framework wrote them: opened without trust, read without a copy, written.

    format        endings                     read    written   shared values
    safetensors   .safetensors                yes     yes       in our own files
    NumPy         .npz                        yes     yes       each name has its own
    MXNet         .params                     yes     yes       each name has its own
    Keras         .weights.h5, .h5, .keras    yes     .h5       one name
    Flax          .msgpack, .flax             yes     yes       each name has its own
    PyTorch       .pt, .pth, .bin, .ckpt      yes     yes       as they are

A file is told by what it holds; its ending is a hint, and where the two say different things, that is said.
What a file says is never believed: what it would take, and where it points, is checked first. Nothing is
unpickled, C libraries see a file only in another process, and a framework is never imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from d2lparams.checkpoints import flax_msgpack, keras_h5, mxnet_params, npz, safetensors, torch_pt
from d2lparams.checkpoints.archive import Archive
from d2lparams.checkpoints.checkpoint import Checkpoint, Tensor, bad
from d2lparams.checkpoints.mapped import Mapped
from d2lparams.checks import Array
from d2lparams.tensor_file import BadFile

__all__ = ["ENDINGS", "BadFile", "Checkpoint", "Tensor", "format_of", "open_checkpoint", "write_checkpoint"]

ENDINGS = {
    ".safetensors": safetensors.FORMAT,
    ".npz": npz.FORMAT,
    ".params": mxnet_params.FORMAT,
    ".h5": keras_h5.FORMAT,
    ".hdf5": keras_h5.FORMAT,
    ".keras": keras_h5.FORMAT,
    ".msgpack": flax_msgpack.FORMAT,
    ".flax": flax_msgpack.FORMAT,
    ".pt": torch_pt.FORMAT,
    ".pth": torch_pt.FORMAT,
    ".bin": torch_pt.FORMAT,
    ".ckpt": torch_pt.FORMAT,
}
"""What a file's ending says of its format."""


def open_checkpoint(
    path: Path, *, offline: bool = False, progress: Callable[[str], None] = lambda text: None
) -> Checkpoint:
    """Open a file of any format that is known. A context manager; values are read when they are asked for.

    Args:
        path: the file.
        offline: build PyTorch's environment, which its files need, from what is on this machine only.
        progress: is told when that is built.

    Raises:
        BadFile: when it is none of them, is not whole, or holds what is never read.
        InstallFailed: when it needs PyTorch's environment, and that cannot be built.
    """
    path = Path(path)
    file = Mapped(path)
    try:
        checkpoint = _opened(file, offline, progress)
    except BaseException:
        file.close()
        raise
    checkpoint.resources.callback(file.close)
    said = format_of(path)
    if said not in (None, checkpoint.format):
        checkpoint.remark = (
            f"its name ends in {path.suffix}, as {said} files do, but it is a {checkpoint.format} file"
        )
    return checkpoint


def write_checkpoint(
    path: Path,
    arrays: Mapping[str, Array],
    *,
    ties: Sequence[Sequence[str]] = (),
    metadata: Mapping[str, str] | None = None,
    offline: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> None:
    """Write arrays in the format that a file's ending names; whole or not at all.

    Args:
        path: the file.
        arrays: by name, every name of a tie included.
        ties: groups of names that are one array. PyTorch's files and safetensors keep that; in all other
            formats every name has values of its own.
        metadata: notes; only safetensors have a place for them.
        offline: as in `open_checkpoint`.
        progress: as there.

    Raises:
        ValueError: for an ending that says nothing, or what the format cannot hold.
        OSError: when the file cannot be written.
        ErrandFailed: when PyTorch cannot write it.
        InstallFailed: when PyTorch's environment is needed and cannot be built.
    """
    path = Path(path)
    form = format_of(path)
    if form == safetensors.FORMAT:
        safetensors.write(path, arrays, ties, metadata)
    elif form == torch_pt.FORMAT:
        torch_pt.write(path, arrays, ties, offline=offline, progress=progress)
    elif form == npz.FORMAT:
        npz.write(path, arrays)
    elif form == mxnet_params.FORMAT:
        mxnet_params.write(path, arrays)
    elif form == flax_msgpack.FORMAT:
        flax_msgpack.write(path, arrays)
    elif form == keras_h5.FORMAT and path.suffix != ".keras":
        keras_h5.write(path, arrays)
    else:
        known = ", ".join(one for one in ENDINGS if one != ".keras")
        raise ValueError(
            f"cannot write {path}: its ending says no format that can be written; there are {known}"
        )


def format_of(path: Path) -> str | None:
    """The format that a file's ending names, or None."""
    return ENDINGS.get(path.suffix.lower())


def _opened(file: Mapped, offline: bool, progress: Callable[[str], None]) -> Checkpoint:
    if file.take(0, min(file.size, 4)) in (b"PK\x03\x04", b"PK\x05\x06"):
        archive = Archive(file)
        if torch_pt.belongs(archive):
            return torch_pt.read(archive, offline=offline, progress=progress)
        if keras_h5.archived(archive):
            return keras_h5.read_archive(archive)
        if npz.belongs(archive):
            return npz.read(archive)
        raise bad(file.path, "it is a zip file, and neither PyTorch's, nor Keras's, nor NumPy's")
    if keras_h5.belongs(file):
        return keras_h5.read(file)
    if safetensors.belongs(file):
        return safetensors.read(file.path)
    if mxnet_params.belongs(file):
        return mxnet_params.read(file)
    torch_pt.refuse_pickle(file)
    if flax_msgpack.belongs(file):
        return flax_msgpack.read(file)
    raise _unknown(file)


def _unknown(file: Mapped) -> BadFile:
    said = format_of(file.path)
    if said is not None:
        return bad(file.path, f"it is damaged, or no {said} file, though its name ends in {file.path.suffix}")
    known = ", ".join(dict.fromkeys(ENDINGS.values()))
    return bad(file.path, f"it is no file of values in a format that is known; there are {known}")
