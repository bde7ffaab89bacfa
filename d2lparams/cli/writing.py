"""Where a comparison is written: files, each in the form that its ending names, or standard output, as JSON.

All targets are checked before the work. Each is written whole or not at all, and one that cannot be written
does not keep the others from it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2lparams.cli.console import complain
from d2lparams.columns import UsageError

if TYPE_CHECKING:
    from d2lparams.comparison import Comparison

STANDARD_OUTPUT = Path("-")

FORMS = {".json": "everything", ".html": "a page", ".md": "Markdown", ".svg": "a picture"}
"""What can be written, by the ending of the file's name."""

Output = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write it as .json, .html, .md or .svg, a picture; - is JSON on standard output; may be repeated.",
    ),
]


def targets(texts: Iterable[str]) -> list[Path]:
    """Where the comparison is to be written; checked before the work, not after it.

    Raises:
        UsageError: for a place that cannot be written to, and an ending that says no form.
    """
    return list(dict.fromkeys(_target(text) for text in texts))


def write(comparison: Comparison, paths: Sequence[Path]) -> bool:
    """Write the comparison to each of the places. False when one of them failed, which is said."""
    written = [_write(comparison, path) for path in paths]
    return all(written)


def _target(text: str) -> Path:
    path = Path(text)
    if path == STANDARD_OUTPUT:
        return path
    if path.suffix not in FORMS:
        *others, last = (f"in {ending} for {what}" for ending, what in FORMS.items())
        raise UsageError(f"cannot write {text}: name a file that ends {', '.join(others)} or {last}")
    try:
        if not path.parent.is_dir():
            raise UsageError(f"cannot write {text}: there is no folder {path.parent}")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise UsageError(f"cannot write {text}: it is a folder, or its folder cannot be written to")
    except OSError as error:  # a name that is too long
        raise UsageError(f"cannot write {text}: {error.strerror or error}") from None
    return path


def _write(comparison: Comparison, target: Path) -> bool:
    """Write one document, whole or not at all. False when that failed, which is said."""
    if target == STANDARD_OUTPUT:
        sys.stdout.buffer.write(_document(comparison, ".json"))
        sys.stdout.flush()
        return True
    return write_whole(target, _document(comparison, target.suffix))


def write_whole(target: Path, content: bytes) -> bool:
    """Write a file whole, or leave what is there as it was. False when that failed, which is said."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        try:
            partial.write_bytes(content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)  # it is there when the disk is full, or a signal has come
    except OSError as error:
        complain(f"could not write {target}: {error}")
        return False
    return True


def _document(comparison: Comparison, ending: str) -> bytes:
    """The bytes of a form. What makes it is imported when it is asked for: some of it is large."""
    match ending:
        case ".html":
            from d2lparams.reports.page import to_html

            return to_html(comparison).encode()
        case ".md":
            from d2lparams.reports.markdown import to_markdown

            return to_markdown(comparison).encode()
        case ".svg":
            from d2lparams.reports.picture import to_svg

            return to_svg(comparison).encode()
        case _:
            from d2lparams.reports.document import to_json

            return to_json(comparison)
