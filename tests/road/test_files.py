"""Files that the frameworks themselves write are read here, and what is written here, they read.

Each is written or read by a small program in the framework alone, run by the Python of its column.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lparams import errands
from d2lparams.checkpoints import BadFile, open_checkpoint, torch_pt, write_checkpoint
from d2lparams.checkpoints.archive import Archive
from d2lparams.checkpoints.mapped import Mapped
from d2lparams.columns import parse_column
from d2lparams.environments import ensure
from tests import fuzzing
from tests.samples import ARRAYS, same

ROOT = Path(__file__).parent.parent.parent

WRITE = {
    "torch": """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 8))
net[2].weight = net[1].weight
values = {name: value.detach().numpy().copy() for name, value in net.state_dict().items()}
torch.save(net.state_dict(), "x.pt")
torch.save(net, "whole.pt")
torch.save(net.state_dict(), "old.pt", _use_new_zipfile_serialization=False)
optimizer = torch.optim.Adam(net.parameters())
net(torch.ones(2, 4)).sum().backward()
optimizer.step()
torch.save(
    {
        "model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": 0.5,
        "view": torch.arange(10)[3:6], "steps": torch.arange(12).reshape(3, 4)[::2, ::2],
        "turned": net[0].weight.t(),
        "half": torch.ones(3, dtype=torch.bfloat16), "none": torch.zeros(0, 3), "parameter": net[0].bias,
        "complex": torch.ones(2, dtype=torch.complex64), "small": torch.ones(2).to(torch.float8_e4m3fn),
    },
    "nested.pt",
)
torch.save({"a": torch.eye(3).to_sparse()}, "sparse.pt")
""",
    "mxnet": """
import mxnet as mx
from mxnet import gluon, np, npx
def build():
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(8, in_units=4), gluon.nn.Dense(1, in_units=8))
    net.initialize()
    net.hybridize()
    return net
net = build()
net(mx.nd.ones((1, 4)))
net.save_parameters("old.params")
net.export("old")
mx.nd.save("sparse.params", {"a": mx.nd.array([[0, 1]]).tostype("csr")})
mx.nd.save("list.params", [mx.nd.ones((2, 3))])
npx.set_np()
net = build()
net(np.ones((1, 4)))
values = {name: value.data().asnumpy() for name, value in net.collect_params().items()}
names = {f"{place}.{role}": f"dense{place + 2}_{role}" for place in (0, 1) for role in ("weight", "bias")}
values = {name: values[other] for name, other in names.items()}
net.save_parameters("x.params")
npx.save("shapes.params", {"one": np.array(3.0), "none": np.zeros((0, 3)), "flags": np.array([True, False])})
""",
    "tensorflow": """
import keras
net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
names = [f"layers/{layer}/vars/{place}" for layer in ("dense", "dense_1") for place in (0, 1)]
values = {name: value.numpy() for name, value in zip(names, net.weights)}
net.save_weights("x.weights.h5")
net.save("x.keras")
net.save("whole.h5")
keras.config.set_dtype_policy("bfloat16")
keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]).save_weights("half.weights.h5")
""",
    "jax": """
import jax, jax.numpy as jnp
from flax import linen as nn, serialization, traverse_util
net = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(1)])
variables = net.init(jax.random.key(0), jnp.ones((1, 4)))
values = {name: np.asarray(value) for name, value in traverse_util.flatten_dict(variables, sep="/").items()}
open("x.msgpack", "wb").write(serialization.to_bytes(variables))
serialization.MAX_CHUNK_SIZE = 64
tree = {"a": {"w": np.arange(40, dtype="f4").reshape(5, 8)}, "step": np.float32(3), "n": 3, "c": 2j}
tree |= {"half": jnp.ones(3, jnp.bfloat16), "none": np.zeros((0, 3)), "list": [np.ones(2)]}
open("parts.msgpack", "wb").write(serialization.msgpack_serialize(serialization.to_state_dict(tree)))
""",
}
FILES = {"torch": "x.pt", "mxnet": "x.params", "jax": "x.msgpack"}


def python(column: str, program: str, folder: Path) -> str:
    """Run a program with the Python of a column; what it printed."""
    environment = ensure(parse_column(column))
    done = subprocess.run(
        [environment.python, "-c", program],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with what a framework wrote, and the values of its model, in values.npz."""
    folders: dict[str, Path] = {}

    def written(column: str) -> Path:
        if column not in folders:
            folders[column] = tmp_path_factory.mktemp(column)
            program = f"import numpy as np\n{WRITE[column]}\nnp.savez('values.npz', **values)"
            # Gluon's names count all layers of the process, MXNet's module `np` is not ours.
            program = program.replace("np.savez(", "__import__('numpy').savez(")
            python(column, program, folders[column])
        return folders[column]

    return written


def read(path: Path) -> dict[str, Any]:
    with open_checkpoint(path) as checkpoint:
        return {one.name: one.read() for one in checkpoint.tensors}


def refused(path: Path) -> str:
    with pytest.raises(BadFile) as caught:
        open_checkpoint(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("torch", "x.pt"),
        ("mxnet", "x.params"),
        ("tensorflow", "x.weights.h5"),
        ("tensorflow", "x.keras"),
        ("jax", "x.msgpack"),
    ],
)
def test_what_a_framework_writes_is_read(written: Callable[[str], Path], column: str, name: str) -> None:
    folder = written(column)
    found, expected = read(folder / name), read(folder / "values.npz")
    assert {
        one: array for one, array in found.items() if not one.startswith("optimizer/")
    }.keys() == expected.keys()
    assert all(same(found[one], array) for one, array in expected.items())


# -- what each can hold besides ------------------------------------------------------------------------------


def test_ties_of_a_state_dict(written: Callable[[str], Path]) -> None:
    with open_checkpoint(written("torch") / "x.pt") as checkpoint:
        assert checkpoint.ties() == [("1.weight", "2.weight")]
    with open_checkpoint(written("torch") / "nested.pt") as checkpoint:
        assert ("model.1.weight", "model.2.weight") in checkpoint.ties()
        assert ("model.0.weight", "turned") in checkpoint.ties()
        assert ("model.0.bias", "parameter") in checkpoint.ties()


def test_a_nested_file_of_torch(written: Callable[[str], Path]) -> None:
    with open_checkpoint(written("torch") / "nested.pt") as checkpoint:
        tensors = {one.name: one for one in checkpoint.tensors}
        assert checkpoint.metadata["epoch"] == "3"
        assert checkpoint.metadata["optimizer.param_groups.0.lr"] == "0.001"
        assert tensors["view"].read().tolist() == [3, 4, 5]
        assert tensors["steps"].read().tolist() == [[0, 2], [8, 10]]
        assert np.array_equal(tensors["turned"].read(), tensors["model.0.weight"].read().T)
        assert tensors["half"].dtype == "bfloat16"
        assert tensors["half"].read().tolist() == [1, 1, 1]
        assert tensors["none"].read().shape == (0, 3)
        assert tensors["optimizer.state.0.exp_avg"].shape == (8, 4)
        for name in ("complex", "small"):
            with pytest.raises(BadFile, match="whose values cannot be read here"):
                tensors[name].read()


def test_what_is_refused_of_torch(written: Callable[[str], Path]) -> None:
    advice = "save the values only: torch.save(net.state_dict(), path)"
    assert refused(written("torch") / "whole.pt").endswith(advice)
    assert "torch.nn.modules.container.Sequential" in refused(written("torch") / "whole.pt")
    assert refused(written("torch") / "old.pt").endswith(advice)
    assert "sparse" in refused(written("torch") / "sparse.pt")


def test_other_files_of_mxnet(written: Callable[[str], Path]) -> None:
    folder = written("mxnet")
    assert list(read(folder / "old.params")) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert next(iter(read(folder / "old-0000.params"))) == "arg:dense0_weight"
    assert read(folder / "list.params")["0"].shape == (2, 3)
    shapes = read(folder / "shapes.params")
    assert (shapes["one"].shape, shapes["none"].shape, shapes["flags"].tolist()) == ((), (0, 3), [True, False])
    assert refused(folder / "sparse.params").startswith("array 0 in it is sparse")


def test_other_files_of_keras(written: Callable[[str], Path]) -> None:
    folder = written("tensorflow")
    assert any(name.endswith("dense/kernel") for name in read(folder / "whole.h5"))
    with open_checkpoint(folder / "half.weights.h5") as checkpoint:
        assert {one.dtype for one in checkpoint.tensors} == {"bfloat16"}
        assert checkpoint.tensors[0].read().any()
    with open_checkpoint(folder / "x.keras") as checkpoint:
        assert "keras_version" in checkpoint.metadata


def test_other_files_of_flax(written: Callable[[str], Path]) -> None:
    with open_checkpoint(written("jax") / "parts.msgpack") as checkpoint:
        found = {one.name: one.read() for one in checkpoint.tensors}
        assert checkpoint.metadata == {"n": "3", "c": "a complex number"}
    assert np.array_equal(found["a/w"], np.arange(40).reshape(5, 8))
    assert (found["step"].shape, float(found["step"])) == ((), 3.0)
    assert found["half"].tolist() == [1, 1, 1]
    assert found["none"].shape == (0, 3)
    assert found["list/0"].tolist() == [1, 1]


# -- the other way -------------------------------------------------------------------------------------------

READ = {
    "torch": """
import torch
values = torch.load("x.pt", weights_only=True)
tied = values["body/first/weight"].data_ptr() == values["head"].data_ptr()
values = {name: value.numpy() for name, value in values.items()}
""",
    "mxnet": """
import mxnet as mx
from mxnet import npx
npx.set_np()
values = {name: value.asnumpy() for name, value in npx.load("x.params").items()}
""",
    "jax": """
from flax import serialization, traverse_util
values = traverse_util.flatten_dict(serialization.msgpack_restore(open("x.msgpack", "rb").read()), sep="/")
""",
}


@pytest.mark.parametrize("column", READ)
def test_a_framework_reads_what_is_written_here(column: str, tmp_path: Path) -> None:
    arrays = {**ARRAYS, "head": ARRAYS["body/first/weight"]}
    write_checkpoint(tmp_path / FILES[column], arrays, ties=[["body/first/weight", "head"]])
    program = f"tied = False\n{READ[column]}\n__import__('numpy').savez('values.npz', **values)\nprint(tied)"
    tied = python(column, program, tmp_path).split()[-1]
    found = read(tmp_path / "values.npz")
    assert found.keys() == arrays.keys()
    assert all(same(found[name], array) for name, array in arrays.items())
    assert tied == str(column == "torch")


def test_a_framework_reads_large_arrays_that_are_written_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2lparams.checkpoints.flax_msgpack.CHUNK", 16)
    write_checkpoint(tmp_path / "x.msgpack", ARRAYS)
    python("jax", f"{READ['jax']}\n__import__('numpy').savez('values.npz', **values)", tmp_path)
    assert all(same(array, ARRAYS[name]) for name, array in read(tmp_path / "values.npz").items())


@pytest.mark.parametrize("numpy_shapes", [False, True])
def test_gluon_loads_what_is_written_here(
    written: Callable[[str], Path], tmp_path: Path, numpy_shapes: bool
) -> None:
    values = read(written("mxnet") / "x.params")
    write_checkpoint(tmp_path / "x.params", values)
    program = f"""
from mxnet import gluon, npx
if {numpy_shapes}: npx.set_np()
net = gluon.nn.HybridSequential()
net.add(gluon.nn.Dense(8, in_units=4), gluon.nn.Dense(1, in_units=8))
net.load_parameters("x.params")
print(float(net[0].weight.data().asnumpy().sum()))
"""
    assert float(python("mxnet", program, tmp_path)) == pytest.approx(float(values["0.weight"].sum()), rel=1e-6)


def test_keras_loads_what_is_written_here(written: Callable[[str], Path], tmp_path: Path) -> None:
    values = read(written("tensorflow") / "x.weights.h5")
    write_checkpoint(tmp_path / "x.weights.h5", values)
    program = """
import keras
net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
net.load_weights("x.weights.h5")
print(float(net.weights[0].numpy().sum()))
"""
    found = float(python("tensorflow", program, tmp_path).split()[-1])
    assert found == pytest.approx(float(values["layers/dense/vars/0"].sum()), rel=1e-6)


# -- harm ----------------------------------------------------------------------------------------------------

ROUNDS = 2000 * int(os.environ.get("FUZZ", "1"))
HARM = """
import json, os, resource, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from backends.files.torch import layout
from d2lparams import errand
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        errand.limit(4 * 2**30)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with open(line.strip() + ".answer", "wb") as target:
            target.write(errand.answer("backends.files.torch:layout", {"path": line.strip()}))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.filterwarnings("ignore")  # names that stand twice, sums of what is no number
def test_harmed_files_of_torch(
    written: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch reads each in a process that is forked from one that has imported it: there are many."""
    data, target = (written("torch") / "nested.pt").read_bytes(), tmp_path / "harmed.pt"
    answer = Path(f"{target}.answer")
    python_ = ensure(parse_column("torch")).python
    shown, crashes, counts = 0, 0, {"bad": 0, "whole": 0}
    with subprocess.Popen(
        [python_, "-c", HARM, str(ROOT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def forked(column: str, function: str, arguments: Any, **options: Any) -> Any:
            nonlocal shown, crashes
            shown += 1
            answer.unlink(missing_ok=True)
            print(arguments["path"], file=process.stdin, flush=True)
            status = int(process.stdout.readline())
            if status:
                crashes += 1
                assert status != 14, "it hangs"
                raise errands.ErrandFailed(f"the process ended with status {status}")
            return errands.outcome(answer.read_bytes())

        monkeypatch.setattr(errands, "run_in_column", forked)
        for number in range(ROUNDS):
            draw = random.Random(f"torch {number}")
            change = fuzzing.harmed if draw.random() < 0.4 else fuzzing.harmed_zip
            target.write_bytes(change(data, draw))
            counts[fuzzing.outcome(target, torch_or_bad)] += 1
    sys.stderr.write(f"shown to PyTorch: {shown}, crashes: {crashes}, {counts}\n")
    assert shown > ROUNDS // 20
    assert counts["bad"] > ROUNDS // 4
    assert counts["whole"] > ROUNDS // 100


def torch_or_bad(path: Path) -> Any:
    """Open what is still a file of PyTorch."""
    checkpoint = open_checkpoint(path)
    # What NumPy has no numbers for is listed and not read.
    checkpoint.tensors = tuple(
        one for one in checkpoint.tensors if one.dtype not in ("complex64", "float8_e4m3fn")
    )
    return checkpoint


def test_the_zip_file_of_torch_is_let_through(written: Callable[[str], Path]) -> None:
    torch_pt.check(Archive(Mapped(written("torch") / "x.pt")))
