"""The command that shows how frameworks keep the arrays of each kind of layer: conventions."""

from importlib import import_module
from typing import Annotated

import typer
from rich.text import Text

from d2lparams.cli.console import listing, output
from d2lparams.columns import UsageError, parse_column, unknown


def conventions(
    backends: Annotated[
        list[str] | None, typer.Argument(metavar="[BACKEND]...", help="Default: the four frameworks.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", "-k", metavar="KIND", help="Only this kind, such as lstm; may be repeated."),
    ] = None,
) -> None:
    """Show how each kind of layer keeps its arrays: names, axes, the order of gates, one bias or two.

    "(gate units) in" is an axis of all gates' units, the first gate's first, and an axis of inputs.
    """
    from d2lparams.conventions import CANONICAL, GATES, table

    for one in kind or ():
        if one not in CANONICAL:
            raise UsageError(unknown("kind of layer", one, CANONICAL))
    names = [parse_column(one).adapter.name for one in backends or ("torch", "mxnet", "jax", "tensorflow")]
    tables = {name: table(import_module(f"backends.conventions.{name}").CONVENTIONS) for name in names}
    shown = listing("kind", "holds", "backend", "its array", "its axes", "gates")
    for of in kind or CANONICAL:
        gates = " ".join(GATES.get(of, ""))  # type: ignore[call-overload]
        for place, (name, axes) in enumerate(CANONICAL[of].items()):  # type: ignore[index]
            first = Text("" if place else of, "bold")
            shown.add_row(first, Text(name, "bold"), Text("canonical", "bold"), name, axes, gates)
        for name in names:
            for row in (one for one in tables[name] if one["kind"] == of):
                shown.add_row(
                    "", row["canonical"], Text(name, "cyan"), row["native"], row["native axes"], row["gates"]
                )
    output.print(shown)
