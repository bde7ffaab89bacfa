"""The scripts of outcomes: programs in a framework alone that show what the table says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from d2lparams.reports.marks import mark, subject
from d2lparams.reports.matrix import telling
from d2lparams.reports.values import plain
from d2lparams.results import Outcome, Run


@dataclass(frozen=True)
class Way:
    """An outcome, and where it was seen."""

    column: str
    scenario: str
    name: str
    outcome: Outcome

    @property
    def script(self) -> str:
        """The program, with a final line break; or ""."""
        return f"{self.outcome.script.rstrip()}\n" if self.outcome.script.strip() else ""

    @property
    def heading(self) -> str:
        """A comment that tells one script from another, on one line."""
        words = f"{self.column}, {self.scenario}, {self.name}: {self.outcome.outcome}"
        return f"# {' '.join(plain(words).split())}\n"

    @property
    def file_name(self) -> str:
        """Made of column, scenario and way; letters, digits, dots, hyphens and underscores only."""
        words = f"{self.column}-{self.scenario}-{self.name}"
        return f"{re.sub(r'[^A-Za-z0-9._]+', '-', words).strip('-.')}.py"


def ways_of(run: Run) -> list[Way]:
    """All outcomes of a run, in order."""
    return [
        Way(run.name, result.name, seen.name, Outcome.of(seen.value))
        for result in run.scenarios
        for seen in result.observations
        if seen.kind == "outcome"
    ]


def in_one(ways: Iterable[Way]) -> str:
    """The scripts as one text; where there are several, each under its heading."""
    scripts = [way for way in ways if way.script]
    if len(scripts) < 2:
        return "".join(way.script for way in scripts)
    return "\n".join(way.heading + way.script for way in scripts)


def in_files(ways: Iterable[Way]) -> dict[str, str]:
    """The scripts by the names of their files, no two of which are the same, whatever the file system."""
    files: dict[str, str] = {}
    taken: set[str] = set()
    for way in ways:
        if way.script:
            stem, number = way.file_name.removesuffix(".py"), 1
            name = f"{stem}.py"
            while name.lower() in taken:
                number += 1
                name = f"{stem}-{number}.py"
            taken.add(name.lower())
            files[name] = way.script
    return files


def nothing_to_show(run: Run, ways: list[Way]) -> str:
    """Why there is no script, in one sentence, when none of these has one."""
    ran = ", ".join(result.name for result in run.scenarios)
    if not ways:
        return f"{run.title}: {ran}: no way is tried there, so there is nothing to reproduce"
    if len(ways) == 1:
        (way,) = ways
        why = telling(way.outcome)
        because = f" ({why})" if why and not mark(way.outcome.outcome).good else ""
        ended = f"{plain(way.name)}: {plain(way.outcome.outcome)}{because}"
        return f"{run.title}: {ran}: {ended}; there is no script for that"
    counts = Counter(way.outcome.outcome for way in ways)
    what = subject(next(iter(counts)))
    if len(counts) == 1:
        return (
            f"{run.title}: {ran}: all {len(ways)} {what}: {next(iter(counts))}; there is nothing to reproduce"
        )
    ended = ", ".join(f"{number} {plain(outcome)}" for outcome, number in counts.items())
    return f"{run.title}: {ran}: {len(ways)} {what}: {ended}; none has a script"
