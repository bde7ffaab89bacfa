"""One scenario on one column at a glance: a symbol, a few words, and how it looks. Pure: no screen, no style.

Every report that has a matrix of scenarios and columns (Markdown, the page, a notebook) fills its cells from
here, so that they say the same. No cell is blank, also not where a column never heard of the scenario.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from d2lparams.comparison import Comparison, Row
from d2lparams.reports.marks import CLAIMS, DASH, OUTCOMES, VERDICTS, mark
from d2lparams.reports.values import plain
from d2lparams.results import Outcome, Run, ScenarioResult, Status

Level = Literal["good", "differs", "bad", "none"]

STATUS_SYMBOLS: dict[Status, str] = {"unsupported": DASH, "not-run": "·"}
FAILED = "✗"
GRAVITY: tuple[Level, ...] = ("bad", "differs", "good", "none")


class Glance(NamedTuple):
    """What a cell of the matrix says.

    Attributes:
        symbol: one character, the gravest of those in `words`.
        words: what stands in the cell, symbols in it: "✓ 7 ≠ 2", "✗ crashed"; text of a run is never in it.
        level: "bad" where something failed or disagrees, "differs" where a reader should look, "good" where
            all is as it should be, "none" where there is nothing to see.
        spoken: the same in full, for a tooltip or a screen reader: "7 agree, 2 differ"; a run's own text (the
            reason why it failed) may be in it, without control characters, and not escaped.
    """

    symbol: str
    words: str
    level: Level
    spoken: str


def glance(comparison: Comparison, scenario: str, column: str) -> Glance:
    """How a scenario went on a column.

    Args:
        comparison: where both are looked up.
        scenario: its name.
        column: its name; one that is not there, or has not run the scenario, did "not-run".
    """
    run, ended = comparison.run(column), comparison.result(scenario, column)
    status: Status = ended.status if ended else "not-run"
    counted = _counts(comparison.of(scenario), column, comparison.is_framework(run)) if run else []
    if status != "ok":
        return _not_well(status, run, ended, [part for part in counted if part.level == "bad"])
    if not counted:
        return Glance(DASH, DASH, "none", "there is nothing of this here")
    # The sum of traits that are the same is no news where there is something else to say.
    told = [part for part in counted if part.symbol != VERDICTS["same"][0]] or counted
    return Glance(
        symbol=min(counted, key=lambda part: GRAVITY.index(part.level)).symbol,
        words=" ".join(_symbols(told)),
        level=min((part.level for part in counted), key=GRAVITY.index),
        spoken=", ".join(f"{part.number} {part.spoken}" for part in counted),
    )


class _Part(NamedTuple):
    """Rows that ended alike, counted."""

    symbol: str
    spoken: str
    level: Level
    number: int


def _not_well(status: Status, run: Run | None, ended: ScenarioResult | None, bad: list[_Part]) -> Glance:
    """A scenario that did not end well; what disagreed before its end is not lost."""
    symbol = STATUS_SYMBOLS.get(status, FAILED)
    error = (ended.error if ended else None) or (run.error if run else None)
    level: Level = "bad" if bad or status not in STATUS_SYMBOLS else "none"
    spoken = [f"{status}: {plain(error.message)}" if error else status]
    return Glance(
        symbol=symbol if not bad else bad[0].symbol,
        words=" ".join([f"{symbol} {status}", *_symbols(bad)]),
        level=level,
        spoken=", ".join(spoken + [f"{part.number} {part.spoken}" for part in bad]),
    )


def _symbols(parts: Iterable[_Part]) -> list[str]:
    """A number for each symbol; outcomes may share one."""
    numbers: Counter[str] = Counter()
    for part in parts:
        numbers[part.symbol] += part.number
    return [f"{symbol} {number}" for symbol, number in numbers.items()]


def _counts(rows: Iterable[Row], column: str, framework: bool) -> list[_Part]:
    """How many rows ended how on this column; invariants first, outcomes from good to bad."""
    numbers = Counter(kind for row in rows if (kind := _kind(row, column, framework)))
    parts = [_Part(*kind, number) for kind, number in numbers.items()]
    judged = [VERDICTS[verdict][0] for verdict in ("agree", "disagree", "unjudged")]
    order = [*judged, *(one.symbol for one in OUTCOMES.values() if one.symbol not in judged)]
    return sorted(parts, key=lambda part: order.index(part.symbol) if part.symbol in order else len(order))


def _kind(row: Row, column: str, framework: bool) -> tuple[str, str, Level] | None:
    """The symbol, the word and the level of a cell; None where it says nothing of this column."""
    if column in row.problems:
        return VERDICTS["disagree"][0], "disagree", "bad"
    if column not in row.values:
        return None
    match row.kind:
        case "invariant":
            if row.verdict == "unjudged":
                return VERDICTS["unjudged"][0], "with nothing to be held against", "differs"
            return VERDICTS["agree"][0], "agree", "good"
        case "trait":
            if not framework:
                return None
            same = row.verdict == "same"
            return VERDICTS[row.verdict][0], "the same" if same else "differ", "good" if same else "differs"
        case "outcome":
            outcome = Outcome.of(row.values[column])
            shown, word = mark(outcome.outcome), plain(outcome.outcome)
            # "1" and "2", of files whose first or last name wins, would read as numbers here.
            symbol = VERDICTS["agree"][0] if shown.good else shown.symbol
            but = ", but" if "but" in outcome.evidence else ""
            level: Level = "good" if shown.good and not but else "differs"
            return symbol, f"{CLAIMS.get(word, word)}{but}", level
        case "drawing":
            return VERDICTS["shown"][0], "to look at", "none"
