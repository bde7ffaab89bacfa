"""`d2lparams convert` on files that the frameworks wrote: what the others load computes the same.

Every ordered pair of frameworks, each with a file of its own format, written and loaded by its own functions.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2lparams import bootstrap
from d2lparams.columns import parse_column
from d2lparams.environments import ensure
from d2lparams.parameter_set import ParameterSet

Command = Callable[..., subprocess.CompletedProcess[str]]

FILES = {"torch": "pt", "mxnet": "params", "jax": "msgpack", "tensorflow": "weights.h5"}
CLASSES = {
    "torch": "TorchBackend",
    "mxnet": "MXNetBackend",
    "jax": "JaxBackend",
    "tensorflow": "TensorFlowBackend",
}
# Where each framework's example keeps its layers, in order of application: kind, and path by framework.
LAYERS: dict[str, list[dict[str, str]]] = {
    "lenet": [
        {"kind": kind, "torch": torch, "mxnet": mxnet, "jax": jax, "tensorflow": keras}
        for kind, torch, mxnet, jax, keras in [
            ("conv2d", "0", "0", "layers_0", "conv2d"),
            ("conv2d", "3", "2", "layers_3", "conv2d_1"),
            ("dense", "7", "4", "layers_7", "dense"),
            ("dense", "9", "5", "layers_9", "dense_1"),
            ("dense", "11", "6", "layers_11", "dense_2"),
        ]
    ],
    "lstm": [
        {"kind": "lstm", "torch": "lstm", "mxnet": "lstm", "jax": "layers_0.cell", "tensorflow": "lstm"},
        {"kind": "dense", "torch": "output", "mxnet": "output", "jax": "layers_1", "tensorflow": "dense"},
    ],
}

PROGRAM = """
import json, runpy, sys
runpy.run_path(sys.argv[1])["expose"]()
from importlib import import_module
import numpy as np
framework, class_name, what, files = sys.argv[2], sys.argv[3], sys.argv[4], json.loads(sys.argv[5])
backend = getattr(import_module(f"backends.{framework}"), class_name)()
from d2lparams.models import EXAMPLES
from d2lparams.transfers import inputs_of, prepared

def save(model, path):
    if framework == "torch":
        import torch
        torch.save(model.state_dict(), path)
    elif framework == "mxnet":
        model.save_parameters(path)
    elif framework == "jax":
        from flax import serialization
        open(path, "wb").write(serialization.to_bytes(model[1]))
    else:
        model.save_weights(path)

def load(model, path):
    if framework == "torch":
        import torch
        model.load_state_dict(torch.load(path))
    elif framework == "mxnet":
        model.load_parameters(path)
    elif framework == "jax":
        from flax import serialization
        return model[0], serialization.from_bytes(model[1], open(path, "rb").read())
    else:
        model.load_weights(path)
    return model

for name, path in files:
    with backend.fresh():
        example = EXAMPLES[name]
        model = backend.example(example)
        x = backend.carrier().native_input(inputs_of(example), example.kind)
        if what == "write":
            model = prepared(backend, model, example)
            save(model, path)
        else:
            model = load(model, path)
        np.save(path + ".npy", backend.carrier().forward(model, x))
"""


def python(framework: str, what: str, files: list[tuple[str, str]]) -> None:
    """Write, or load and compute, with a framework's own functions."""
    environment = ensure(parse_column(framework))
    arguments = [bootstrap.__file__, framework, CLASSES[framework], what, json.dumps(files)]
    done = subprocess.run(
        [environment.python, "-I", "-c", PROGRAM, *arguments],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


def architecture(folder: Path, example: str, source: str, target: str | None) -> Path:
    """What the file does not say: the order, what is flattened, and where layers stand in the new file."""
    lines = []
    convolutions = 0
    for layer in LAYERS[example]:
        lines += ["[[layer]]", f'path = "{layer[source]}"', f'kind = "{layer["kind"]}"']
        if target not in (None, "tensorflow"):
            lines.append(f'to = "{layer[target]}"')
        convolutions += layer["kind"] == "conv2d"
        if layer["kind"] == "dense" and convolutions == 2:
            lines.append("flattened = 16")
            convolutions = 0
    path = folder / f"{example}-{source}-{target}.toml"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of each example by each framework, and what it computes there."""
    folder = tmp_path_factory.mktemp("convert")
    for framework, ending in FILES.items():
        python(framework, "write", [(name, str(folder / f"{name}-{framework}.{ending}")) for name in LAYERS])
    return folder


@pytest.mark.parametrize("target", FILES)
def test_what_is_converted_computes_the_same_there(command: Command, written: Path, target: str) -> None:
    made: list[tuple[str, str]] = []
    for name in LAYERS:
        for source, ending in FILES.items():
            if source != target:
                file = written / f"{name}-{source}.{ending}"
                new = written / f"{name}-{source}-{target}.{FILES[target]}"
                said = architecture(written, name, source, target)
                process = command("convert", file, "--from", source, "--to", target, "-a", said, "-o", new)
                assert process.returncode == 0, process.stderr
                made.append((name, str(new)))
    python(target, "load", made)
    for name, path in made:
        own = np.load(written / f"{name}-{target}.{FILES[target]}.npy")
        np.testing.assert_allclose(
            np.load(f"{path}.npy"), own, rtol=0, atol=1e-5 * np.abs(own).max(), err_msg=path
        )


@pytest.mark.parametrize("source", FILES)
def test_a_file_becomes_the_neutral_form_and_is_a_file_again(
    command: Command, written: Path, source: str
) -> None:
    file = written / f"lstm-{source}.{FILES[source]}"
    neutral, again = written / f"{source}.safetensors", written / f"again-{source}.{FILES[source]}"
    process = command("convert", file, "-a", architecture(written, "lstm", source, None), "-o", neutral)
    assert process.returncode == 0, process.stderr
    assert [layer.kind for layer in ParameterSet.open(neutral).layers] == ["lstm", "dense"]
    process = command("convert", neutral, "--to", source, "-o", again)
    assert process.returncode == 0, process.stderr
    if source != "jax":  # a cell's name is lost with the file it stood in
        python(source, "load", [("lstm", str(again))])
        np.testing.assert_array_equal(np.load(f"{again}.npy"), np.load(f"{file}.npy"))


def test_what_is_not_certain_is_asked_for(command: Command, written: Path, tmp_path: Path) -> None:
    file = written / "lenet-torch.pt"
    process = command("convert", file, "--to", "jax", "-o", tmp_path / "x.msgpack")
    assert process.returncode == 2
    assert "follows a convolution of 16 channels" in process.stderr
    assert "--draft > architecture.toml" in process.stderr
    assert list(tmp_path.iterdir()) == []
    draft = command("convert", file, "--draft")
    assert draft.returncode == 0
    assert draft.stdout.count("[[layer]]") == 5


def test_bad_usage_is_one_sentence(command: Command, written: Path, tmp_path: Path) -> None:
    file: Any = written / "lstm-torch.pt"
    for arguments, said in (
        ((file,), "say where the new file is to be written"),
        ((file, "--to", "jax", "-o", "x.pt"), "files of jax end in .msgpack"),
        ((file, "-o", "x.pt"), "files in the neutral form end in .safetensors"),
        ((file, "--to", "numpy", "-o", "x.npz"), "there are no files of 'numpy'"),
        ((tmp_path / "none.pt", "-o", "x.safetensors"), "none.pt"),
        ((file, "--dtype", "int8", "-o", "x.safetensors"), "--dtype must be"),
    ):
        process = command("convert", *arguments, cwd=tmp_path)
        assert process.returncode == 2, process.stdout
        assert said in process.stderr
        assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == []
