"""The command that carries a model from one framework to another: transfer."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from d2lparams.cli.console import HEED, Offline, Timeout, errors, output, shown
from d2lparams.columns import UsageError, parse_column


def transfer(
    source: Annotated[str, typer.Option("--from", metavar="COLUMN", help="Where the values come from.")],
    target: Annotated[str, typer.Option("--to", metavar="COLUMN", help="Where they go.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="FILE.py:build, a function that takes the framework's name and returns the model; or an "
            "example: mlp, tied-mlp, lenet, lstm, language-model. Default: every example.",
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="THERE=HERE", help="Layer THERE takes the values of layer HERE; may be repeated."
        ),
    ] = None,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Keep the values of your model, as .safetensors, too."),
    ] = None,
    untie: Annotated[
        bool, typer.Option("--untie", help="One storage here may become two there; else that is an error.")
    ] = False,
    any_settings: Annotated[
        bool, typer.Option("--any-settings", help="Settings such as epsilon may differ; else that is an error.")
    ] = False,
    rtol: Annotated[
        float,
        typer.Option(
            "--rtol", min=0.0, help="How far results of your model may be apart, of the largest in an array."
        ),
    ] = 1e-5,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on standard output.")] = False,
    timeout: Timeout = 60.0,
    offline: Offline = False,
) -> None:
    """Carry a model's parameters from one framework to another and back, and prove that it computes the same.

    Values must be equal bit for bit and ties be kept; the output, gradients and a training step must agree.
    When outputs differ, the first layer where they part is named.
    """
    from d2lparams.reports.transfer import transfers_json, transfers_view
    from d2lparams.runner import Interrupted
    from d2lparams.transferring import transfer as carry

    here, there = parse_column(source), parse_column(target)
    columns = list(dict.fromkeys([here.name, there.name]))
    own = [one for one in model or [] if ":" in one or one.endswith(".py")]
    if not own and (pairs or save or untie or any_settings):
        raise UsageError(
            "--map, --save, --untie and --any-settings are for a model of your own, --model FILE.py:build"
        )
    try:
        with shown(columns, ["transfer"]) as progress:
            transfers, runs = carry(
                here,
                there,
                model or (),
                save=_target(save),
                mapping=_mapping(pairs or []),
                untie=untie,
                settings=not any_settings,
                rtol=rtol,
                timeout=timeout,
                offline=offline,
                on_event=progress,
                heed=HEED,
            )
    except Interrupted as interrupted:
        errors.print(Text("interrupted; nothing of the target was kept"))
        raise typer.Exit(128 + interrupted.signal_number) from None
    if as_json:
        sys.stdout.write(transfers_json(transfers, runs).decode())
    else:
        output.print(transfers_view(transfers, runs))
    if not all(one.ok for one in transfers):
        raise typer.Exit(1)
    if save is not None:
        errors.print(Text(f"wrote {save}"), soft_wrap=True)


def _mapping(pairs: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        there, sign, here = pair.partition("=")
        if not sign:
            raise UsageError(f"cannot read --map {pair!r}; write the target's layer, =, and the source's layer")
        if there in found:
            raise UsageError(f"--map gives {there!r} two layers, {found[there]!r} and {here!r}")
        found[there] = here
    return found


def _target(text: str | None) -> Path | None:
    """Where values are to be kept; checked before the work, not after it."""
    if text is None:
        return None
    path = Path(text)
    if path.suffix != ".safetensors":
        raise UsageError(f"cannot write {text}: name a file that ends in .safetensors")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {text}: its folder is not there, or cannot be written to")
    return path
