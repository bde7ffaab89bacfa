"""Which layer takes whose values: what structure decides, and what is asked of the user."""

from __future__ import annotations

import pytest

from d2lparams.matching import Described, MatchError, match


def dense(path, out, into, storage=None):
    return Described(path, "dense", {"weight": (out, into)}, {"weight": storage or path})


A = [dense("a", 8, 4), dense("b", 8, 8), dense("c", 8, 8), dense("d", 1, 8)]
B = [dense("0", 8, 4), dense("2", 8, 8), dense("4", 8, 8), dense("6", 1, 8)]


def test_order_decides_between_layers_of_one_shape():
    assert match(A, B) == {"0": "a", "2": "b", "4": "c", "6": "d"}


def test_equal_names_decide_before_order():
    turned = [A[0], A[2], A[1], A[3]]
    assert match(A, turned) == {one.path: one.path for one in A}


def test_shapes_decide_where_no_order_is_known():
    source = [A[3], A[0], A[1]]
    assert match(source, [B[0], B[1], B[3]], ordered=False) == {"0": "a", "2": "b", "6": "d"}


def test_without_names_and_order_the_layers_are_named_and_a_mapping_is_asked_for():
    with pytest.raises(MatchError, match=r"'2', '4' of the model and 'b', 'c' of the parameters .* mapping="):
        match(A, B, ordered=False)
    assert match(A, B, ordered=False, mapping={"2": "c"}) == {"0": "a", "2": "c", "4": "b", "6": "d"}


def test_an_order_that_is_another_one_decides_nothing():
    source = [dense("a", 8, 8), dense("b", 4, 8), dense("c", 8, 8)]
    target = [dense("0", 8, 8), dense("1", 8, 8), dense("2", 4, 8)]
    with pytest.raises(MatchError, match="mapping"):
        match(source, target)


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (A, B[:3], "the parameters have 4 layers, the model has 3 layers; the parameters have more: 'd'"),
        (A[:3], B, "the parameters have 3 layers, the model has 4 layers; the model has more: '6'"),
        (
            [A[0], dense("b", 8, 9)],
            B[:2],
            "they part first where the parameters have 'b' .*8x9.* and the model '2'",
        ),
    ],
)
def test_what_does_not_fit_is_said_where_it_first_does_not(source, target, said):
    with pytest.raises(MatchError, match=said):
        match(source, target)


def test_a_tied_use_that_one_side_does_not_know_of_is_left_out():
    tied = [A[0], A[1], dense("again", 8, 8, storage="b"), A[3]]
    once = [B[0], B[1], B[3]]
    assert match(tied, once, ordered=False) == {"0": "a", "2": "b", "6": "d"}
    # Where both sides know every use, there is one too many.
    with pytest.raises(MatchError, match="4 layers, the model has 3"):
        match(tied, once)


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"7": "a"}, "'7', which is no layer of the model; there are '0', '2', '4', '6'"),
        ({"0": "aa"}, "'aa', which is no layer of the parameters; did you mean 'a'"),
        ({"0": "d"}, "the mapping gives '0' .* the values of 'd' .*, which do not fit"),
        ({"2": "b", "4": "b"}, "the values of 'b' to two layers"),
    ],
)
def test_a_mapping_is_checked(mapping, said):
    with pytest.raises(MatchError, match=said):
        match(A, B, mapping=mapping)
