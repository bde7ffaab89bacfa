"""Files in the safetensors format: what is written, what is read, and what is refused."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from d2lparams import tensor_file
from d2lparams.tensor_file import BadFile, open_tensor_file, write
from tests.samples import ARRAYS, header, same

F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    array = np.array([[0, 1, 0], [1, 1, 0]], dtype)
    write(tmp_path / "x", {"a": array})
    with open_tensor_file(tmp_path / "x") as file:
        assert same(file.array("a"), array)
        assert file.entries["a"].dtype == array.dtype.name
        assert file.entries["a"].nbytes == array.nbytes


def test_order_notes_and_shapes_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "x", ARRAYS, {"key": "value", "é": "ü"})
    with open_tensor_file(tmp_path / "x") as file:
        assert list(file.entries) == list(ARRAYS)
        assert file.metadata == {"key": "value", "é": "ü"}
        for name, array in ARRAYS.items():
            assert same(file.array(name), array)


def test_arrays_are_aligned_views_that_cannot_be_written(tmp_path: Path) -> None:
    write(
        tmp_path / "x",
        {"b": np.arange(3, dtype=np.int8), "a": np.arange(3.0), "c": np.arange(5, dtype=np.int16)},
    )
    with open_tensor_file(tmp_path / "x") as file:
        for name, entry in file.entries.items():
            array = file.array(name)
            assert array.flags.aligned
            assert not array.flags.writeable
            assert not array.flags.owndata
            assert np.shares_memory(array, file.array(name))
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
            assert entry.stop <= (tmp_path / "x").stat().st_size


def test_an_array_outlives_its_file(tmp_path: Path) -> None:
    write(tmp_path / "x", {"a": np.arange(3.0)})
    with open_tensor_file(tmp_path / "x") as file:
        array = file.array("a")
    write(tmp_path / "x", {"a": np.zeros(1)})
    assert array.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="has been closed"):
        file.array("a")


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3).T, np.arange(6, dtype=">i4")[::2], np.asfortranarray(np.ones((2, 3), ">f2"))],
    ids=["transposed", "strided, the other byte order", "Fortran"],
)
def test_what_is_not_as_the_file_has_it_is_copied(tmp_path: Path, array: Any) -> None:
    write(tmp_path / "x", {"a": array})
    with open_tensor_file(tmp_path / "x") as file:
        assert np.array_equal(file.array("a"), array)


def test_a_bfloat16_is_kept_bit_by_bit_and_read_as_float32(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC000, 0x7FC0, 0xFF80], np.uint16)
    write(tmp_path / "x", {"a": bits}, dtypes={"a": "bfloat16"})
    with open_tensor_file(tmp_path / "x") as file:
        assert file.entries["a"].dtype == "bfloat16"
        assert np.array_equal(file.array("a"), np.array([1, -2, np.nan, -np.inf], np.float32), equal_nan=True)
        assert file.raw("a").tobytes() == bits.tobytes()
        assert not file.array("a").flags.writeable


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write(tmp_path / name, ARRAYS, {"a": "b"})
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


# -- the other implementation --------------------------------------------------------------------------------


def test_safetensors_reads_ours(tmp_path: Path) -> None:
    write(tmp_path / "x", ARRAYS, {"key": "value"})
    read = safetensors.numpy.load_file(tmp_path / "x")
    assert all(same(read[name], array) for name, array in ARRAYS.items())
    with safetensors.safe_open(tmp_path / "x", "numpy") as file:
        assert file.metadata() == {"key": "value"}


def test_we_read_what_safetensors_writes(tmp_path: Path) -> None:
    safetensors.numpy.save_file(ARRAYS, tmp_path / "x", {"key": "value"})
    with open_tensor_file(tmp_path / "x") as file:
        assert file.metadata == {"key": "value"}
        assert all(same(file.array(name), array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("code", ["F8_E4M3", "F8_E5M2", "C64"])
def test_a_dtype_that_numpy_cannot_read_is_listed(tmp_path: Path, code: str) -> None:
    size = 8 if code == "C64" else 1
    entry = {"dtype": code, "shape": [2], "data_offsets": [0, 2 * size]}
    path = header(tmp_path / "x", {"a": entry}, bytes(2 * size))
    with safetensors.safe_open(path, "numpy") as theirs:
        assert list(theirs.keys()) == ["a"]
    with open_tensor_file(path) as file:
        assert file.entries["a"].shape == (2,)
        with pytest.raises(BadFile, match=r"'a' is .*, whose values cannot be read here"):
            file.array("a")


# -- what cannot be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "metadata", "sentence"),
    [
        ({"a": np.ones(1, complex)}, {}, "'a': an array of dtype complex128 cannot be written"),
        ({"a": np.ones(1, np.complex64)}, {}, "'a': an array of dtype complex64 cannot be written"),
        ({"a": np.array([None])}, {}, "'a': an array of dtype object cannot be written"),
        ({"a": np.array(["x"])}, {}, "'a': an array of dtype <U1 cannot be written"),
        ({"__metadata__": np.ones(1)}, {}, "no array can be called '__metadata__'"),
        ({"a": np.ones(1)}, {"a": 1}, "notes are text to text"),
        ({"\ud800": np.ones(1)}, {}, "is no text that can be written"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_as_it_was(
    tmp_path: Path, arrays: dict[str, Any], metadata: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(ValueError, match=sentence):
        write(tmp_path / "x", arrays, metadata)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


class Interrupting(Mapping[str, Any]):
    """Arrays of which the second is being made when somebody presses Ctrl-C."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error, self._asked = error, 0

    def __getitem__(self, name: str) -> Any:
        self._asked += 1
        if self._asked > 3:
            raise self._error
        return np.zeros(2**21)

    def __iter__(self) -> Iterator[str]:
        return iter(("a", "b"))

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        write(tmp_path / "x", Interrupting(error))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys, numpy; from pathlib import Path\n"
        "from d2lparams.tensor_file import write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2**13, 2**13))\n"
        "write(Path(sys.argv[1]), {'a': numpy.zeros(2**20)})"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "x"], capture_output=True, text=True)
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_array_is_copied_at_a_time(tmp_path: Path) -> None:
    """Sixteen arrays of 16 MiB, each of which has to be copied, in a process that has no room for all."""
    array = np.zeros((2**10, 2**11)).T

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (200 * 2**20, 200 * 2**20))

    program = (
        "import sys, numpy; from pathlib import Path; from d2lparams.tensor_file import write\n"
        f"array = numpy.zeros({array.shape[::-1]}).T\n"
        "write(Path(sys.argv[1]), {str(number): array for number in range(16)})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x"],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    with open_tensor_file(tmp_path / "x") as file:
        assert sum(entry.nbytes for entry in file.entries.values()) == 16 * array.nbytes


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "data", "sentence"),
    [
        ({"a": F32}, b"", "it is cut short: 'a' would end behind the end of the file"),
        ({"a": F32}, b"12345", "it has 1 bytes behind the last array"),
        ({"a": F32, "b": F32}, b"1234", "'b' overlaps another array"),
        ({"a": {**F32, "data_offsets": [4, 8]}}, b"12345678", "'a' begins behind bytes that are nobody's"),
        ({"a": {**F32, "data_offsets": [4, 0]}}, b"1234", "takes 4 bytes, not -4"),
        ({"a": {**F32, "data_offsets": [0]}}, b"1234", "a place is where its bytes begin and end"),
        ({"a": {**F32, "shape": [2]}}, b"1234", "F32 of shape (2,) takes 8 bytes, not 4"),
        ({"a": {**F32, "shape": [-1]}}, b"1234", "a shape is a list of whole numbers"),
        ({"a": {**F32, "shape": [True]}}, b"1234", "a shape is a list of whole numbers"),
        ({"a": {**F32, "shape": [1.0]}}, b"1234", "a shape is a list of whole numbers"),
        ({"a": {**F32, "shape": [2**63]}}, b"1234", "a shape is a list of whole numbers"),
        ({"a": {**F32, "shape": [2**62, 2**62]}}, b"1234", "is no number of bytes"),
        ({"a": {**F32, "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}, b"", "is no number of bytes"),
        ({"a": {**F32, "shape": [1] * 33}}, b"1234", "no array has 33 axes"),
        ({"a": {**F32, "dtype": "F33"}}, b"1234", "there is no dtype 'F33'"),
        ({"a": {**F32, "dtype": ["F32"]}}, b"1234", "there is no dtype"),
        ({"a": {**F32, "dtype": "F4", "shape": [1], "data_offsets": [0, 1]}}, b"1", "is no number of bytes"),
        ({"a": {**F32, "more": 1}}, b"1234", "an array has dtype, shape and data_offsets"),
        ({"a": [1]}, b"1234", "an array has dtype, shape and data_offsets"),
        ({"__metadata__": {"a": 1}}, b"", "the notes in its header are not text to text"),
        ({"__metadata__": []}, b"", "the notes in its header are not text to text"),
        ([F32], b"1234", "its header is no JSON object"),
        (b' {"a": 1}', b"", "its header is no JSON object"),
        (b"{", b"", "its header is no JSON object that says what it holds"),
        (b'{"a": NaN}', b"", "NaN is no JSON"),
        (b'{"a": 1, "a": 2}', b"", "'a' stands in it twice"),
        (b'{"a": ' + b"[" * 100_000, b"", "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", b"", "its header is no JSON object that says what it holds"),
        (b'{"\xff": 1}', b"", "its header is no JSON object that says what it holds"),
        (b'{"\\ud800": 1}', b"", "a name in its header is no text"),
        (b'{"a":[' + b"[]," * 7_000_000 + b"]}", b"", "its header lists millions of arrays"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_a_header_that_lies(tmp_path: Path, document: Any, data: bytes, sentence: str) -> None:
    path = header(tmp_path / "x", document, data)
    with pytest.raises(BadFile) as caught:
        open_tensor_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 8, (100).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_cut_short(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadFile, match="cut short"):
        open_tensor_file(tmp_path / "x")


def test_bool_that_is_none(tmp_path: Path) -> None:
    path = header(tmp_path / "x", {"a": {"dtype": "BOOL", "shape": [2], "data_offsets": [0, 2]}}, b"\0\2")
    with open_tensor_file(path) as file, pytest.raises(BadFile, match="other bytes than 0 and 1"):
        file.array("a")


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in (
        ("pipe", "it is a pipe, not a file"),
        ("folder", "it is a folder, not a file"),
        ("loop", "it cannot be opened"),
        ("missing", "it cannot be opened: No such file or directory"),
        ("n\0l", "it cannot be opened"),
    ):
        with pytest.raises(BadFile, match=reason):
            open_tensor_file(tmp_path / name)
    with pytest.raises(BadFile, match="it is a device, not a file"):
        open_tensor_file(Path("/dev/null"))


def test_a_name_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    path = header(tmp_path / "x", {"\x1b[2Ja": F32}, b"")
    with pytest.raises(BadFile) as caught:
        open_tensor_file(path)
    assert "\x1b" not in str(caught.value)
    assert "\\x1b[2Ja" in str(caught.value)


def test_a_header_is_padded_so_that_any_array_may_begin_behind_it(tmp_path: Path) -> None:
    write(tmp_path / "x", ARRAYS)
    length = int.from_bytes((tmp_path / "x").read_bytes()[:8], "little")
    assert (8 + length) % 64 == 0
    assert json.loads((tmp_path / "x").read_bytes()[8 : 8 + length]).keys() == ARRAYS.keys()


def test_dtype_names() -> None:
    assert tensor_file.item_bits("float8_e4m3fn") == 8
    assert tensor_file.item_bits("float33") is None
    assert not tensor_file.is_readable("complex64")
    assert tensor_file.is_readable("bfloat16")
