"""Transfers for a terminal and as JSON: what was carried where, and whether it is the same there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from d2lparams.reports.marks import VERDICTS, text
from d2lparams.reports.terminal import versions
from d2lparams.results import Run
from d2lparams.transfer_results import Transfer

NAMES = {"back": "back again"}
SAYS = {
    ("values", "equal"): "equal, bit for bit",
    ("back", "equal"): "equal, bit for bit",
    ("ties", ""): "none on either side",
}


def transfers_view(transfers: Sequence[Transfer], runs: Sequence[Run]) -> RenderableType:
    """Every transfer as a block of lines, and a line that counts them."""
    titles = {run.name: run for run in runs}
    blocks: list[RenderableType] = []
    for one in transfers:
        source, target = (titles[name] for name in (one.source, one.target))
        heading = Text.assemble(
            (f"{source.title} → {target.title}", "bold"),
            "  ",
            text(one.model, "bold cyan"),
            ("  " + one.title, "dim"),
        )
        blocks += [Rule(heading, align="left", style="dim"), *_lines(one), Text()]
    said = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for run in runs:
        said.add_row(
            text(run.name, "bold"), text(versions(run) or "never started"), Text(f"{run.seconds:.1f} s", "dim")
        )
    whole = sum(one.ok for one in transfers)
    count = Text(
        f"{whole} of {len(transfers)} the same on both sides",
        "green" if whole == len(transfers) else "bold red",
    )
    logs = [text(f"log: {run.log}", "dim") for run in runs if run.log and whole < len(transfers)]
    return Group(*blocks, said, count, *logs)


def transfers_json(transfers: Sequence[Transfer], runs: Sequence[Run]) -> bytes:
    """The same as JSON: an object with "transfers" and, by column, the versions."""
    found: dict[str, Any] = {
        "transfers": [{**msgspec.to_builtins(one), "ok": one.ok} for one in transfers],
        "columns": {run.name: {"versions": run.versions, "python": run.python} for run in runs},
    }
    return msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n"


def _lines(one: Transfer) -> Iterable[RenderableType]:
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(width=1)
    table.add_column(width=13)
    table.add_column(overflow="fold")
    if one.layers:
        taken = [
            f"{mine or 'the model'} ← {theirs or 'the model'}  {kind}" for mine, theirs, kind in one.layers
        ]
        table.add_row("", Text("layers"), text("\n".join(taken), "dim"))
    for check in one.checks:
        said = (
            "\n".join(" = ".join(group) for group in check.said)
            if isinstance(check.said, list)
            else str(check.said)
        )
        said = SAYS.get((check.name, said), said) if check.same else said or "none on this side"
        mark = Text(*VERDICTS["agree" if check.same else "disagree"])
        name = Text(NAMES.get(check.name, check.name))
        table.add_row(mark, name, text(said, "" if check.same else "bold red"))
    if one.problem:
        table.add_row(Text("✗", "bold red"), Text(one.status, "bold red"), text(one.problem, "bold red"))
    yield table
