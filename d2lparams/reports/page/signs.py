"""Verdicts, statuses and outcomes as a page shows them: a symbol, a word and the name of a colour.

Symbols and colours are those of the terminal; the stylesheet says how a colour looks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from d2lparams.comparison import Verdict
from d2lparams.reports.glance import FAILED, STATUS_SYMBOLS
from d2lparams.reports.marks import CLAIMS, DASH, STATUS_STYLES, VERDICTS, mark
from d2lparams.results import Status


@dataclass(frozen=True)
class Sign:
    """A symbol with its word and the name of its colour."""

    symbol: str
    word: str
    colour: str

    def times(self, number: int) -> Sign:
        """The same, said of so many."""
        return replace(self, word=f"{number} {self.several.word}")

    @property
    def several(self) -> Sign:
        """The same with the word for more than one."""
        return replace(self, word=CLAIMS.get(self.word, self.word))


def of_verdict(verdict: Verdict) -> Sign:
    """What a row says."""
    symbol, style = VERDICTS[verdict]
    return Sign(symbol, "drawn" if verdict == "shown" else verdict, _colour(style))


def of_outcome(word: str, *, but: bool = False) -> Sign:
    """How a way ended, and whether there is a but."""
    shown = mark(word)
    return Sign(shown.symbol, f"{word}, but" if but else word, _colour(shown.style))


def of_status(status: Status) -> Sign:
    """How a scenario or a run ended."""
    symbol = VERDICTS["agree"][0] if status == "ok" else STATUS_SYMBOLS.get(status, FAILED)
    return Sign(symbol, status, _colour(STATUS_STYLES.get(status, "bold red")))


def of_nothing(why: str) -> Sign:
    """A cell for which there is nothing to run."""
    return Sign(DASH, why, "dim")


def _colour(style: str) -> str:
    """The name of the colour in one of rich's styles."""
    named = [word for word in style.split() if word != "bold"]
    return named[-1] if named else "plain"
