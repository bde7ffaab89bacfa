"""A short search on each framework from a fixed seed comes upon nothing but what is known."""

from __future__ import annotations

import threading

import pytest

from d2lparams.columns import parse_column
from d2lparams.exploring.column import ExploredColumn
from d2lparams.exploring.searching import search


@pytest.mark.parametrize("name", ["torch", "mxnet", "jax", "tensorflow"])
def test_a_short_search_finds_nothing_new(name, tmp_path):
    """Half a minute each: what is found here is a new release's, or ours."""
    with ExploredColumn(parse_column(name), timeout=60, stop=threading.Event(), log=tmp_path / "log") as column:
        so_far = search(column, name, column.offer, seed=0, seconds=30)
    assert so_far.ran > 3
    assert not [f"{one.program}\n{one.deviation}" for one in so_far.found]
