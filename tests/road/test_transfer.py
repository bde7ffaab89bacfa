"""`d2lparams transfer` on real frameworks: a model of a user's own, and mistakes that it must name."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d2lparams.parameter_set import ParameterSet

MODELS = Path(__file__).parent / "models" / "twins.py"
PATIENCE = 3600  # seconds, for environments that have to be built

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def transfer(command: Command) -> Command:
    def transfer(source: str, target: str, function: str, *options: Any) -> subprocess.CompletedProcess[str]:
        model = f"{MODELS}:{function}"
        return command(
            "transfer", "--from", source, "--to", target, "--model", model, *options, seconds=PATIENCE
        )

    return transfer


@pytest.mark.parametrize(
    ("source", "target"),
    [("torch", "mxnet"), ("mxnet", "jax"), ("jax", "tensorflow"), ("tensorflow", "torch"), ("torch", "torch")],
)
def test_a_model_of_one_s_own_is_the_same_elsewhere(transfer: Command, source: str, target: str) -> None:
    """Its layers are registered in another order than they are applied in, and two have one shape."""
    process = transfer(source, target, "build", "--json")
    assert process.returncode == 0, process.stdout + process.stderr
    (found,) = json.loads(process.stdout)["transfers"]
    assert found["ok"]
    assert found["status"] == "ok"
    assert [one["name"] for one in found["checks"]] == [
        "values",
        "ties",
        "output",
        "gradients",
        "training step",
        "back",
    ]
    kinds = [kind for _, _, kind in found["layers"]]
    assert kinds == ["dense", "layernorm", "dense", "dense"]


def test_the_values_can_be_kept(transfer: Command, command: Command, tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    process = transfer("torch", "jax", "build", "--save", path)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "PyTorch → JAX/Flax" in process.stdout
    assert f"wrote {path}" in process.stderr
    kept = ParameterSet.open(path)
    assert [layer.path for layer in kept.layers] == ["first", "norm", "second", "output"]
    assert kept.layers[1].settings == {"epsilon": 2**-10}
    seen = command("inspect", path, "--json")
    assert seen.returncode == 0, seen.stderr
    assert "second.weight" in seen.stdout


def test_where_outputs_part_the_first_layer_is_named(transfer: Command) -> None:
    process = transfer("torch", "mxnet", "turned")
    assert process.returncode == 1
    assert "✓ values        equal, bit for bit" in process.stdout
    assert "✗ output        off by" in process.stdout
    # The first dense layer is the same before its activation; the normalisation is the first that is not.
    assert "they part first in 'norm'" in " ".join(process.stdout.split())
    assert "0 of 1 the same on both sides" in process.stdout


def test_another_epsilon_is_refused_before_anything_is_loaded(transfer: Command) -> None:
    process = transfer("torch", "jax", "other_epsilon")
    assert process.returncode == 1
    said = " ".join(process.stdout.split())
    assert "has epsilon 0.0625, and the parameters were made with 0.0009765625" in said
    process = transfer("torch", "jax", "other_epsilon", "--any-settings")
    assert process.returncode == 1
    assert "✓ values" in process.stdout
    assert "they part first in 'LayerNorm_0'" in " ".join(process.stdout.split())


def test_a_layer_more_is_named(transfer: Command) -> None:
    process = transfer("torch", "mxnet", "wider")
    assert process.returncode == 1
    assert "the parameters have 4 layers, the model has 5 layers" in " ".join(process.stdout.split())


def test_layers_that_are_given_wrongly_are_found_out(transfer: Command) -> None:
    turned = ("--map", "Dense_0=second", "--map", "Dense_2=first")
    process = transfer("torch", "jax", "build", *turned)
    assert process.returncode == 1
    assert "they part first in 'Dense_0'" in " ".join(process.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "nowhere.py:build"), "there is no file nowhere.py"),
        (("--model", "lenett"), "no example 'lenett'; did you mean 'lenet'?"),
        (("--model", f"{MODELS}:build", "--map", "first"), "cannot read --map 'first'"),
        (("--model", f"{MODELS}:build", "--save", "x.pt"), "name a file that ends in .safetensors"),
        (("--untie",), "are for a model of your own"),
    ],
)
def test_bad_usage_is_one_sentence(command: Command, arguments: tuple[str, ...], said: str) -> None:
    process = command("transfer", "--from", "torch", "--to", "jax", *arguments)
    assert process.returncode == 2
    assert said in process.stderr
    assert "Traceback" not in process.stderr


def test_a_file_without_the_function_is_said(transfer: Command) -> None:
    process = transfer("torch", "jax", "nothing")
    assert process.returncode == 1
    assert "twins.py has no function 'nothing'" in " ".join(process.stdout.split())
