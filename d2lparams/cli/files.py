"""The commands that look at files of values: inspect."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from d2lparams.cli.console import Offline, errors, output
from d2lparams.columns import UsageError, unknown


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A .safetensors, .pt, .npz, .params, .weights.h5, .keras or .msgpack file."
        ),
    ],
    sort: Annotated[
        Literal["file", "name", "size", "dtype"],
        typer.Option("--sort", help="The order of the tensors: as in the file, by name, the largest first."),
    ] = "file",
    pattern: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", "-f", metavar="GLOB", help="Only tensors such as 'layers.*'; may be repeated."
        ),
    ] = None,
    values: Annotated[
        bool,
        typer.Option(" /--no-values", help="Do not read the values; then a file of any size takes no time."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on standard output.")] = False,
    offline: Offline = False,
) -> None:
    """Show what is in a file of values: names, shapes, shared storages, and what the values are like.

    Nothing in the file is run. A PyTorch file is read by PyTorch, whose environment is built the first time.
    """
    from d2lparams.checkpoints import BadFile, open_checkpoint
    from d2lparams.environments import InstallFailed
    from d2lparams.inspection import inspect as look_at

    def tell(line: str) -> None:  # only PyTorch's files need an environment
        errors.print(Text(f"torch: {line}"), soft_wrap=True)

    try:
        with open_checkpoint(file, offline=offline, progress=tell) as checkpoint:
            names = {one.name for one in checkpoint.tensors}
            with errors.status("") as status:

                def progress(done: int, total: int) -> None:
                    status.update(f"looking at values: {100 * done // max(total, 1)} %")

                found = look_at(
                    checkpoint, values=values, patterns=pattern or (), order=sort, progress=progress
                )
    except BadFile as error:
        raise UsageError(str(error)) from None
    except InstallFailed as error:
        errors.print(Text(f"torch: {error.failure.message}\n  log: {error.log}"), soft_wrap=True)
        raise typer.Exit(1) from None
    if pattern and not found.rows:
        raise UsageError(f"{file}: {unknown('tensor matches', ' or '.join(pattern), names)}")
    if as_json:
        import json

        json.dump(found.document(), sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    from d2lparams.reports.inspection import InspectionView

    output.print(InspectionView(found))
