"""`d2lparams inspect`: what is shown of a file, what is measured, and how it ends."""

from __future__ import annotations

import fcntl
import json
import math
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.cells import cell_len

from d2lparams.checkpoints import open_checkpoint, write_checkpoint
from d2lparams.inspection import inspect
from d2lparams.reports.inspection import size, sparkline
from d2lparams.statistics import BINS, PIECE, measure
from tests import samples

Command = Callable[..., subprocess.CompletedProcess[str]]

SCHEMA = {
    "type": "object",
    "required": [
        "schema_version",
        "path",
        "format",
        "tensors",
        "listed",
        "values",
        "nbytes",
        "ties",
        "metadata",
    ],
    "properties": {
        "tensors": {
            "items": {
                "required": ["name", "shape", "dtype", "nbytes", "size", "group", "statistics"],
                "properties": {
                    "name": {"type": "string"},
                    "shape": {"items": {"type": "integer"}},
                    "group": {"type": ["integer", "null"]},
                    "statistics": {"type": ["object", "null"]},
                },
            }
        }
    },
}


# -- statistics ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", "i8", "i4", "i1", "u8", "u1", ">u2", "?"])
@pytest.mark.parametrize("shape", [(), (1,), (7, 11), (3, PIECE)])
def test_statistics_of_every_dtype(dtype: str, shape: tuple[int, ...]) -> None:
    drawn = np.random.default_rng(0).normal(3, 5, shape)
    array = (np.abs(drawn) if dtype[-2:] in ("u8", "u1", "u2") else drawn).astype(dtype)
    found, wide = measure(array), array.astype(np.float64)
    assert (found.count, found.finite, found.nans, found.infinities) == (array.size, array.size, 0, 0)
    assert found.zeros == int((array == 0).sum())
    assert (found.least, found.greatest) == (array.min(), array.max())
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert found.std == pytest.approx(wide.std(), rel=1e-9, abs=1e-12)
    edges = (wide.min(), wide.max()) if wide.min() < wide.max() else (wide.min(), wide.min() + 1)
    expected = np.histogram(wide, BINS, edges)[0]
    assert sum(found.histogram) == array.size
    if array.dtype.kind == "f" and array.dtype.itemsize > 2:
        # A number on the edge of two intervals may be counted in either.
        assert np.abs(np.cumsum(found.histogram) - np.cumsum(expected)).max() <= 2


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("numbers", "nans", "infinities", "least", "greatest", "mean", "std"),
    [
        ([math.nan, math.inf, -math.inf, 1, 3], 1, 2, 1, 3, 2, 1),
        ([math.nan], 1, 0, None, None, None, None),
        ([math.inf, -math.inf], 0, 2, None, None, None, None),
        ([1e308, 1.5e308, math.nan], 1, 0, 1e308, 1.5e308, 1.25e308, 0.25e308),
        ([1e308, -1e308], 0, 0, -1e308, 1e308, 0, 1e308),
        ([5e-324, 0], 0, 0, 0, 5e-324, 0, 0),
        ([], 0, 0, None, None, None, None),
    ],
)
def test_numbers_that_are_none_spoil_nothing(
    numbers: list[float], nans: int, infinities: int, least: Any, greatest: Any, mean: Any, std: Any
) -> None:
    found = measure(np.array(numbers))
    assert (found.nans, found.infinities, found.least, found.greatest) == (nans, infinities, least, greatest)
    assert (found.mean, found.std) == (pytest.approx(mean), pytest.approx(std))
    assert sum(found.histogram) == found.finite


def test_whole_numbers_stay_whole() -> None:
    found = measure(np.array([2**64 - 1, 2**64 - 2, 0], np.uint64))
    assert (found.least, found.greatest) == (0, 2**64 - 1)
    assert measure(np.array([-(2**63), 2**63 - 1])).greatest == 2**63 - 1


def test_strides_make_no_difference() -> None:
    array = np.random.default_rng(0).normal(size=(300, 500))
    for view in (array.T, array[::2, ::-3], np.broadcast_to(array, (2, 300, 500)), np.asfortranarray(array)):
        assert measure(view).std == pytest.approx(view.std())
        assert measure(view).least == view.min()


def test_a_dtype_without_an_order() -> None:
    with pytest.raises(TypeError, match="an array of complex128 has no order"):
        measure(np.ones(1, complex))


def test_sizes_and_lines() -> None:
    assert [size(one) for one in (0, 1023, 1024, 1536, 2**20, 2**30, 1023 * 2**20, 2**50)] == [
        *("0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1 GiB", "1023 MiB", "1024 TiB")
    ]
    assert sparkline((0, 1, 50, 100)) == " ▁▄█"
    assert sparkline(()) == ""


# -- a file --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with ties, alarms, an empty array, and a name that would act on a terminal."""
    path = tmp_path_factory.mktemp("files") / "x.safetensors"
    weight = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    arrays = {
        "layers.10.weight": weight,
        "head.weight": weight,
        "layers.9.weight": np.array([1, np.nan, np.inf, -np.inf]),
        "none": np.zeros((0, 3)),
        "flags\x1b[2J\n": np.array([True, False]),
        "a.very.long.name." + "with.many.parts." * 6 + "weight": np.array(7),
    }
    write_checkpoint(path, arrays, ties=[["layers.10.weight", "head.weight"]])
    return path


def test_what_is_counted(file: Path) -> None:
    with open_checkpoint(file) as checkpoint:
        found = inspect(checkpoint)
    assert (found.listed, found.values, found.nbytes) == (6, 12 + 4 + 0 + 2 + 1, 48 + 32 + 2 + 8)
    assert found.ties == (("layers.10.weight", "head.weight"),)
    assert [row.group for row in found.rows] == [1, 1, None, None, None, None]
    assert found.rows[0].statistics == found.rows[1].statistics
    assert [row.name for row in found.alarms] == ["layers.9.weight"]


def test_values_are_measured_once_and_told_of(file: Path) -> None:
    told: list[tuple[int, int]] = []
    with open_checkpoint(file) as checkpoint:
        inspect(checkpoint, progress=lambda done, total: told.append((done, total)))
        assert told == [(48, 90), (80, 90), (80, 90), (82, 90), (90, 90)]
        assert all(row.statistics is None for row in inspect(checkpoint, values=False).rows)


@pytest.mark.parametrize(
    ("order", "first"),
    [("file", "layers.10.weight"), ("size", "layers.10.weight"), ("dtype", "flags\x1b[2J\n")],
)
def test_orders(file: Path, order: Any, first: str) -> None:
    with open_checkpoint(file) as checkpoint:
        names = [row.name for row in inspect(checkpoint, order=order).rows]
        by_name = [row.name for row in inspect(checkpoint, order="name").rows]
    assert names[0] == first
    assert by_name.index("layers.9.weight") < by_name.index("layers.10.weight")


@pytest.mark.parametrize("width", [40, 80, 130, 200])
def test_what_is_shown(command: Command, file: Path, width: int) -> None:
    process = command("inspect", file, environ={"COLUMNS": str(width)})
    assert (process.returncode, process.stderr) == (0, "")
    lines = process.stdout.splitlines()
    assert max(map(cell_len, lines)) <= width
    text = "".join(process.stdout.split())
    for words in (
        "layers.10.weight",
        "=1",
        "(3, 4)",
        "float32",
        "48 B",
        "█",
        "1 NaN and 2 infinite",
        "-1",
        "0.6276",
    ):
        assert words.replace(" ", "") in text
    assert "6 tensors, 19 values, 90 B, each storage counted once" in " ".join(process.stdout.split())
    assert "\x1b" not in process.stdout


def test_a_filter(command: Command, file: Path) -> None:
    process = command("inspect", file, "--filter", "layers.*", "-f", "none")
    assert "3 of 6 tensors" in process.stdout
    assert "flags" not in process.stdout
    nothing = command("inspect", file, "--filter", "layer.10.weigth")
    assert nothing.returncode == 2
    assert nothing.stderr == (
        f"Error: {file}: no tensor matches 'layer.10.weigth'; did you mean 'layers.10.weight'?\n"
    )


@pytest.mark.parametrize("options", [[], ["--no-values"]])
def test_json(command: Command, file: Path, options: list[str]) -> None:
    process = command("inspect", file, "--json", *options)
    assert (process.returncode, process.stderr) == (0, "")
    document = json.loads(process.stdout)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    assert document["ties"] == [["layers.10.weight", "head.weight"]]
    measured = document["tensors"][2]["statistics"]
    assert measured is None if options else (measured["nans"], measured["infinities"]) == (1, 2)


def test_no_values_of_a_file_of_many_gigabytes(command: Command, tmp_path: Path) -> None:
    """It has holes for its values: to read them would take minutes, and all of the memory."""
    entry = {"dtype": "F32", "shape": [2**36], "data_offsets": [0, 2**38]}
    path = samples.header(tmp_path / "x.safetensors", {"a": entry})
    os.truncate(path, path.stat().st_size + 2**38)
    process = command("inspect", path, "--no-values", seconds=20)
    assert "256 GiB" in process.stdout


def test_a_format_that_its_name_does_not_say(command: Command, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(file.read_bytes())
    shown = " ".join(command("inspect", path).stdout.split())
    assert "its name ends in .pt, as PyTorch files do, but it is a safetensors file" in shown


@pytest.mark.parametrize("form", ["npz", "npz-compressed", "params", "msgpack", "h5", "h5-chunked", "keras"])
def test_every_format_is_shown(command: Command, form: str, tmp_path: Path) -> None:
    process = command("inspect", samples.sample(form, tmp_path))
    assert (process.returncode, process.stderr) == (0, "")
    assert "body/first/weight" in process.stdout
    assert "0 to 1.571" in process.stdout


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.pt", None, "it cannot be opened: No such file or directory"),
        (
            "x.pt",
            b"\x80\x04N.",
            "it is a pickle, a program that would be run to read it, so it is not; save the",
        ),
        ("x.npz", b"PK\x03\x04", "it is cut short"),
        ("x.h5", b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5 cannot read it"),
        ("x.txt", b"hello", "it is no file of values in a format that is known"),
    ],
)
def test_a_bad_file_is_one_sentence(
    command: Command, tmp_path: Path, name: str, content: bytes | None, sentence: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    process = command("inspect", tmp_path / name)
    assert (process.returncode, process.stdout) == (2, "")
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"Error: {tmp_path / name}: {sentence}")


def test_a_reader_that_has_seen_enough(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, {f"{number}": np.ones(1) for number in range(5000)})
    with start("inspect", path, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        fcntl.fcntl(process.stdout, 1031, 2**12)  # a small pipe
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode != 0
    assert errors == ""


def test_nothing_is_unpickled_or_imported(command: Command, tmp_path: Path) -> None:
    for name in ("torch", "mxnet", "jax", "flax", "tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('imported')\n")
    (tmp_path / "x.pt").write_bytes(b"\x80\x02ctorch\nload\n." + struct.pack("<I", 0))
    process = command("inspect", tmp_path / "x.pt", environ={"PYTHONPATH": str(tmp_path)})
    assert process.returncode == 2
    assert "AssertionError" not in process.stderr
