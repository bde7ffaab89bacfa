"""Checkpoints from one framework's names and orientation to another's, and what is not certain is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.architecture import ArchitectureLayer, BadArchitecture, draft, read_architecture
from d2lparams.checkpoints import open_checkpoint, write_checkpoint
from d2lparams.conventions import CANONICAL, merged
from d2lparams.conversion import (
    ConversionError,
    Doubtful,
    from_parameters,
    layers_of,
    names_of,
    to_parameters,
)
from d2lparams.parameter_set import LayerRecord, ParameterSet, key, same_bits

FRAMEWORKS = {"torch": "safetensors", "mxnet": "params", "jax": "msgpack", "tensorflow": "weights.h5"}


@pytest.fixture
def parameters_of(canonical_values):
    """A set of (path, kind) with values of every array."""

    def parameters_of(*layers, ties=()):
        records, arrays = [], {}
        for path, kind in layers:
            records.append(LayerRecord(path, kind, tuple(CANONICAL[kind])))
            arrays |= {key(path, name): value for name, value in canonical_values(kind).items()}
        return ParameterSet(records, arrays, ties)

    return parameters_of


def written(tmp_path, framework, parameters, architecture=None, flattened=None):
    """A file of a framework that holds the set."""
    converted = from_parameters(parameters, framework, architecture, flattened)
    path = tmp_path / f"{framework}.{FRAMEWORKS[framework]}"
    write_checkpoint(path, converted.arrays, ties=converted.ties)
    return path, converted


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", CANONICAL)
def test_a_framework_s_file_and_back(tmp_path, parameters_of, framework, kind):
    parameters = parameters_of(("a.b", kind))
    path, _ = written(tmp_path, framework, parameters)
    with open_checkpoint(path) as checkpoint:
        (layer,) = layers_of(checkpoint, names_of(framework))
        said = [ArchitectureLayer(layer.path, kind)]
        back, _ = to_parameters(checkpoint, framework, said)
        (record,) = back.layers
        rows = names_of(framework).conventions[kind]
        expected = merged(kind, rows, parameters.of(parameters.layers[0]))
        assert {name: same_bits(back.of(record)[name], one) for name, one in expected.items()} == dict.fromkeys(
            expected, True
        )


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_stated_without_an_architecture_is_right(tmp_path, parameters_of, framework):
    kinds = list(CANONICAL)
    path, _ = written(tmp_path, framework, parameters_of(*[(f"l{kind}", kind) for kind in kinds]))
    with open_checkpoint(path) as checkpoint:
        found = layers_of(checkpoint, names_of(framework))
    stated = {layer.path: layer.kind for layer in found if layer.kind}
    assert {"dense", "batchnorm", "lstm", "gru"} <= set(stated.values())
    assert all(layer.doubt for layer in found if layer.kind is None)
    if framework == "tensorflow":  # whose files have the class for a name
        assert sorted(stated.values()) == sorted(kinds)
    else:
        assert all(path.removesuffix(".cell") == f"l{kind}" for path, kind in stated.items())


def test_a_doubt_names_the_layers_and_what_they_may_be(tmp_path, parameters_of):
    path, _ = written(tmp_path, "torch", parameters_of(("words", "embedding"), ("out", "dense")))
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(
            Doubtful, match=r"1 layer\n  words: a dense layer without a bias \(dense\), or an emb"
        ):
            to_parameters(checkpoint, "torch", None)
        text = draft(layers_of(checkpoint, names_of("torch")), path.name, {"out": 3})
    assert '# ? a dense layer without a bias (dense), or an embedding\nkind = "?"' in text
    assert "# ? 3 channels, if its input is the flattened image" in text
    settled = tmp_path / "a.toml"
    settled.write_text(text)
    with pytest.raises(BadArchitecture, match=r"layer 1, 'words': kind must be one of dense, .*; got '\?'"):
        read_architecture(settled)
    settled.write_text(text.replace('kind = "?"', 'kind = "embedding"'))
    with open_checkpoint(path) as checkpoint:
        back, _ = to_parameters(checkpoint, "torch", read_architecture(settled))
    assert [layer.kind for layer in back.layers] == ["embedding", "dense"]


def test_a_flattened_image_is_asked_for_where_channels_stand_last():
    image = np.random.RandomState(0).uniform(-1, 1, (2, 3, 4)).astype("float32")  # channels, height, width
    weight = np.random.RandomState(1).uniform(-1, 1, (5, 24)).astype("float32")
    parameters = ParameterSet(
        [LayerRecord("conv", "conv2d", ("weight", "bias")), LayerRecord("out", "dense", ("weight",))],
        {
            "conv.weight": np.ones((2, 1, 3, 3), "float32"),
            "conv.bias": np.ones(2, "float32"),
            "out.weight": weight,
        },
    )
    from_parameters(parameters, "mxnet")
    with pytest.raises(
        Doubtful, match=r"dense layer 'out' follows a convolution of 2 channels.* flattened = 2, or 0"
    ):
        from_parameters(parameters, "jax")
    said = [ArchitectureLayer("conv", "conv2d"), ArchitectureLayer("out", "dense", flattened=2)]
    kernel = from_parameters(parameters, "jax", said).arrays["params/out/kernel"]
    np.testing.assert_allclose(
        image.transpose(1, 2, 0).reshape(-1) @ kernel, weight @ image.reshape(-1), rtol=1e-5
    )
    said[1] = ArchitectureLayer("out", "dense", flattened=0)
    kernel = from_parameters(parameters, "jax", said).arrays["params/out/kernel"]
    np.testing.assert_array_equal(kernel, weight.T)


def test_ties_are_kept_where_a_file_can_keep_them(tmp_path, parameters_of):
    layers = [("a", "dense"), ("b", "dense")]
    tied = parameters_of(*layers, ties=[("a.weight", "b.weight"), ("a.bias", "b.bias")])
    path, _ = written(tmp_path, "torch", tied)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.ties() == [("a.weight", "b.weight"), ("a.bias", "b.bias")]
        back, _ = to_parameters(checkpoint, "torch", None)
    assert back.ties == tied.ties
    # A Flax or Keras model has a shared layer once, and so have its files.
    once = from_parameters(tied, "jax")
    assert list(once.arrays) == ["params/a/kernel", "params/a/bias"]
    assert "another use" in once.notes[0]


def test_two_biases_that_become_one_are_told(parameters_of):
    parameters = parameters_of(("r", "lstm"))
    assert from_parameters(parameters, "mxnet").notes == []
    (note,) = from_parameters(parameters, "tensorflow").notes
    assert "holds their sum" in note


def test_a_place_in_the_new_file_can_be_said(parameters_of):
    parameters = parameters_of(("a", "dense"), ("b", "lstm"))
    said = [
        ArchitectureLayer("a", "dense", to="Dense_0"),
        ArchitectureLayer("b", "lstm", to="OptimizedLSTMCell_0"),
    ]
    found = from_parameters(parameters, "jax", said).arrays
    assert {"params/Dense_0/kernel", "params/OptimizedLSTMCell_0/hi/bias"} <= set(found)
    said = [ArchitectureLayer("a", "dense", to="x"), ArchitectureLayer("b", "dense", to="x")]
    with pytest.raises(ConversionError, match=r"two arrays would be called 'x\.weight'"):
        from_parameters(parameters_of(("a", "dense"), ("b", "dense")), "torch", said)


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ([ArchitectureLayer("a", "dense")], "has a layer 'b' that the architecture does not list"),
        (
            [ArchitectureLayer("a", "dense"), ArchitectureLayer("b", "dense"), ArchitectureLayer("c", "dense")],
            "the architecture lists 'c', which is not in",
        ),
        ([ArchitectureLayer("a", "conv2d"), ArchitectureLayer("b", "dense")], "'a' cannot be a conv2d layer"),
        (
            [ArchitectureLayer("a", "lstm"), ArchitectureLayer("b", "dense")],
            "'a' has an array 'weight'; a lstm",
        ),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(tmp_path, parameters_of, architecture, said):
    path, _ = written(tmp_path, "torch", parameters_of(("a", "dense"), ("b", "dense")))
    with open_checkpoint(path) as checkpoint, pytest.raises(ConversionError, match=said):
        to_parameters(checkpoint, "torch", architecture)


def test_a_layer_can_be_dropped(tmp_path, parameters_of):
    path, _ = written(tmp_path, "torch", parameters_of(("a", "dense"), ("b", "dense")))
    with open_checkpoint(path) as checkpoint:
        found, _ = to_parameters(
            checkpoint, "torch", [ArchitectureLayer("a", "dense"), ArchitectureLayer("b", None, drop=True)]
        )
    assert [layer.path for layer in found.layers] == ["a"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[layer", "it is no TOML"),
        ("x = 1", r"a list of tables \[\[layer\]\]"),
        ('[[layer]]\nkind = "dense"', "layer 1 needs a path"),
        (
            '[[layer]]\npath = "a"\nkind = "attention"',
            "layer 1, 'a': kind must be one of dense, .*; got 'attention'",
        ),
        ('[[layer]]\npath = "a"\nkind = "dense"\nsize = 3', "layer 1 has 'size', which is not known"),
        ('[[layer]]\npath = "a"\nkind = "lstm"\nflattened = 3', "flattened is the number of channels"),
        ('[[layer]]\npath = "a"\nkind = "dense"\nto = 3', "to must be text"),
        ('[[layer]]\npath = "a"\nkind = "dense"\n' * 2, "layer 'a' stands in it twice"),
    ],
)
def test_an_architecture_file_is_read_with_care(tmp_path, text, said):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(BadArchitecture, match=said):
        read_architecture(path)


@pytest.mark.parametrize("target", ["jax", "tensorflow"])
def test_a_norm_of_a_flattened_image_is_refused_where_channels_stand_last(target):
    arrays = {"conv.weight": np.ones((2, 1, 3, 3), "float32"), "norm.weight": np.arange(24, dtype="float32")}
    layers = [LayerRecord("conv", "conv2d", ("weight",)), LayerRecord("norm", "layernorm", ("weight",))]
    with pytest.raises(ConversionError, match="'norm' may take the flattened image"):
        from_parameters(ParameterSet(layers, arrays), target)
    assert from_parameters(ParameterSet(layers, arrays), "torch").arrays
