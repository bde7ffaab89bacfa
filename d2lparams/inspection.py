"""What is in a file of values, tensor by tensor, as data: for a table, for JSON, for a notebook.

Tensors that are one storage are measured once, and their bytes count once. Nothing is read here but the values
of the checkpoint that is given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from d2lparams.results import jsonable
from d2lparams.statistics import Statistics, measure
from d2lparams.tensor_file import is_readable

if TYPE_CHECKING:
    from d2lparams.checkpoints import Checkpoint

SCHEMA_VERSION = 1

Order = Literal["file", "name", "size", "dtype"]
ORDERS: Sequence[Order] = ("file", "name", "size", "dtype")
"""How tensors can be sorted: as in the file, by name, the largest first, by dtype."""


@dataclass(frozen=True)
class Row:
    """One tensor.

    Attributes:
        name: in the file.
        shape: in the file's orientation.
        dtype: such as "float32".
        nbytes: of its numbers.
        group: of those that are one storage, counted from 1; None when it is nobody else's.
        statistics: of its values; None when they were not asked for, or are of a dtype without an order.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    group: int | None
    statistics: Statistics | None

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Inspection:
    """What is in a file.

    Attributes:
        path: of the file.
        format: its name.
        remark: a sentence on what is odd about it, or "".
        rows: the tensors that were asked for, in the order that was asked for.
        listed: how many tensors are in the file.
        values: how many values those that were asked for have, each storage counted once.
        nbytes: how many bytes.
        ties: the groups of names that are one storage; of all tensors.
        metadata: what else is in the file, as text.
    """

    path: str
    format: str
    remark: str
    rows: tuple[Row, ...]
    listed: int
    values: int
    nbytes: int
    ties: tuple[tuple[str, ...], ...]
    metadata: dict[str, str]

    @property
    def alarms(self) -> list[Row]:
        """The tensors with values that are infinite or no number."""
        return [row for row in self.rows if row.statistics and row.statistics.finite < row.statistics.count]

    def document(self) -> dict[str, Any]:
        """It as JSON data; a number that JSON has no word for is one of the strings of `results`."""
        found = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        found["rows"] = [{**asdict(row), "size": row.size} for row in self.rows]
        document: dict[str, Any] = jsonable({"tensors" if key == "rows" else key: found[key] for key in found})
        return document


def inspect(
    checkpoint: Checkpoint,
    *,
    values: bool = True,
    patterns: Collection[str] = (),
    order: Order = "file",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Look at the tensors of an open checkpoint.

    Args:
        checkpoint: what to look at.
        values: whether to read and measure them; without, nothing but the file's description is read.
        patterns: such as "layers.*"; with any, only tensors whose name one of them matches.
        order: of the rows.
        progress: is told how many bytes of how many have been measured.

    Raises:
        BadFile: when values cannot be read because the file is damaged.
    """
    chosen = [one for one in checkpoint.tensors if _matches(one.name, patterns)]
    ties = checkpoint.ties()
    groups = {name: number for number, names in enumerate(ties, 1) for name in names}
    once = {one.storage: one for one in chosen}
    total, done = sum(one.nbytes for one in once.values()), 0
    measured: dict[Any, Statistics | None] = {}
    for storage, tensor in once.items() if values else ():
        measured[storage] = measure(tensor.read()) if is_readable(tensor.dtype) else None
        done += tensor.nbytes
        progress(done, total)
    rows = [
        Row(one.name, one.shape, one.dtype, one.nbytes, groups.get(one.name), measured.get(one.storage))
        for one in chosen
    ]
    return Inspection(
        path=str(checkpoint.path),
        format=checkpoint.format,
        remark=checkpoint.remark,
        rows=tuple(_sorted(rows, order)),
        listed=len(checkpoint.tensors),
        values=sum(math.prod(one.shape) for one in once.values()),
        nbytes=total,
        ties=tuple(ties),
        metadata=checkpoint.metadata,
    )


def _matches(name: str, patterns: Iterable[str]) -> bool:
    patterns = list(patterns)
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _sorted(rows: list[Row], order: Order) -> list[Row]:
    if order == "name":
        return sorted(rows, key=lambda row: _natural(row.name))
    if order == "size":
        return sorted(rows, key=lambda row: -row.nbytes)
    if order == "dtype":
        return sorted(rows, key=lambda row: row.dtype)
    return rows


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which layer 10 comes behind layer 9."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part.isdecimal() and len(part) < 100 else (-1, part) for part in parts]
