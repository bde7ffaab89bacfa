"""Parameters of the examples out of a backend's own models and into others; what does not fit changes nothing.

A framework's own oddities are held in `test_carrying_NAME.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from d2lparams.carrying import LoadError, MatchError
from d2lparams.interface import MLP, Unsupported
from d2lparams.models import EXAMPLES
from d2lparams.parameter_set import ParameterSet, same_bits
from d2lparams.transfers import deviation, inputs_of, prepared

TIED = EXAMPLES["tied-mlp"]


class Carried:
    """An example built on the backend under test, and its values."""

    def __init__(self, backend, name):
        self.backend, self.example = backend, EXAMPLES[name]
        self.x = backend.carrier().native_input(inputs_of(self.example), self.example.kind)
        self.model = prepared(backend, self.build(), self.example)
        self.parameters = backend.export(self.model, self.x)

    def build(self):
        return self.backend.example(self.example)


def pytest_generate_tests(metafunc):
    """Every example that the backend builds; the reference builds multilayer perceptrons only."""
    if "name" in metafunc.fixturenames:
        reference = metafunc.config.getoption("--backend", default="numpy") == "numpy"
        metafunc.parametrize("name", [name for name, one in EXAMPLES.items() if one.mlp or not reference])


@pytest.fixture
def carried(backend, name):
    return Carried(backend, name)


def bits(backend, model, x):
    return {path: np.array(value) for path, value in backend.export(model, x).items()}


def test_the_layers_are_those_of_the_example(carried):
    kinds = {
        "mlp": ["dense"] * 4,
        "tied-mlp": ["dense"] * 4,
        "lenet": ["conv2d"] * 2 + ["dense"] * 3,
        "lstm": ["lstm", "dense"],
        "language-model": ["embedding", "lstm", "dense"],
    }
    assert [layer.kind for layer in carried.parameters.layers] == kinds[carried.example.name]
    assert carried.parameters.ordered
    assert carried.parameters.origin == carried.backend.name
    ties = {"tied-mlp": 2, "language-model": 1}
    assert len(carried.parameters.ties) == ties.get(carried.example.name, 0)


def test_a_fresh_model_takes_the_values_from_a_file_bit_for_bit(carried, tmp_path):
    path = tmp_path / "x.safetensors"
    carried.parameters.save(path)
    other = carried.backend.load(carried.build(), ParameterSet.open(path), carried.x)
    again = carried.backend.export(other, carried.x)
    assert again.ties == carried.parameters.ties
    assert all(same_bits(again[one], carried.parameters[one]) for one in carried.parameters)
    carrier = carried.backend.carrier()
    here, there = (carrier.forward(model, carried.x) for model in (other, carried.model))
    assert deviation(here, there) <= 1e-6


def test_looking_changes_nothing(carried):
    before = bits(carried.backend, carried.model, carried.x)
    carrier = carried.backend.carrier()
    carrier.forward(carried.model, carried.x)
    carrier.outputs(carried.model, carried.x)
    carrier.structure(carried.model, carried.x)
    after = bits(carried.backend, carried.model, carried.x)
    assert all(same_bits(after[one], before[one]) for one in before)


def test_the_outputs_of_layers_have_the_paths_of_the_layers(carried):
    outputs = dict(carried.backend.carrier().outputs(carried.model, carried.x))
    assert list(outputs) == [layer.path for layer in carried.parameters.layers]
    assert all(np.isfinite(value).all() for value in outputs.values())


def test_a_step_moves_what_is_trained_by_its_gradient(carried):
    carrier = carried.backend.carrier()
    output = carrier.forward(carried.model, carried.x)
    y = np.zeros_like(output)
    before = carried.parameters
    layers = carrier.structure(carried.model, carried.x).layers
    held = {one.storage: np.array(one.read()) for layer in layers for one in layer.arrays}
    step = carrier.step(carried.model, carried.x, y, 0.125)
    assert deviation(step.output, output) <= 1e-6
    assert step.loss == pytest.approx(float(np.mean(output.astype("float64") ** 2)), rel=1e-5)
    after = {
        one.storage: one for layer in carrier.structure(carried.model, carried.x).layers for one in layer.arrays
    }
    if set(after) == set(held):  # where arrays are immutable, new ones are in their place
        for storage, gradient in step.gradients.items():
            moved = held[storage] - np.float32(0.125) * gradient
            assert deviation(np.array(after[storage].read()), moved) <= 1e-6
    assert any(
        not same_bits(value, before[path])
        for path, value in bits(carried.backend, carried.model, carried.x).items()
    )


def test_a_copy_stays_and_a_view_is_read_only(carried):
    copied = carried.backend.export(carried.model, carried.x)
    viewed = carried.backend.export(carried.model, carried.x, copy=False)
    assert not copied.shared
    assert list(viewed) == list(copied)
    for path in copied:
        assert same_bits(viewed[path], copied[path])
        with pytest.raises(ValueError, match="read-only"):
            viewed[path][...] = 0


def test_a_tie_that_the_target_does_not_have_is_an_error_and_changes_nothing(backend):
    tied = Carried(backend, "tied-mlp")
    apart = Carried(backend, "mlp")
    before = bits(backend, apart.model, apart.x)
    with pytest.raises(LoadError, match=r"one storage .* untie=True"):
        backend.load(apart.model, tied.parameters, tied.x)
    assert all(same_bits(value, before[path]) for path, value in bits(backend, apart.model, apart.x).items())
    backend.load(apart.model, tied.parameters, tied.x, untie=True)
    carrier = backend.carrier()
    here, there = (carrier.forward(one.model, tied.x) for one in (apart, tied))
    assert deviation(here, there) <= 1e-6


def test_two_values_for_one_storage_are_an_error_and_change_nothing(backend):
    tied, apart = Carried(backend, "tied-mlp"), Carried(backend, "mlp")
    before = bits(backend, tied.model, tied.x)
    with pytest.raises(LoadError, match="one storage in the model, and the parameters have two values"):
        backend.load(tied.model, apart.parameters, tied.x)
    assert all(same_bits(value, before[path]) for path, value in bits(backend, tied.model, tied.x).items())


def test_a_loss_of_precision_is_an_error_and_a_gain_is_none(backend):
    wide = backend.mlp(MLP((4, 8, 1), dtype="float64"))
    narrow = backend.mlp(MLP((4, 8, 1)))
    parameters = backend.export(wide)
    before = dict(backend.export(narrow))
    with pytest.raises(LoadError, match="float32 in the model and float64 in the parameters"):
        backend.load(narrow, parameters)
    assert all(same_bits(value, before[path]) for path, value in backend.export(narrow).items())
    backend.load(narrow, parameters.astype("float32"))
    backend.load(wide, backend.export(narrow))


def test_another_shape_is_an_error_that_says_where(backend):
    parameters = backend.export(backend.mlp(MLP((4, 8, 1))))
    with pytest.raises(MatchError, match=r"8x4.*and the model .*9x4"):
        backend.load(backend.mlp(MLP((4, 9, 1))), parameters)
    with pytest.raises(MatchError, match="the parameters have 2 layers, the model has 1 layer"):
        backend.load(backend.mlp(MLP((4, 1))), parameters)


def test_a_mapping_turns_layers_round(backend):
    source = backend.mlp(MLP((4, 4, 4)))
    target = backend.mlp(MLP((4, 4, 4)))
    parameters = backend.export(source)
    first, second = (layer.path for layer in parameters.layers)
    backend.load(target, parameters, mapping={first: second, second: first})
    found = backend.export(target)
    weight = f"{first}.weight", f"{second}.weight"
    assert same_bits(found[weight[0]], parameters[weight[1]])
    assert same_bits(found[weight[1]], parameters[weight[0]])


def test_an_example_that_is_not_there_is_unsupported(backend):
    if backend.name == "numpy":
        with pytest.raises(Unsupported, match="this backend builds no lenet"):
            backend.example(EXAMPLES["lenet"])
    else:
        assert all(backend.example(example) is not None for example in EXAMPLES.values())
