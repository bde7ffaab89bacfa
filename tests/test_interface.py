"""The words of the harness: what an MLP may be, and what is checked before a framework sees it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from d2lparams.interface import (
    MLP,
    Gradient,
    Parameter,
    Parameters,
    Price,
    Trainer,
    Unsupported,
    needs,
    partition,
    unique,
)
from d2lparams.parameters import listing


def refuses(sentence):
    """A ValueError that says this and nothing else."""
    return pytest.raises(ValueError, match=rf"\A{re.escape(sentence)}\Z")


# -- MLP -----------------------------------------------------------------------------------------------------


def test_an_mlp_has_a_dense_layer_between_every_two_sizes():
    spec = MLP((4, 8, 1))
    assert spec.layers == 2
    assert [spec.weight_shape(layer) for layer in range(2)] == [(8, 4), (1, 8)]
    assert (spec.activation, spec.tied, spec.dtype, spec.lazy) == ("relu", (), "float32", False)


def test_lists_and_numpy_integers_describe_the_same_mlp():
    assert MLP([4, np.int64(8), 8, 8, 1], tied=[[1, 2]]) == MLP((4, 8, 8, 8, 1), tied=((1, 2),))
    assert hash(MLP([4, 8, 8, 8, 1], tied=[[1, 2]])) == hash(MLP((4, 8, 8, 8, 1), tied=((1, 2),)))


def test_the_owner_is_the_first_layer_of_the_group():
    spec = MLP((4, 8, 8, 8, 8, 1), tied=((3, 1),))
    assert [spec.owner(layer) for layer in range(spec.layers)] == [0, 1, 2, 1, 4]


@pytest.mark.parametrize(
    "sizes", [(), (4,), (4, 0), (4, -1, 1), (4, 8.0, 1), (4, True), (4, "8"), (4, None), 8, None]
)
def test_sizes_that_are_not_positive_whole_numbers(sizes):
    with refuses(f"sizes must be at least two positive whole numbers, such as (4, 8, 1); got {sizes}"):
        MLP(sizes)


@pytest.mark.parametrize("activation", ["gelu", "ReLU", None])
def test_an_activation_that_there_is_not(activation):
    with refuses(f"activation must be one of 'relu', 'tanh', 'identity'; got {activation!r}"):
        MLP((4, 1), activation)


@pytest.mark.parametrize("dtype", ["float16", float, None])
def test_a_dtype_that_there_is_not(dtype):
    with refuses(f"dtype must be one of 'float32', 'float64'; got {dtype!r}"):
        MLP((4, 1), dtype=dtype)


@pytest.mark.parametrize("tied", [(1, 2), 1, None])
def test_tied_layers_that_are_in_no_group(tied):
    with refuses(f"tied must be groups of layers, such as ((1, 2),); got {tied}"):
        MLP((4, 8, 8, 8, 1), tied=tied)


@pytest.mark.parametrize("group", [(), (1,), (1, 1), (1, 2, 1)])
def test_a_tied_group_that_is_none(group):
    with refuses(f"a tied group names at least two different layers; got {group}"):
        MLP((4, 8, 8, 8, 1), tied=(group,))


@pytest.mark.parametrize("layer", [4, -1, True, 1.0, "1"])
def test_a_tied_layer_that_is_not_there(layer):
    with refuses(f"there is no dense layer {layer!r}; this model has 0 to 3, in order of application"):
        MLP((4, 8, 8, 8, 1), tied=((2, layer),))


def test_a_model_of_one_layer_has_only_layer_0():
    with refuses("there is no dense layer 1; this model has only layer 0, in order of application"):
        MLP((4, 8), tied=((0, 1),))


def test_tied_layers_of_two_shapes():
    with refuses("layer 2 has weight (1, 8) and layer 1 has (8, 8); only layers of one shape can be tied"):
        MLP((4, 8, 8, 1), tied=((1, 2),))


def test_a_layer_in_two_tied_groups():
    with refuses("layer 2 stands in two tied groups; join them into one, got ((1, 2), (2, 3))"):
        MLP((4, 8, 8, 8, 8, 1), tied=((1, 2), (2, 3)))


# -- Parameter -----------------------------------------------------------------------------------------------


def parameter(layer, storage, shape=(2, 3), dtype="float32"):
    return Parameter(
        layer=layer,
        role="weight",
        native_name=f"layer {layer}",
        access=f"net[{layer}]",
        native_shape=shape,
        shape=shape,
        dtype=dtype,
        native=None,
        storage=storage,
        module=layer,
        hold=lambda one: one.native,
        read=lambda one: np.full(one.shape, one.layer, one.dtype),
        read_gradient=lambda one: Gradient(kept=False, where="nowhere"),
    )


def test_unique_keeps_the_first_use_of_every_storage_in_order():
    a, b, again, c = parameter(0, "a"), parameter(1, "b"), parameter(2, "a"), parameter(3, "c")
    found = unique([a, b, again, c])
    assert len(found) == 3
    assert all(one is other for one, other in zip(found, [a, b, c], strict=True))
    assert unique([]) == []


@pytest.mark.parametrize(("dtype", "nbytes"), [("float32", 24), ("float64", 48)])
def test_a_parameter_s_size_and_bytes_are_those_of_its_values(dtype, nbytes):
    one = parameter(0, "a", dtype=dtype)
    assert (one.size, one.nbytes) == (6, nbytes)
    assert (one.value.size, one.value.nbytes) == (6, nbytes)


def test_listing_a_parameter_reads_nothing_until_it_is_asked():
    def explode(one):
        raise AssertionError("read too early")

    one = replace(parameter(0, "a"), hold=explode, read=explode, read_gradient=explode)
    assert "net[0]" in repr(one)
    assert "net[0]" in repr(Parameters([one, one]))
    assert (unique([one, one]), partition([one, one])) == ([one], [0, 0])
    for ask in (lambda: one.value, lambda: one.gradient, lambda: one.native_value):
        with pytest.raises(AssertionError, match="read too early"):
            ask()


def test_a_place_in_the_partition_is_that_of_the_first_use_of_the_storage():
    assert partition([parameter(place, storage) for place, storage in enumerate("abacab")]) == [
        0,
        1,
        0,
        3,
        0,
        1,
    ]
    assert partition([]) == []


def test_of_many_uses_of_one_storage_a_table_names_the_first():
    few, many = ([parameter(place, "a") for place in range(number)] for number in (17, 30))
    named = ", ".join(f"layer {place}" for place in range(1, 17))
    assert listing(few)[0]["storage"] == f"shared with {named}"
    assert listing(many)[0]["storage"] == f"shared with {named} and 13 more"
    assert "layer 20" not in listing(many)[20]["storage"]
    assert listing(many)[20]["storage"].startswith("shared with layer 0, layer 1, ")
    assert {row["storage"].count("layer") for row in listing(many)} == {16}


# -- Trainer -------------------------------------------------------------------------------------------------


class Fake(Trainer):
    """Takes down what it is stepped with. The model takes 3 inputs and has 2 outputs, float32."""

    def __init__(self):
        super().__init__([parameter(0, "a", (5, 3)), parameter(1, "b", (2, 5))])
        self.seen = []

    def _step(self, x, y):
        self.seen.append((x, y))
        return 0.5


def test_a_trainer_s_step_gets_the_batch_and_gives_the_loss():
    fake, x, y = Fake(), np.ones((6, 3), "float32"), np.zeros((6, 2), "float32")
    assert fake.step(x, y) == 0.5
    ((seen_x, seen_y),) = fake.seen
    assert np.array_equal(seen_x, x)
    assert np.array_equal(seen_y, y)


def test_a_trainer_takes_what_its_dtype_holds_exactly():
    fake = Fake()
    fake.step(np.ones((6, 3), "float16"), np.ones((6, 2), "int16"))
    assert [array.dtype.name for array in fake.seen[0]] == ["float32", "float32"]


X, Y = np.ones((6, 3), "float32"), np.ones((6, 2), "float32")
LOSSY = "convert it with .astype('float32') if the loss of precision is meant"


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (X[:, :2], Y, "x has shape (6, 2); this model takes (n, 3) with n of at least 1"),
        (X[0], Y, "x has shape (3,); this model takes (n, 3) with n of at least 1"),
        (X[:0], Y[:0], "x has shape (0, 3); this model takes (n, 3) with n of at least 1"),
        (X.astype("float64"), Y, f"x is float64, but the model is float32; {LOSSY}"),
        (X, Y[:, :1], "y has shape (6, 1); for these inputs it must be (6, 2)"),
        (X, Y[:5], "y has shape (5, 2); for these inputs it must be (6, 2)"),
        (X, Y.astype("float64"), f"y is float64, but the model is float32; {LOSSY}"),
    ],
)
def test_a_trainer_steps_with_nothing_that_does_not_fit(x, y, sentence):
    fake = Fake()
    with refuses(sentence):
        fake.step(x, y)
    assert fake.seen == []


class Patient(Fake):
    """Tells of each step whether it would be compiled. The model has 25 numbers."""

    price = Price(compilation=6.0, step=1.0, number=1.0 / 25)

    def _step(self, x, y):
        self.seen.append(self._compiles(x))
        return 0.5

    def _run(self, x, y, steps):
        self.seen.append(self._compiles(x, steps))
        return [0.5] * steps


def test_a_compilation_waits_until_so_many_steps_would_have_paid_for_it():
    patient = Patient()
    for _ in range(5):
        patient.step(X, Y)
    assert patient.seen == [False, False, False, True, True]


def test_a_run_that_pays_for_a_compilation_is_compiled_at_once():
    for steps, compiled in ((3, False), (4, True)):
        patient = Patient()
        patient.run(X, Y, steps)
        assert patient.seen == [compiled]


def test_batches_of_another_length_are_counted_apart():
    patient = Patient()
    patient.run(X, Y, 3)
    patient.step(X[:2], Y[:2])
    patient.step(X, Y)
    assert patient.seen == [False, False, True]


@pytest.mark.parametrize("told", [True, False])
def test_a_trainer_that_is_told_does_not_count(told):
    patient = Patient()
    patient.prepare("mean squared error", told)
    for steps in (1, 100):
        patient.run(X, Y, steps)
    assert patient.seen == [told, told]


def test_a_trainer_without_a_run_of_its_own_takes_steps():
    fake = Fake()
    losses = fake.run(X, Y, 3)
    assert (losses.tolist(), losses.dtype, len(fake.seen)) == ([0.5] * 3, "float64", 3)


def test_a_trainer_refuses_a_loss_that_it_does_not_know():
    with pytest.raises(Unsupported, match="does not know the loss 'softmax cross-entropy'"):
        Fake().prepare("softmax cross-entropy", "auto")


# -- needs ---------------------------------------------------------------------------------------------------


def test_needs_says_what_is_missing_and_the_line_that_installs_it():
    sentence = (
        "no module 'no_such_framework' in this Python; `pip install 'd2lparams[torch]'` installs what the "
        "torch backend needs"
    )
    with pytest.raises(ModuleNotFoundError, match=rf"\A{re.escape(sentence)}\Z") as caught, needs("torch"):
        import no_such_framework  # noqa: F401
    assert caught.value.name == "no_such_framework"


def test_needs_says_when_this_python_is_too_new():
    sentence = "no module 'nowhere' in this Python; the mxnet backend needs one before 3.1"
    with pytest.raises(ModuleNotFoundError, match=rf"\A{re.escape(sentence)}\Z"), needs("mxnet", (3, 1)):
        raise ModuleNotFoundError("nowhere is not here", name="nowhere")


@pytest.mark.parametrize("error", [ImportError("libcuda is broken"), OSError("no such library")])
def test_needs_leaves_every_other_error_as_it_is(error):
    with pytest.raises(type(error)) as caught, needs("torch"):
        raise error
    assert caught.value is error


def test_needs_lets_through_what_is_there():
    with needs("json"):
        import json
    assert json.loads("1") == 1
