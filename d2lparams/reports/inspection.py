"""What is in a file of values, for a terminal: a line or two for each tensor, then what they are together.

Where there is room, each tensor has one line. Where there is not, what its values are like stands below its
name. Symbols say what colours say, so that nothing is lost without colour.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from d2lparams.inspection import Inspection, Row
from d2lparams.reports.marks import DASH, text
from d2lparams.reports.values import plain
from d2lparams.statistics import BINS, Statistics

ONE_LINE = 130
"""The width from which on a tensor has one line."""

SHOWN_TIES, SHOWN_NOTES, LONGEST_NOTE = 20, 12, 60

_LEVELS = "▁▂▃▄▅▆▇█"


class InspectionView:
    """An inspection as something that rich prints; it takes the form that the width allows."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The tensors, then the summary."""
        rows, width = self._inspection.rows, options.max_width
        if rows and width >= ONE_LINE:
            yield _table(rows)
        else:
            for row in rows:
                yield from _block(row, width)
        if rows:
            yield Text()
        yield summary(self._inspection)


def summary(inspection: Inspection) -> RenderableType:
    """How many and how large, what is shared, what is no number, and what else is in the file."""
    shown = len(inspection.rows)
    of = f" of {inspection.listed}" if shown != inspection.listed else ""
    once = ", each storage counted once" if inspection.ties else ""
    counts = f"{shown}{of} tensor{'s' * (inspection.listed != 1)}, {inspection.values:,} values, "
    lines: list[RenderableType] = [
        Rule(
            Text.assemble((plain(inspection.path), "bold"), f"  {inspection.format}"), align="left", style="dim"
        ),
        Text(f"{counts}{size(inspection.nbytes)}{once}"),
    ]
    if inspection.remark:
        lines.append(text(f"! {inspection.remark}", "yellow"))
    for number, names in enumerate(inspection.ties[:SHOWN_TIES], 1):
        lines.append(Text.assemble((f"={number}", "cyan"), " one storage: ", plain(", ".join(names))))
    if len(inspection.ties) > SHOWN_TIES:
        lines.append(Text(f"… and {len(inspection.ties) - SHOWN_TIES} more shared storages"))
    alarms = inspection.alarms
    if alarms:
        nans, infinities = (
            sum(getattr(row.statistics, what) for row in alarms) for what in ("nans", "infinities")
        )
        many = f"{len(alarms)} tensors" if len(alarms) > 1 else "1 tensor"
        lines.append(Text(f"✗ {many} with values that are no numbers: {_alarm(nans, infinities)}", "bold red"))
    for key, value in list(inspection.metadata.items())[:SHOWN_NOTES]:
        short = plain(value) if len(value) <= LONGEST_NOTE else f"{plain(value[:LONGEST_NOTE])}…"
        lines.append(Text(f"note {plain(key)}: {short}", "dim"))
    if len(inspection.metadata) > SHOWN_NOTES:
        lines.append(Text(f"… and {len(inspection.metadata) - SHOWN_NOTES} more notes; --json has all", "dim"))
    return Group(*lines)


def size(nbytes: int) -> str:
    """Bytes as people write them."""
    amount, units = float(nbytes), ["KiB", "MiB", "GiB", "TiB"]
    if nbytes < 1024:
        return f"{nbytes} B"
    unit = ""
    while amount >= 1024 and units:
        amount, unit = amount / 1024, units.pop(0)
    return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"


def sparkline(histogram: tuple[int, ...]) -> str:
    """A histogram as a line of blocks: nothing is a space, and anything at all can be seen."""
    most = max(histogram, default=0)
    if not most:
        return ""
    return "".join(_LEVELS[count * (len(_LEVELS) - 1) // most] if count else " " for count in histogram)


def _table(rows: tuple[Row, ...]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", width=max(len(_mark(row)) for row in rows), no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column("shape", overflow="fold")
    table.add_column("dtype", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    measured = any(row.statistics for row in rows)
    for heading in ("min", "max", "mean", "std") if measured else ():
        table.add_column(heading, justify="right", no_wrap=True)
    if measured:
        table.add_column("distribution", width=BINS, no_wrap=True)
    for row in rows:
        name = text(row.name, "bold")
        if row.statistics and row.statistics.finite < row.statistics.count:
            name.append(f"\n✗ {_alarm(row.statistics.nans, row.statistics.infinities)}", "bold red")
        cells = [Text(_mark(row), "cyan"), name, Text(str(row.shape)), Text(row.dtype), Text(size(row.nbytes))]
        if measured:
            numbers = _numbers(row.statistics)
            cells += [Text(numbers.get(one, DASH)) for one in ("min", "max", "mean", "std")]
            cells.append(Text(sparkline(row.statistics.histogram) if row.statistics else "", "green"))
        table.add_row(*cells)
    return table


def _block(row: Row, width: int) -> Iterator[RenderableType]:
    """A tensor in a narrow terminal: what it is, and below it what its values are like."""
    name = Text.assemble((plain(row.name), "bold"), (f" {_mark(row)}" if row.group else "", "cyan"))
    about = f"{row.shape} {row.dtype} {size(row.nbytes)}"
    room = width - cell_len(name.plain) - cell_len(about)
    if room > 0:
        yield name.append(" " * room).append(about)
    else:
        yield name
        yield Text(about.rjust(width) if cell_len(about) <= width else about)
    if row.statistics is None:
        return
    numbers = _numbers(row.statistics)
    line = Text("  ")
    if numbers:
        line.append(f"{numbers['min']} to {numbers['max']}, mean {numbers['mean']}, std {numbers['std']}  ")
        line.append(sparkline(row.statistics.histogram), "green")
    else:
        line.append("empty" if not row.statistics.count else "no finite number", "dim")
    yield line
    if row.statistics.finite < row.statistics.count:
        yield Text(f"  ✗ {_alarm(row.statistics.nans, row.statistics.infinities)}", "bold red")


def _numbers(statistics: Statistics | None) -> dict[str, str]:
    if statistics is None or statistics.least is None:
        return {}
    named = {
        "min": statistics.least,
        "max": statistics.greatest,
        "mean": statistics.mean,
        "std": statistics.std,
    }
    return {name: f"{value:.4g}" for name, value in named.items() if value is not None}


def _mark(row: Row) -> str:
    return f"={row.group}" if row.group else ""


def _alarm(nans: int, infinities: int) -> str:
    parts = [f"{nans:,} NaN"] * bool(nans) + [f"{infinities:,} infinite"] * bool(infinities)
    return " and ".join(parts)
