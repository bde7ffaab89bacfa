"""Deviations that are known, and so no news for a search.

They stand in `backends.deviations`, a module for each framework; what has none, a user's own file say, has
nothing that is known.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from d2lparams.exploring.judging import Deviation
from d2lparams.subjects import Known


@cache
def known_of(backend: str) -> tuple[Known, ...]:
    """All that is known of a backend, by its name."""
    module = f"backends.deviations.{backend}"
    if not backend.isidentifier() or find_spec(module) is None:
        return ()
    found: tuple[Known, ...] = import_module(module).KNOWN
    return found


def known(backend: str, deviation: Deviation) -> Known | None:
    """Which known one a deviation is, or None."""
    return next((one for one in known_of(backend) if _matches(one, deviation)), None)


def _matches(one: Known, deviation: Deviation) -> bool:
    return (
        one.way == (deviation.way or deviation.operation)
        and deviation.violated in one.violated
        and deviation.operation in (one.operations or (one.way,))
        and deviation.seen.startswith(one.error)
        and one.traits <= deviation.traits
        and (not one.after or one.after in deviation.ways[:-1])
    )
