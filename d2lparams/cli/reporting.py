"""The command that shows results again: of one file, or of several machines or days as one report."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2lparams.cli.console import output
from d2lparams.cli.writing import Output, targets, write
from d2lparams.columns import UsageError

if TYPE_CHECKING:
    from d2lparams.comparison import Comparison

STANDARD_INPUT = "-"
LARGEST = 2**30
"""Bytes of a file that is read; results of everything that there is to run are some megabytes."""

MOST_COLUMNS, MOST_OBSERVATIONS = 200, 50_000
"""What is laid out; results of everything that there is to run are some thousands of observations."""


def report(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="What `compare --output FILE.json` wrote; - is standard input."),
    ],
    to: Output = None,
) -> None:
    """Show results again: from FILE.json, in any form; several files become one report with all their columns.

    Without --output they are shown as `compare` shows them.
    """
    from d2lparams.merging import merge
    from d2lparams.reports.terminal import ComparisonView

    places = targets(to or [])
    if files.count(STANDARD_INPUT) > 1:
        raise UsageError("cannot read standard input twice; name - once")
    try:
        found = [_read(file) for file in files]
        comparison = merge(dict(zip(_labels(files), found, strict=True)))
        written = write(comparison, places)
        if not places:
            # The command knows columns by the name that they had before they were told apart.
            names = {run.name: run.name.partition(" ")[0] for run in comparison.columns}
            output.print(ComparisonView(comparison, names))
    except RecursionError:
        raise UsageError(f"cannot show {', '.join(files)}: its values are nested too deep") from None
    if not (comparison.ok and written):
        raise typer.Exit(1)


def _labels(files: Iterable[str]) -> list[str]:
    """What tells the files apart for a reader: their names without the ending, or else as they were given."""
    names = list(files)
    stems = ["standard input" if name == STANDARD_INPUT else Path(name).stem for name in names]
    labels: list[str] = []
    for name, stem in zip(names, stems, strict=True):
        label = stem if stems.count(stem) == 1 else name
        labels.append(label if label not in labels else f"{label} {labels.count(label) + 1}")
    return labels


def _read(file: str) -> "Comparison":
    """A comparison from a file, which is not trusted.

    Raises:
        UsageError: when there is none in it.
    """
    import msgspec

    from d2lparams.reports.document import from_json

    name, content = ("standard input" if file == STANDARD_INPUT else file), _content(file)
    if not content.strip():
        raise UsageError(f"cannot read {name}: it is empty")
    try:
        comparison = from_json(content)
    except msgspec.ValidationError as error:
        raise UsageError(_no_comparison(name, content, error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {name}: it is not JSON: {error}") from None
    if not comparison.columns:
        raise UsageError(f"cannot show {name}: there is no column in it")
    cells = sum(len(one.observations) for run in comparison.columns for one in run.scenarios)
    if len(comparison.columns) > MOST_COLUMNS or cells > MOST_OBSERVATIONS:
        raise UsageError(
            f"cannot show {name}: it has {len(comparison.columns):,} columns with {cells:,} observations, "
            f"and nobody reads more than {MOST_COLUMNS:,} with {MOST_OBSERVATIONS:,}"
        )
    return comparison


def _content(file: str) -> bytes:
    """The bytes of a file or of standard input; no more than what is sensible."""
    size = 0
    try:
        if file == STANDARD_INPUT:
            content = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(file).open("rb") as source:
                # A file says how large it is before it is read; a pipe does not.
                size = os.fstat(source.fileno()).st_size
                content = source.read(LARGEST + 1) if size <= LARGEST else b""
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror or error}") from None
    if max(size, len(content)) > LARGEST:
        raise UsageError(f"cannot read {file}: it is larger than {LARGEST // 2**30} GiB")
    return content


def _no_comparison(name: str, content: bytes, error: Exception) -> str:
    """Why JSON is no comparison that can be read here."""
    import msgspec

    from d2lparams.results import SCHEMA_VERSION

    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError as broken:  # a mistake in the data came before one in the JSON
        return f"cannot read {name}: it is not JSON: {broken}"
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return f"cannot read {name}: it was written by a newer d2lparams; upgrade this one"
    return f"cannot read {name}: it is not what `compare --output` writes: {error}"
