"""What stands behind `%%compare`, `%%tab` and `%tab`: read, checked, and refused in one sentence."""

from __future__ import annotations

import argparse
import math
import shlex
from dataclasses import dataclass
from typing import NoReturn

from packaging.requirements import InvalidRequirement, Requirement

from d2lparams.columns import Column, UsageError, adapters, parse_column, parse_columns

ALL = "all"
"""In place of columns: every framework."""


@dataclass(frozen=True)
class CompareOptions:
    """Of `%%compare`.

    Attributes:
        columns: what the cell runs on, the reference first.
        timeout: seconds that the cell may take on one column.
        offline: build no environment from anything but what is on this machine.
        name: of the variable that holds the comparison afterwards, too.
        title: of the cell; its number when there is none.
        quiet: show no progress.
    """

    columns: tuple[Column, ...]
    timeout: float = 60.0
    offline: bool = False
    name: str | None = None
    title: str | None = None
    quiet: bool = False


@dataclass(frozen=True)
class TabOptions:
    """Of `%%tab`.

    Attributes:
        columns: whose processes run the code.
        requirements: what their environments have beside the framework.
        offline: as above.
        quiet: as above.
    """

    columns: tuple[Column, ...]
    requirements: tuple[str, ...] = ()
    offline: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class TabOrders:
    """Of `%tab`: what is to happen to which processes; to none, they are listed.

    Attributes:
        action: what to do.
        columns: with which; nothing means all that there are.
    """

    action: str
    columns: tuple[Column, ...] = ()


def compare_options(line: str) -> CompareOptions:
    """Read the line of a `%%compare`.

    Raises:
        UsageError: when it asks for what is not there, or cannot be read.
    """
    parser = _Parser("%%compare")
    parser.add_argument("columns", nargs="*", metavar="COLUMN")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--name", metavar="VARIABLE")
    parser.add_argument("--title", metavar="TEXT")
    parser.add_argument("--quiet", action="store_true")
    found = parser.read(line)
    if not 0 < found.timeout < math.inf:
        raise UsageError(f"--timeout takes a number of seconds above 0; got {found.timeout:g}")
    if found.name is not None and not found.name.isidentifier():
        raise UsageError(f"--name takes the name of a variable; got {found.name!r}")
    names = [] if found.columns == [ALL] else found.columns
    return CompareOptions(
        tuple(parse_columns(names)), found.timeout, found.offline, found.name, found.title, found.quiet
    )


def tab_options(line: str) -> TabOptions:
    """Read the line of a `%%tab`.

    Raises:
        UsageError: as `compare_options`; also when it names no column.
    """
    parser = _Parser("%%tab")
    parser.add_argument("columns", nargs="*", metavar="COLUMN")
    parser.add_argument("--with", action="append", default=[], metavar="PACKAGE", dest="requirements")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    found = parser.read(line)
    if not found.columns:
        raise UsageError(f"%%tab needs a column: {', '.join(one.name for one in _frameworks())}, or {ALL}")
    requirements = tuple(dict.fromkeys(map(_requirement, found.requirements)))
    return TabOptions(_columns(found.columns), requirements, found.offline, found.quiet)


def tab_orders(line: str) -> TabOrders:
    """Read the line of a `%tab`.

    Raises:
        UsageError: as `compare_options`.
    """
    parser = _Parser("%tab")
    action = parser.add_mutually_exclusive_group()
    for name in ("restart", "stop"):
        action.add_argument(f"--{name}", nargs="*", metavar="COLUMN")
    found = parser.read(line)
    for name in ("restart", "stop"):
        columns = getattr(found, name)
        if columns is not None:
            return TabOrders(name, _columns(columns) if columns not in ([], [ALL]) else ())
    return TabOrders("list")


class _Parser(argparse.ArgumentParser):
    """One whose complaints are ours to show."""

    def __init__(self, magic: str) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self._magic = magic

    def read(self, line: str) -> argparse.Namespace:
        try:
            return self.parse_intermixed_args(shlex.split(line))
        except ValueError as error:  # a quotation mark without its twin
            raise UsageError(f"{self._magic} cannot be read: {error}") from None

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self._magic}: {message}; `{self._magic}?` shows what there is")


def _columns(names: list[str]) -> tuple[Column, ...]:
    """Those that are named, each once, in the order in which they are named."""
    found = [column for name in names for column in (_frameworks() if name == ALL else [parse_column(name)])]
    return tuple({column.name: column for column in found}.values())


def _frameworks() -> list[Column]:
    return [Column(name, adapter) for name, adapter in adapters().items() if not adapter.reference]


def _requirement(text: str) -> str:
    try:
        return str(Requirement(text))
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]  # below it stands where, as a drawing
        raise UsageError(f"--with takes a package, such as 'matplotlib>=3.9'; got {text!r}: {reason}") from None
