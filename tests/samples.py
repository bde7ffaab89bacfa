"""Small files of values in every format, made on the fly, for tests that read them and tests that harm them.

Those of PyTorch are put together by hand, operation by operation, because no framework is installed here.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np

from d2lparams import tensor_file
from d2lparams.checkpoints import flax_msgpack, write_checkpoint

ARRAYS = {
    "body/first/weight": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "body/first/bias": np.array([0.5, -1.5, 2.5], np.float32),
    "body/second": np.arange(5, dtype=np.int64),
    "half": np.array([[1.0, -2.0]], np.float16),
    "flags": np.array([True, False, True]),
    "one": np.array(3.0),
    "none": np.zeros((0, 3), np.float32),
}

IN_PROCESS = ("safetensors", "npz", "npz-compressed", "params", "msgpack", "msgpack-chunked", "pt")
"""The formats that are read without another process; of "pt", all but what PyTorch does."""

HDF5 = ("h5", "h5-chunked", "keras")


def sample(form: str, folder: Path) -> Path:
    """A valid file of a format."""
    folder.mkdir(parents=True, exist_ok=True)
    kind, _, variant = form.partition("-")
    path = folder / f"sample.{kind}"
    if form == "safetensors":
        ties = [["body/first/weight", "head/weight"]]
        write_checkpoint(path, {**ARRAYS, "head/weight": ARRAYS["body/first/weight"]}, ties=ties)
    elif form == "npz-compressed":
        np.savez_compressed(path, **ARRAYS)
    elif form == "msgpack-chunked":
        with_parts(path)
    elif form == "pt":
        path.write_bytes(state_dict())
    elif kind in ("h5", "keras"):
        datasets(path.with_suffix(".h5"), chunked=variant == "chunked")
        if kind == "keras":
            keras(path, path.with_suffix(".h5").read_bytes())
    else:
        write_checkpoint(path, ARRAYS)
    return path


def with_parts(path: Path) -> None:
    """A msgpack file whose arrays are in parts of 16 bytes."""
    whole, flax_msgpack.CHUNK = flax_msgpack.CHUNK, 16
    try:
        write_checkpoint(path, ARRAYS)
    finally:
        flax_msgpack.CHUNK = whole


def datasets(path: Path, *, chunked: bool = False) -> None:
    """An HDF5 file with a dataset that has two names, and another that is text."""
    with h5py.File(path, "w") as file:
        for name, array in ARRAYS.items():
            packed = {"compression": "gzip", "shuffle": True} if chunked and array.size > 1 else {}
            file.create_dataset(name, data=array, **packed)
        file["again"] = file["body/second"]
        file["text"] = "some words"


def keras(path: Path, weights: bytes) -> None:
    """A `.keras` file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3"}))
        archive.writestr("config.json", json.dumps({"class_name": "Sequential"}))
        archive.writestr("model.weights.h5", weights)


def state_dict(names: tuple[str, ...] = ("first.weight", "tied.weight"), call: bytes = b"") -> bytes:
    """A file as `torch.save` writes a state dict: names of one storage, and whatever else is to be called."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("sample/data.pkl", pickled(names, call))
        target.writestr("sample/byteorder", b"little")
        target.writestr("sample/data/0", np.arange(6, dtype=np.float32).tobytes())
        target.writestr("sample/version", b"3\n")
    return archive.getvalue()


def pickled(names: tuple[str, ...], call: bytes = b"") -> bytes:
    """The pickle of a dict of tensors (2, 3), float32, all of storage 0."""

    def word(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + word("storage")
        + b"ctorch\nFloatStorage\n"
        + word("0")
        + word("cpu")
        + b"K\x06tQK\x00K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR"
    )
    return b"\x80\x02}(" + call + b"".join(word(name) + tensor for name in names) + b"u."


def layout(start: int) -> dict[str, object]:
    """What PyTorch says of `state_dict`, when storage 0 begins at a place."""
    tensors = [
        {"name": name, "dtype": "float32", "shape": [2, 3], "strides": [3, 1], "start": start, "storage": start}
        for name in ("first.weight", "tied.weight")
    ]
    return {"tensors": tensors, "notes": {}}


def header(path: Path, document: object, data: bytes = b"") -> Path:
    """A safetensors file with any header."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def same(found: tensor_file.Array, expected: tensor_file.Array) -> bool:
    """Whether two arrays are equal in values, shape and dtype."""
    return (
        found.shape == expected.shape
        and found.dtype == expected.dtype
        and bool(np.array_equal(found, expected))
    )
