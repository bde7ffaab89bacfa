"""All figures of a run of benchmarks in one table: what was promised, what was found, and what was missed.

The file is what the benchmarks wrote with `--json`.

    python benchmarks/summary.py FILE.json [--markdown FILE.md]
"""

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from measuring import Figure, read
from rich.console import Console
from rich.table import Table

Answers = Mapping[str, tuple[Mapping[str, Any], list[Figure]]]


def promised(answers: Answers) -> Iterator[tuple[str, Figure]]:
    """The figures that something is promised of, each with its question."""
    for question, (_, figures) in answers.items():
        for figure in figures:
            if figure.target is not None:
                yield question, figure


def score(answers: Answers) -> str:
    """How many promises are kept, in words."""
    kept = [figure.met for _, figure in promised(answers)]
    return f"{sum(kept)} of {len(kept)} figures are within what is promised"


def machines(answers: Answers) -> list[str]:
    """What the figures were taken on, once where it is the same for all."""
    told = [
        f"{one['processor']}, {one['cores']} cores, {one['system']}, Python {one['python']}"
        for one, _ in answers.values()
    ]
    return list(dict.fromkeys(told))


def to_markdown(answers: Answers) -> str:
    """The same table for a page."""
    lines = ["| question | of what | figure | promised |", "| --- | --- | --- | --- |"]
    for question, figure in promised(answers):
        lines.append(f"| {question} | {figure.what} | {figure} | {figure.promised} |")
    return "\n".join([*lines, "", f"{score(answers)}. {'; '.join(machines(answers))}.", ""])


def main(file: Path, markdown: Path | None) -> None:
    """Print the table, and what is missed once more below it."""
    answers = read(file)
    console = Console()
    table = Table("question", "of what", "figure (spread)", "promised", title="all that is promised")
    for question, figure in promised(answers):
        table.add_row(question, figure.what, str(figure), figure.promised, style="" if figure.met else "bold")
    console.print(table)
    console.print(score(answers), style="bold")
    for one in machines(answers):
        console.print(one, style="dim")
    if markdown is not None:
        markdown.write_text(to_markdown(answers), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "140")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="what the benchmarks wrote")
    parser.add_argument("--markdown", type=Path, help="a file for the same table")
    given = parser.parse_args()
    main(given.file, given.markdown)
