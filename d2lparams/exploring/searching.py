"""The search: random programs until one deviates, that one made as small as it gets, and on to the next.

Hypothesis draws and shrinks. A pass ends with its first deviation that is neither known nor found already;
then that one is left out, and the next pass begins from another seed. So each finding is one way or operation
and one thing that it violates. The same seed, the same version of Hypothesis and the same framework give the
same search; only how far it gets is a question of time.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration
from hypothesis.errors import Flaky

from d2lparams.exploring.generating import Offer, programs, simpler
from d2lparams.exploring.judging import Deviation, judge
from d2lparams.exploring.known import known
from d2lparams.exploring.program import Program
from d2lparams.exploring.seen import Seen
from d2lparams.subjects import Known

HANGS = 6
"""How often a program may hang while it is made smaller: each time costs the whole limit."""


class Runs(Protocol):
    """What runs programs, such as `column.ExploredColumn`."""

    def run(self, program: Program) -> list[Seen]:
        """What was seen of a program."""
        ...


@dataclass
class Finding:
    """A deviation that is new, with the smallest program that was found to show it.

    Attributes:
        program: up to the operation at which it is seen.
        deviation: what is seen.
        shrunk: whether the search came to its end in making it small.
        alone: whether it was seen again when it was tried again; what is not hangs on what was run before.
    """

    program: Program
    deviation: Deviation
    shrunk: bool = True
    alone: bool = True


@dataclass
class Search:
    """What a search has found so far.

    Attributes:
        ran: how many different programs were run.
        found: what is new, in the order in which it was found.
        known: how often each deviation was seen that is known.
    """

    ran: int = 0
    found: list[Finding] = field(default_factory=list)
    known: Counter[Known] = field(default_factory=Counter)


class _Enough(BaseException):
    """Time is up, or the user wants no more of it."""


class _Deviates(Exception):
    """What a pass is making small has been seen again."""


def search(
    column: Runs,
    backend: str,
    offer: Offer,
    *,
    seed: int = 0,
    seconds: float = float("inf"),
    most: float = float("inf"),
    stopped: Callable[[], bool] = lambda: False,
    tell: Callable[[Search], None] = lambda so_far: None,
) -> Search:
    """Search a column for what is new.

    Args:
        column: what runs programs.
        backend: the name of the backend, whose known deviations are left out.
        offer: what programs can be made of.
        seed: of the first pass.
        seconds: wall-clock time that it may take, an operation that runs then excepted.
        most: so many programs are run, and no more.
        stopped: whether the user wants no more of it.
        tell: is told of progress.
    """
    so_far, end, verdicts = Search(), time.monotonic() + seconds, _Verdicts(column)
    left_out: set[tuple[str, str, str]] = set()

    def attempt(program: Program) -> Deviation | None:
        """Run a program; what deviates in it, unless that is known or found."""
        if stopped() or time.monotonic() >= end or so_far.ran >= most:
            raise _Enough
        new = program not in verdicts
        deviation = verdicts[program]
        if new:
            so_far.ran += 1
            tell(so_far)
        if deviation is None or deviation.keys & left_out:
            return None
        if one := known(backend, deviation):
            so_far.known[one] += new
            return None
        return deviation

    with tempfile.TemporaryDirectory() as home:
        configuration.set_hypothesis_home_dir(Path(home))
        more = True
        while more:
            finding, more = _pass(attempt, offer, seed)
            seed += 1
            if finding is not None:
                left_out.add(finding.deviation.key)
                so_far.found.append(finding)
                tell(so_far)
    return so_far


def _pass(
    attempt: Callable[[Program], Deviation | None], offer: Offer, seed: int
) -> tuple[Finding | None, bool]:
    """The first deviation from a seed on, made small; and whether there is time for another pass."""
    seen: dict[Program, Deviation] = {}
    hangs = 0

    def deviates(program: Program) -> bool:
        """Whether a program shows what the pass is making small, or, as long as there is none, anything new."""
        nonlocal hangs
        deviation = attempt(program)
        if deviation is None:
            return False
        if seen:
            target = next(iter(seen.values()))
            # A way is to blame only for what is not there without it.
            if deviation.what != target.what or not set(deviation.ways) <= set(target.ways):
                return False
        hangs += deviation.violated == "hang" and program not in seen
        seen[program] = deviation
        if hangs > HANGS:
            raise _Enough
        return True

    def test(program: Program) -> None:
        if deviates(program):
            if hangs:
                raise _Enough  # each try would cost the whole limit; what follows takes few
            raise _Deviates

    settings = hypothesis.settings(
        max_examples=10_000,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
    )
    shrunk, alone, more = True, True, True
    try:
        hypothesis.seed(seed)(settings(hypothesis.given(programs(offer))(test)))()
    except _Deviates:
        pass
    except Flaky:
        alone = False
    except _Enough:
        shrunk, more = bool(hangs), bool(hangs)
    if not seen:
        return None, more
    smallest = min(seen, key=lambda one: one.complexity)
    try:
        while shrunk and (less := next(filter(deviates, _less(smallest)), None)):
            smallest = less
    except _Enough:
        shrunk, more = False, bool(hangs)
    return Finding(smallest, seen[smallest], shrunk, alone), more


def _less(program: Program) -> list[Program]:
    return [one for one in simpler(program) if one.complexity < program.complexity]


class _Verdicts(dict[Program, "Deviation | None"]):
    """What deviates in a program; each is run once."""

    def __init__(self, column: Runs) -> None:
        super().__init__()
        self._column = column

    def __missing__(self, program: Program) -> Deviation | None:
        self[program] = deviation = judge(program, self._column.run(program))
        return deviation
