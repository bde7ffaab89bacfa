"""A short search on each framework from a fixed seed comes upon nothing but what is known."""

from __future__ import annotations

import threading

import pytest

from d2lparams.columns import parse_column
from d2lparams.exploring.column import ExploredColumn
from d2lparams.exploring.searching import search

# By number and not by time: the same ones on any machine. In JAX and TensorFlow each is traced and compiled.
PROGRAMS = {"torch": 100, "mxnet": 100, "jax": 25, "tensorflow": 25}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_short_search_finds_nothing_new(name, tmp_path):
    """What is found here is a new release's, or ours."""
    with ExploredColumn(parse_column(name), timeout=60, stop=threading.Event(), log=tmp_path / "log") as column:
        so_far = search(column, name, column.offer, seed=0, most=PROGRAMS[name])
    assert so_far.ran == PROGRAMS[name]
    assert not [f"{one.program}\n{one.deviation}" for one in so_far.found]
