"""Files of values in every format: written, read, told apart, and refused in one sentence.

What the frameworks themselves write is read in `road/test_files.py`, and files are harmed in `test_fuzz.py`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from d2lparams import errands
from d2lparams.checkpoints import BadFile, open_checkpoint, torch_pt, write_checkpoint
from d2lparams.checkpoints.archive import Archive
from d2lparams.checkpoints.mapped import Mapped
from tests import samples
from tests.samples import ARRAYS, same, sample

FORMS = [form for form in (*samples.IN_PROCESS, *samples.HDF5) if form != "pt"]


def refused(path: Path) -> str:
    """The sentence with which a file is refused, without its path."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(BadFile) as caught:
        open_checkpoint(path)
    assert sorted(path.parent.iterdir()) == before
    front, sentence = str(caught.value)[: len(str(path)) + 2], str(caught.value)[len(str(path)) + 2 :]
    assert front == f"{path}: "
    assert "\n" not in sentence
    return sentence


# -- what is in it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_back_what_was_written(form: str, tmp_path: Path) -> None:
    with open_checkpoint(sample(form, tmp_path)) as checkpoint:
        read = {one.name: one.read() for one in checkpoint.tensors}
        for one in checkpoint.tensors:
            assert (one.shape, one.dtype) == (read[one.name].shape, str(read[one.name].dtype))
            assert one.nbytes == read[one.name].nbytes
    for name, array in ARRAYS.items():
        assert same(read[name], array)
        assert not read[name].flags.writeable
    assert not checkpoint.remark


@pytest.mark.parametrize("form", FORMS)
def test_what_is_one_storage(form: str, tmp_path: Path) -> None:
    with open_checkpoint(sample(form, tmp_path)) as checkpoint:
        ties = [set(group) for group in checkpoint.ties()]
    expected = {"safetensors": [{"body/first/weight", "head/weight"}]}
    expected |= {one: [{"again", "body/second"}] for one in samples.HDF5}
    assert ties == expected.get(form, [])


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".params", ".msgpack", ".h5"])
def test_the_same_values_give_the_same_bytes(ending: str, tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_checkpoint(tmp_path / f"{name}{ending}", ARRAYS)
    assert (tmp_path / f"x{ending}").read_bytes() == (tmp_path / f"y{ending}").read_bytes()


def test_no_copy_is_made_of_what_is_not_packed(tmp_path: Path) -> None:
    for ending in (".safetensors", ".npz", ".params", ".msgpack", ".h5"):
        write_checkpoint(tmp_path / f"x{ending}", ARRAYS)
        with open_checkpoint(tmp_path / f"x{ending}") as checkpoint:
            for one in checkpoint.tensors:
                assert not one.nbytes or np.shares_memory(one.read(), one.read())


def test_values_outlive_the_checkpoint(tmp_path: Path) -> None:
    for form in FORMS:
        with open_checkpoint(sample(form, tmp_path / form)) as checkpoint:
            (array,) = [one.read() for one in checkpoint.tensors if one.name == "body/second"]
        assert array.tolist() == [0, 1, 2, 3, 4]


def test_what_was_unpacked_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    with open_checkpoint(sample("keras", tmp_path)) as checkpoint:
        assert checkpoint.metadata["keras_version"] == "3"
        assert len(list((tmp_path / "scratch").iterdir())) == 1
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_array_of_numpy_in_other_orders(tmp_path: Path) -> None:
    arrays = {"fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.arange(3, dtype=">i4")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", allow_pickle=True, **arrays, words=np.array(["a"]))
        with open_checkpoint(tmp_path / "x.npz") as checkpoint:
            assert checkpoint.metadata == {"words": "an array of text, shape (1,)"}
            assert all(np.array_equal(one.read(), arrays[one.name]) for one in checkpoint.tensors)


def test_a_dtype_that_cannot_be_read_is_listed(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.ones(2, complex))
    with open_checkpoint(tmp_path / "x.npz") as checkpoint:
        (one,) = checkpoint.tensors
        assert (one.dtype, one.nbytes) == ("complex128", 32)
        with pytest.raises(BadFile, match="'a' is complex128, whose values cannot be read here"):
            one.read()


def test_the_form_of_arrays_that_every_mxnet_reads_is_kept_where_it_can_be(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x.params", {"a": np.ones((2, 3), np.float32)})
    assert struct.pack("<I", 0xF993FAC9) in (tmp_path / "x.params").read_bytes()
    write_checkpoint(tmp_path / "x.params", {"a": np.array(1.0)})
    assert struct.pack("<I", 0xF993FACA) in (tmp_path / "x.params").read_bytes()


def test_older_forms_of_mxnet(tmp_path: Path) -> None:
    front, name = struct.pack("<QQQ", 0x112, 0, 1), struct.pack("<QQ", 1, 1) + b"a"
    rest = struct.pack("<iii", 1, 0, 0) + np.arange(6, dtype=np.float32).tobytes() + name
    for shape in (struct.pack("<IIqq", 0xF993FAC8, 2, 2, 3), struct.pack("<III", 2, 2, 3)):
        (tmp_path / "x.params").write_bytes(front + shape + rest)
        with open_checkpoint(tmp_path / "x.params") as checkpoint:
            assert checkpoint.tensors[0].read().tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_without_names_are_counted(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x.params", {"a": np.ones((2, 3), np.float32)})
    content = (tmp_path / "x.params").read_bytes()
    (tmp_path / "x.params").write_bytes(content[: -8 - 1 - 8] + bytes(8))
    with open_checkpoint(tmp_path / "x.params") as checkpoint:
        assert [one.name for one in checkpoint.tensors] == ["0"]


# -- told apart ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [form for form in FORMS if "-" not in form])
def test_the_content_counts_and_not_the_name(form: str, tmp_path: Path) -> None:
    path = sample(form, tmp_path)
    with open_checkpoint(path) as checkpoint:
        expected = checkpoint.format
    for ending in (".pt", ".npz", ".unheard"):
        other = path.rename(path.with_suffix(ending))
        with open_checkpoint(other) as checkpoint:
            assert checkpoint.format == expected
            odd = ending != ".unheard" and not (ending == ".npz" and form == "npz")
            assert bool(checkpoint.remark) == odd
            assert not odd or f"its name ends in {ending}" in checkpoint.remark
        path = other


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it is empty"),
        (b"hello", "it is damaged, or no {format} file, though its name ends in {ending}"),
        (
            pickle.dumps({"a": 1}),
            "it is a pickle, a program that would be run to read it, so it is not; save the",
        ),
        (
            torch_pt.OLD + bytes(99),
            "it is in PyTorch's form from before version 1.6; load it there, and save the",
        ),
    ],
)
@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".params", ".h5", ".msgpack", ".pt"])
def test_what_is_no_file_of_values(tmp_path: Path, content: bytes, ending: str, sentence: str) -> None:
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    names = {".npz": "NumPy", ".params": "MXNet", ".h5": "Keras", ".msgpack": "Flax", ".pt": "PyTorch"}
    assert refused(path).startswith(sentence.format(format=names.get(ending, "safetensors"), ending=ending))


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    (tmp_path / "folder.h5").mkdir()
    assert refused(tmp_path / "pipe.pt") == "it is a pipe, not a file"
    assert refused(tmp_path / "folder.h5") == "it is a folder, not a file"
    assert refused(tmp_path / "loop.npz").startswith("it cannot be opened: ")
    assert refused(tmp_path / "missing.pt") == "it cannot be opened: No such file or directory"
    (tmp_path / "text").write_text("hello, world")
    assert refused(tmp_path / "text").startswith(
        "it is no file of values in a format that is known; there are safe"
    )


@pytest.mark.parametrize("form", [*FORMS, "pt"])
def test_every_beginning_of_a_file_is_refused(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sample(form, tmp_path)
    content = path.read_bytes()
    steps = 3 if form in samples.HDF5 else 40
    for count in range(0, len(content), len(content) // steps):
        path.write_bytes(content[:count])
        assert refused(path)


# -- zip files -----------------------------------------------------------------------------------------------


def zipped(path: Path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, method, 1)
    return path


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.npz", [("a.npy", npy(np.zeros(2**25)))], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**21
    assert "it would unpack to 268435584 bytes, and from a file of" in refused(path)


def test_a_member_that_announces_less_than_it_holds(tmp_path: Path) -> None:
    """Its size is made small in both places; what comes out is counted, and not believed."""
    content = npy(np.zeros(2**20))
    path = zipped(tmp_path / "x.npz", [("a.npy", content)], zipfile.ZIP_DEFLATED)
    header = npy(np.zeros(4))
    small = path.read_bytes().replace(struct.pack("<I", len(content)), struct.pack("<I", len(header)))
    path.write_bytes(small)
    archive = Archive(Mapped(path))
    with pytest.raises(BadFile, match="unpacks to more than it announces"):
        archive.read("a.npy", 2**30)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20, 2**24 + 7])
def test_members_of_every_size_are_unpacked(tmp_path: Path, method: int, size: int) -> None:
    content = (
        b"\0" * (size // 2) + bytes(range(256)) * (size // 512) + b"x" * (size - size // 2 - size // 512 * 256)
    )
    archive = Archive(Mapped(zipped(tmp_path / "x", [("a", content)], method)))
    assert archive.read("a", size) == content
    archive.copy("a", tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == content
    if size:
        with pytest.raises(BadFile, match="is the most for it"):
            archive.read("a", size - 1)


def test_a_zip_file_that_is_damaged_where_its_numbers_are(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.npz", [("a.npy", npy(np.arange(4.0)))])
    content = path.read_bytes()
    place = content.index(np.arange(4.0).tobytes())
    path.write_bytes(content[:place] + b"\1" + content[place + 1 :])
    with (
        open_checkpoint(path) as checkpoint,
        pytest.raises(BadFile, match="is damaged: its checksum is another"),
    ):
        checkpoint.tensors[0].read()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_of_members(tmp_path: Path) -> None:
    """A name is nothing but a name: nothing is ever written to a place that a file names."""
    array = npy(np.arange(2.0))
    names = ["../../x.npy", "/etc/passwd.npy", "a\x1b[2J\n.npy"]
    with open_checkpoint(zipped(tmp_path / "x.npz", [(name, array) for name in names])) as checkpoint:
        assert [f"{one.name}.npy" for one in checkpoint.tensors] == names
    assert [one.name for one in tmp_path.iterdir()] == ["x.npz"]
    assert (
        refused(zipped(tmp_path / "x.npz", [("a.npy", array)] * 2))
        == "it holds two arrays that are called 'a.npy'"
    )


def test_members_that_overlap(tmp_path: Path) -> None:
    """The first one is said to be some bytes longer than it is."""
    path = zipped(tmp_path / "x.npz", [("a.npy", npy(np.arange(2.0))), ("b.npy", npy(np.arange(2.0)))])
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    content[directory + 20 : directory + 28] = struct.pack("<II", 200, 200)
    path.write_bytes(content)
    assert refused(path) == "its member 'b.npy' overlaps another one"


def test_more_members_than_are_taken(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.npz", [("a.npy", npy(np.arange(2.0)))])
    content = path.read_bytes()
    directory, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    entry, count = content[directory:end], 200_001
    start = directory
    locator = struct.pack(
        "<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, count * len(entry), start
    )
    last = struct.pack("<4sIQI", b"PK\x06\x07", 0, start + count * len(entry), 1)
    path.write_bytes(content[:start] + entry * count + locator + last + content[end:])
    assert refused(path) == "it holds 200001 members; more than 200000 are not taken"


def test_objects_in_an_npz_are_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.array([print], object))
    assert refused(tmp_path / "x.npz").startswith("'a' is an array of Python objects")
    np.savez(tmp_path / "x.npz", a=np.zeros(1, [("x", "f4")]))
    assert refused(tmp_path / "x.npz").startswith("'a' is an array of records")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}", "__import__('os').system('touch x')"]
    + [
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({one},)}}"
        for one in ("-1", "True", "1.5", "10**9")
    ]
    + [
        "(" * 9000,
        "-" * 9000 + "1",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999999,)}",
    ],
)
def test_a_header_of_numpy_that_lies(tmp_path: Path, text: str) -> None:
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(4)
    assert refused(zipped(tmp_path / "x.npz", [("a.npy", content)]))
    assert not Path("x").exists()


# -- the others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ties", "sentence"),
    [
        ([["a", "b"], ["a", "b"]], "it holds two arrays that are called 'b'"),
        ([["a", "a"]], "it holds two arrays that are called 'a'"),
        ([["b", "a"]], "it ties names to 'b', which is not in it"),
        ([["a"]], "the ties in its note 'd2lparams' are no groups of names"),
        ({"a": "b"}, "the ties in its note 'd2lparams' are no groups of names"),
        ([["a", "\ud800"]], "is no text"),
    ],
)
def test_ties_that_cannot_be(tmp_path: Path, ties: Any, sentence: str) -> None:
    path = tmp_path / "x.safetensors"
    write_checkpoint(path, {"a": np.ones(1)}, metadata={"d2lparams": json.dumps({"ties": ties})})
    assert sentence in refused(path)


def test_a_sparse_array_of_mxnet(tmp_path: Path) -> None:
    (tmp_path / "x.params").write_bytes(struct.pack("<QQQIi", 0x112, 0, 1, 0xF993FAC9, 2) + bytes(99))
    assert refused(tmp_path / "x.params") == "array 0 in it is sparse; save it dense: array.tostype('default')"


def test_an_array_of_mxnet_without_values(tmp_path: Path) -> None:
    (tmp_path / "x.params").write_bytes(struct.pack("<QQQIii", 0x112, 0, 1, 0xF993FAC9, 0, 0) + bytes(99))
    assert refused(tmp_path / "x.params").startswith("array 0 in it has no values yet")


@pytest.mark.parametrize(
    "content",
    [
        b"\xdf\xff\xff\xff\xff" + bytes(100),
        b"\x81\xa1a" + b"\xdd\xff\xff\xff\xff" * 1000,
        b"\x81\xa1a" + b"\x91" * 100_000,
        b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
        b"\x81\x01\x02",
        b"\x82\xa1a\x01\xa1a\x01",
        b"\x81\xa1a\xc7\x01\x05\x00",
        b"\x81\xa1a\xc1",
        b"\x81\xa1a\x01\x01",
    ],
)
def test_msgpack_that_lies(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.msgpack").write_bytes(content)
    assert refused(tmp_path / "x.msgpack")


def test_millions_of_entries_of_msgpack(tmp_path: Path) -> None:
    (tmp_path / "x.msgpack").write_bytes(b"\x81\xa1a\xdd" + struct.pack(">I", 1_100_000) + b"\x80" * 1_100_000)
    assert refused(tmp_path / "x.msgpack").startswith("it has more entries, or is nested deeper")


def edited(change: Callable[[h5py.File], None], path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["a"] = np.arange(3.0)
        change(file)
    return path


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (3,))
    file.create_virtual_dataset("v", layout)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda file: file.__setitem__("l", h5py.ExternalLink("/etc/passwd", "/a")),
            "'l' is a link to somewhere",
        ),
        (lambda file: file.__setitem__("l", h5py.SoftLink("/a")), "'l' is a link to somewhere else"),
        (virtual, "the numbers of 'v' are in another file"),
        (
            lambda file: file.create_dataset("e", (8,), "u1", external=[("/etc/hostname", 0, 8)]),
            "the numbers of 'e' are in another file",
        ),
        (lambda file: file.create_group("g").__setitem__("g", file["g"]), "its group 'g/g' holds itself"),
        (
            lambda file: file.create_dataset("big", (2**40,), "f8", chunks=(2**16,)),
            "'big' would become far larger",
        ),
    ],
    ids=["external link", "soft link", "virtual", "external", "cycle", "huge"],
)
def test_hdf5_that_points_elsewhere(tmp_path: Path, change: Callable[[h5py.File], None], sentence: str) -> None:
    assert sentence in refused(edited(change, tmp_path / "x.h5"))


def test_bfloat16_as_keras_keeps_it(tmp_path: Path) -> None:
    def add(file: h5py.File) -> None:
        file.create_dataset("b", data=np.array([0x3F80, 0xC000], np.uint16).view("V2")).attrs["dtype"] = (
            "bfloat16"
        )

    with open_checkpoint(edited(add, tmp_path / "x.h5")) as checkpoint:
        one = checkpoint.tensors[1]
        assert (one.dtype, one.read().tolist()) == ("bfloat16", [1.0, -2.0])


def test_a_process_that_crashes_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*arguments: Any, **options: Any) -> Any:
        return errands.run(["/bin/sh", "-c", "kill -SEGV $$"], "x:y", {}, 2**30, 10, {})

    monkeypatch.setattr(errands, "run_apart", crash)
    sentence = refused(sample("h5", tmp_path))
    assert sentence == "HDF5 cannot read it: the process was killed by SIGSEGV"


# -- PyTorch, as far as it goes without PyTorch --------------------------------------------------------------


def archive_of(path: Path, content: bytes) -> Archive:
    path.write_bytes(content)
    return Archive(Mapped(path))


def test_a_state_dict_is_let_through(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "x.pt", samples.state_dict())
    assert torch_pt.belongs(archive)
    torch_pt.check(archive)
    checkpoint = torch_pt.listed(archive, samples.layout(archive.members["sample/data/0"].start))
    assert checkpoint.ties() == [("first.weight", "tied.weight")]
    assert checkpoint.tensors[1].read().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "call",
    [
        b"cos\nsystem\n(X\x04\x00\x00\x00true\x85R",
        b"cbuiltins\neval\n(X\x01\x00\x00\x001tR",
        b"ctorch.nn.modules.container\nSequential\n)R",
        b"ctorch\nload\n)R",
        b"ctorch\nhub.load\n)R",
        b"\x8c\x02os\x8c\x06system\x93",
        b"ios\nsystem\n",
        b"(cos\nsystem\no",
        b"\x82\x01",
    ],
    ids=["os.system", "eval", "a model", "torch.load", "a dotted name", "protocol 4", "INST", "OBJ", "EXT1"],
)
def test_a_pickle_that_calls_more_than_a_state_dict_needs(
    tmp_path: Path, call: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "run_in_column", lambda *arguments, **options: pytest.fail("it was shown"))
    (tmp_path / "x.pt").write_bytes(samples.state_dict(call=call))
    sentence = refused(tmp_path / "x.pt")
    assert sentence.startswith("it holds more than values (")
    assert sentence.endswith("; save the values only: torch.save(net.state_dict(), path)")


@pytest.mark.parametrize(
    "change",
    [
        {"start": 0},
        {"start": 10**9},
        {"strides": [3, 10**9]},
        {"strides": [-3, 1]},
        {"shape": [2, 4]},
        {"shape": [2**40, 2**40]},
        {"dtype": "float64"},
        {"storage": 1},
    ],
    ids=str,
)
def test_a_place_that_is_not_in_the_storage(tmp_path: Path, change: dict[str, Any]) -> None:
    archive = archive_of(tmp_path / "x.pt", samples.state_dict())
    layout: Any = samples.layout(archive.members["sample/data/0"].start)
    layout["tensors"][0].update(change)
    with pytest.raises(BadFile, match=r"'first\.weight'"):
        torch_pt.listed(archive, layout)


@pytest.mark.parametrize(
    ("member", "content", "sentence"),
    [
        ("sample/byteorder", b"big", "it is from a machine of the other byte order"),
        ("elsewhere", b"", "its member 'elsewhere' stands where PyTorch puts none"),
    ],
)
def test_a_zip_file_that_pytorch_would_not_write(
    tmp_path: Path, member: str, content: bytes, sentence: str
) -> None:
    with zipfile.ZipFile(io.BytesIO(samples.state_dict())) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = content
    path = zipped(tmp_path / "x.pt", list(members.items()))
    assert refused(path).startswith(sentence)
    assert "is compressed" in refused(zipped(path, list(members.items())[:1], zipfile.ZIP_DEFLATED))


# -- what cannot be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arrays", "sentence"),
    [
        ("x.unheard", {}, "its ending says no format that can be written; there are .safetensors, .npz"),
        ("x.keras", {}, "its ending says no format that can be written"),
        ("x.params", {"a": np.ones(1, np.uint32)}, "'a' is uint32, of which MXNet has no arrays"),
        ("x.npz", {"a": np.array([None])}, "Object arrays cannot be saved"),
        ("x.msgpack", {"a": np.ones(1), "a/b": np.ones(1)}, "'a/b' cannot stand in a file with a name that it"),
        (
            "x.msgpack",
            {"a/b": np.ones(1), "a": np.ones(1)},
            "'a' cannot stand in a file with a name that begins",
        ),
        ("x.h5", {"a": np.ones(1), "a/b": np.ones(1)}, "'a/b' cannot be written as HDF5"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, name: str, arrays: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        write_checkpoint(tmp_path / name, arrays)
    assert list(tmp_path.iterdir()) == []
