"""The neutral form: what it holds, what it refuses, and that a file of it is whole and open to others."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.numpy

from d2lparams.parameter_set import METADATA, LayerRecord, ParameterSet, same_bits
from d2lparams.tensor_file import BadFile, open_tensor_file, write

LAYERS = [
    LayerRecord("embed", "embedding", ("weight",)),
    LayerRecord("norm", "layernorm", ("weight", "bias"), {"epsilon": 1e-5}),
    LayerRecord("out", "dense", ("weight",)),
]
TIES = [("embed.weight", "out.weight")]


@pytest.fixture
def parameters():
    arrays = {
        "embed.weight": np.arange(6, dtype="float32").reshape(3, 2),
        "norm.weight": np.array([1, np.nan], "float32"),
        "norm.bias": np.array([0.0, -0.0], "float32"),
    }
    return ParameterSet(LAYERS, arrays, TIES, origin="torch")


def test_every_use_is_there_and_a_storage_is_counted_once(parameters):
    assert list(parameters) == ["embed.weight", "norm.weight", "norm.bias", "out.weight"]
    assert parameters["out.weight"] is parameters["embed.weight"]
    assert list(parameters.storages) == ["embed.weight", "norm.weight", "norm.bias"]
    assert parameters.nbytes == 4 * (6 + 2 + 2)


def test_arrays_are_read_only_and_the_caller_s_stay_as_they_were():
    mine = np.zeros((3, 2), "float32")
    found = ParameterSet(LAYERS[:1], {"embed.weight": mine})
    with pytest.raises(ValueError, match="read-only"):
        found["embed.weight"][0, 0] = 1
    mine[0, 0] = 1


def test_a_file_of_it_gives_everything_back(parameters, tmp_path):
    path = tmp_path / "x.safetensors"
    parameters.save(path)
    again = ParameterSet.open(path)
    assert again.layers == parameters.layers
    assert again.ties == parameters.ties
    assert (again.origin, again.ordered) == ("torch", True)
    assert all(same_bits(again[one], parameters[one]) for one in parameters)
    assert not again["embed.weight"].flags.owndata  # it is a view of the file


def test_any_reader_of_safetensors_opens_it_and_finds_each_storage_once(parameters, tmp_path):
    path = tmp_path / "x.safetensors"
    parameters.save(path)
    found = safetensors.numpy.load_file(path)
    assert set(found) == set(parameters.storages)
    assert all(same_bits(found[one], parameters[one]) for one in found)


def test_nothing_is_left_of_a_file_that_could_not_be_written(parameters, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        parameters.save(tmp_path / "nowhere" / "x.safetensors")
    bad = ParameterSet(LAYERS[:1], {"embed.weight": np.zeros((3, 2), "complex64")})
    with pytest.raises(ValueError, match="complex64"):
        bad.save(tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("layers", "arrays", "ties", "said"),
    [
        (LAYERS[:1], {}, [], "there is no array for 'embed.weight'"),
        (LAYERS[:1] * 2, {"embed.weight": np.zeros((3, 2))}, [], "is the path of two arrays"),
        (
            LAYERS[:1],
            {"embed.weight": np.zeros(3)},
            [],
            r"has shape \(3,\), which the weight \(vocabulary, width\)",
        ),
        (LAYERS[:1], {"embed.weight": np.zeros((3, 2))}, [("embed.weight", "x")], "a tie names 'x'"),
        (
            [LayerRecord("r", "gru", ("input weight", "hidden weight"))],
            {"r.input_weight": np.zeros((3, 4, 2)), "r.hidden_weight": np.zeros((3, 5, 5))},
            [],
            "'r.hidden_weight' has shape",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(layers, arrays, ties, said):
    with pytest.raises(ValueError, match=said):
        ParameterSet(layers, arrays, ties)


@pytest.mark.parametrize(
    "change",
    [
        lambda notes: notes.pop("ties"),
        lambda notes: notes.update(schema=2),
        lambda notes: notes.update(ties=[["embed.weight", "nowhere"]]),
        lambda notes: notes["layers"].append(dict(notes["layers"][0])),
        lambda notes: notes["layers"][0].update(kind="attention"),
        lambda notes: notes["layers"][0].update(kind=["dense"]),
        lambda notes: notes["layers"][0].update(arrays=7),
        lambda notes: notes.update(layers={"a": 1}),
    ],
)
def test_notes_that_do_not_fit_the_arrays_are_refused(parameters, tmp_path, change):
    path = tmp_path / "x.safetensors"
    parameters.save(path)
    with_file = open_tensor_file(path)
    arrays = {name: np.array(with_file.array(name)) for name in with_file.entries}
    notes = json.loads(with_file.metadata[METADATA])
    change(notes)
    write(path, arrays, {METADATA: json.dumps(notes)})
    with pytest.raises(BadFile, match=r"x\.safetensors has "):
        ParameterSet.open(path)


def test_somebody_else_s_file_is_told_from_ours(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(2, "float32")}, path)
    with pytest.raises(BadFile, match="without our notes"):
        ParameterSet.open(path)


def test_a_conversion_keeps_ties(parameters):
    half = parameters.astype("float16")
    assert half["out.weight"] is half["embed.weight"]
    assert half["norm.bias"].dtype == "float16"


def test_bits_are_compared_and_not_numbers():
    nan = np.array([np.nan], "float32")
    assert same_bits(nan, nan.copy())
    assert not same_bits(np.array([0.0]), np.array([-0.0]))
    assert not same_bits(np.zeros(2, "float32"), np.zeros(2, "float64"))
    square = np.arange(9.0).reshape(3, 3)
    assert same_bits(square.T, square.T.copy())
