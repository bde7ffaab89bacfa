"""Both ways between native and canonical form follow from a table's rows, and lose nothing but what is said."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from d2lparams.conventions import (
    CANONICAL,
    GATES,
    Flattened,
    Held,
    kept_hidden_biases,
    merged,
    native_shapes,
    table,
    to_canonical,
    to_native,
)

BACKENDS = ("torch", "mxnet", "jax", "tensorflow")


def same(one, other):
    assert list(one) == list(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name, strict=True)


@pytest.fixture(params=BACKENDS)
def conventions(request):
    return importlib.import_module(f"backends.conventions.{request.param}").CONVENTIONS


def test_every_framework_s_table_has_every_kind(conventions):
    assert list(conventions) == list(CANONICAL)


@pytest.mark.parametrize("kind", CANONICAL)
def test_native_and_back_is_what_it_was(conventions, canonical_values, kind):
    rows, canonical = conventions[kind], canonical_values(kind)
    native = dict(to_native(kind, rows, canonical))
    same(to_canonical(kind, rows, native), merged(kind, rows, canonical))
    assert {name: value.shape for name, value in native.items()} == native_shapes(
        kind, rows, {name: value.shape for name, value in canonical.items()}
    )


@pytest.mark.parametrize("kind", CANONICAL)
def test_every_canonical_array_is_held_but_a_hidden_bias_that_is_added(conventions, kind):
    held = {name for row in conventions[kind] for name in row.canonical}
    missing = set(CANONICAL[kind]) - held
    assert missing <= {"hidden bias"}
    for name in held:
        assert name in CANONICAL[kind]


@pytest.mark.parametrize("kind", GATES)
def test_biases_that_are_kept_as_one_are_added_and_the_function_is_the_same(
    conventions, canonical_values, kind
):
    canonical, rows = canonical_values(kind), conventions[kind]
    one = merged(kind, rows, canonical)
    total = canonical["input bias"] + canonical["hidden bias"]
    np.testing.assert_array_equal(one["input bias"] + one["hidden bias"], total)
    kept = kept_hidden_biases(kind, rows)
    np.testing.assert_array_equal(one["hidden bias"][kept], canonical["hidden bias"][kept])
    # The new gate's stands inside of the reset gate: to add it elsewhere would be another function.
    if kind == "gru":
        assert GATES["gru"].index("n") in kept


def test_a_layer_without_a_bias_has_none(conventions, canonical_values):
    for kind in ("dense", "conv1d", "conv2d"):
        weight = {"weight": canonical_values(kind)["weight"]}
        native = dict(to_native(kind, conventions[kind], weight))
        assert len(native) == 1
        same(to_canonical(kind, conventions[kind], native), weight)


def test_a_table_can_be_read(conventions):
    lines = table(conventions)
    assert {line["kind"] for line in lines} == set(CANONICAL)
    assert all(line["native"] and line["native axes"] and line["canonical axes"] for line in lines)
    assert all(bool(line["gates"]) == (line["kind"] in GATES) for line in lines)


def test_orientation_alone_is_a_view():
    kernel = np.arange(12.0).reshape(4, 3)
    rows = [Held("kernel", "weight", "in out")]
    assert np.shares_memory(to_canonical("dense", rows, {"kernel": kernel})["weight"], kernel)
    weight = np.arange(12.0).reshape(3, 4)
    assert np.shares_memory(dict(to_native("dense", rows, {"weight": weight}))["kernel"], weight)


def test_gates_go_where_their_letters_say():
    rows = [Held("kernel", "input weight", "in (gate units)", "zrn")]
    canonical = {"input weight": np.stack([np.full((2, 1), letter) for letter in (1.0, 2.0, 3.0)])}  # r, z, n
    kernel = dict(to_native("gru", rows, canonical))["kernel"]
    np.testing.assert_array_equal(kernel, [[2.0, 2.0, 1.0, 1.0, 3.0, 3.0]])


def test_a_flattened_image_goes_channel_by_channel():
    image = np.random.RandomState(0).uniform(-1, 1, (3, 2, 2))  # channels, height, width
    weight = np.random.RandomState(1).uniform(-1, 1, (5, 12))
    rows = [Held("kernel", "weight", "in out")]
    flattened = Flattened(3, channels_last=True)
    kernel = dict(to_native("dense", rows, {"weight": weight}, flattened))["kernel"]
    last = image.transpose(1, 2, 0)
    np.testing.assert_allclose(last.reshape(-1) @ kernel, weight @ image.reshape(-1))
    np.testing.assert_array_equal(to_canonical("dense", rows, {"kernel": kernel}, flattened)["weight"], weight)
