"""The symbols and colours of verdicts, statuses and outcomes. Symbols say what colours say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.text import Text

from d2lparams.comparison import Absence
from d2lparams.reports.values import plain
from d2lparams.results import Run, Status
from d2lparams.variation import Variation

VERDICTS = {
    "agree": ("✓", "green"),
    "disagree": ("✗", "bold red"),
    "unjudged": ("?", "yellow"),
    "same": ("=", "dim"),
    "differ": ("≠", "yellow"),
    "shown": ("▦", "dim"),
}
STATUS_STYLES: dict[Status, str] = {"ok": "green", "unsupported": "yellow", "not-run": "dim"}


class Mark(NamedTuple):
    """How an outcome is shown.

    Attributes:
        symbol: one character.
        style: rich's.
        meaning: for the legend; "" where the word says it all.
        good: whether it needs no further words.
    """

    symbol: str
    style: str
    meaning: str = ""
    good: bool = False


# What happens in silence stands out more than what is refused.
OUTCOMES = {
    "kept": Mark("✓", "green", "tied as before", good=True),
    "broken": Mark("≠", "bold yellow", "silently no longer tied"),
    "changed": Mark("~", "bold magenta", "silently another output"),
    "corrupted": Mark("!", "bold red", "the original was damaged"),
    "refused": Mark("×", "cyan", "an error was raised"),  # noqa: RUF001  (a sign, no letter)
    "loaded": Mark("✓", "green", good=True),
    "both filled": Mark("✓", "green", good=True),
    "both, tied": Mark("✓", "green", good=True),
    "first wins": Mark("1", "yellow", good=True),
    "last wins": Mark("2", "yellow", good=True),
    "half empty": Mark("½", "bold yellow"),
    "silent": Mark("≠", "bold yellow", "loaded without a word, though it does not fit"),
    "keeps its own": Mark("≠", "bold yellow", "nothing was loaded, without a word"),
    "error": Mark("×", "cyan", "the file was refused", good=True),  # noqa: RUF001
    "holds": Mark("✓", "green", good=True),
    "no longer holds": Mark("≠", "bold yellow"),
}
CLAIMS = {"holds": "hold", "no longer holds": "no longer hold"}
"""The outcomes of claims, and how several are counted."""

FILES = {
    *("loaded", "both filled", "both, tied", "first wins", "last wins"),
    *("half empty", "silent", "keeps its own", "error"),
}
"""The outcomes of files; all outcomes of neither are those of ways."""


def subject(outcome: str) -> str:
    """What ends so: "ways", "files" or "claims"."""
    return "claims" if outcome in CLAIMS else "files" if outcome in FILES else "ways"


DASH = "–"  # noqa: RUF001
"""What stands in a cell for which there is nothing to run."""


def mark(outcome: str) -> Mark:
    """How an outcome is shown; one that nobody has foreseen has a symbol, too."""
    return OUTCOMES.get(outcome, Mark("·", "bold"))


def absence(reason: Absence) -> Text:
    """What stands in a cell that has no value."""
    if reason == "not-applicable":
        return Text(DASH, "dim")
    return Text(reason, STATUS_STYLES.get(reason, "bold red"))


def variations(runs: Sequence[Run]) -> list[str]:
    """Which numbers and models scenarios used, in a line for each way; nothing, where they were the usual."""
    ways: dict[Variation, list[str]] = {}
    for run in runs:
        ways.setdefault(run.variation, []).append(run.name)
    if len(ways) == 1:
        return [f"scenarios used: {way}" for way in ways if str(way)]
    return [f"scenarios of {', '.join(names)} used: {way}" for way, names in ways.items() if str(way)]


def text(content: str, style: str = "") -> Text:
    """Text from elsewhere: no markup in it counts, and no control character gets through."""
    return Text(plain(content), style)
