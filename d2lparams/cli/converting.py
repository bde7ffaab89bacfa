"""The command that writes one framework's checkpoint as another's: convert."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from d2lparams.cli.console import Offline, errors, output
from d2lparams.columns import UsageError, parse_column

ENDINGS = {
    "torch": (".pt", ".pth", ".bin", ".safetensors", ".npz"),
    "mxnet": (".params", ".safetensors", ".npz"),
    "jax": (".msgpack", ".flax", ".safetensors", ".npz"),
    "tensorflow": (".weights.h5", ".npz"),
}
"""What a framework's values are kept in."""


def convert(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A checkpoint of any format that `inspect` reads.")
    ],
    to: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The new file; its ending names the format."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="BACKEND", help="Who wrote it, where the format does not tell."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--to", metavar="BACKEND", help="Who will read it. Default: nobody, the neutral form."),
    ] = None,
    architecture: Annotated[
        Path | None,
        typer.Option("--architecture", "-a", metavar="FILE", help="Says what the file does not; see --draft."),
    ] = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="Print an architecture file to begin with, and write nothing.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", metavar="DTYPE", help="Round to float16, float32 or float64 on the way."),
    ] = None,
    offline: Offline = False,
) -> None:
    """Write a checkpoint of one framework as a checkpoint of another, in its names and its orientation.

    Kinds of layers are taken from names and shapes where these leave no doubt; where they do, an architecture
    file says what is what. Without --to, a .safetensors file holds the neutral form, which keeps ties.
    """
    from d2lparams.architecture import BadArchitecture, read_architecture
    from d2lparams.architecture import draft as drafted
    from d2lparams.checkpoints import BadFile, open_checkpoint, write_checkpoint
    from d2lparams.conversion import (
        FRAMEWORKS,
        ConversionError,
        Doubtful,
        from_parameters,
        layers_of,
        names_of,
        perhaps_flattened,
        to_parameters,
    )
    from d2lparams.environments import InstallFailed
    from d2lparams.errands import ErrandFailed
    from d2lparams.parameter_set import METADATA, ParameterSet

    def tell(line: str) -> None:  # only PyTorch's files need an environment
        errors.print(Text(f"torch: {line}"), soft_wrap=True)

    if not draft:
        _check_target(to, target)
    if dtype not in (None, "float16", "float32", "float64"):
        raise UsageError(f"--dtype must be float16, float32 or float64; got {dtype!r}")
    flattened: dict[str, int | None] = {}
    try:
        said = read_architecture(architecture) if architecture else None
        with open_checkpoint(file, offline=offline, progress=tell) as checkpoint:
            ours = '"layers"' in checkpoint.metadata.get(METADATA, "") and source is None
            if ours:
                parameters = ParameterSet.open(file)
            else:
                writer = parse_column(source).adapter.name if source else FRAMEWORKS.get(checkpoint.format)
                if writer is None:
                    raise UsageError(f"{file}: a {checkpoint.format} file may be anybody's; say --from BACKEND")
                if draft:
                    layers = layers_of(checkpoint, names_of(writer))
                    text = drafted(layers, file.name, perhaps_flattened(checkpoint, layers))
                    print(text, end="")  # noqa: T201  (a file, whatever the width)
                    return
                parameters, flattened = to_parameters(checkpoint, writer, said)
            if draft:
                raise UsageError(f"{file}: this file knows its layers; there is nothing to settle")
            if dtype is not None:
                parameters = parameters.astype(dtype)
            assert to is not None
            if target is None:
                parameters.save(to)
                notes = []
            else:
                converted = from_parameters(parameters, parse_column(target).adapter.name, said, flattened)
                notes = converted.notes
                write_checkpoint(to, converted.arrays, ties=converted.ties, offline=offline, progress=tell)
    except Doubtful as doubt:
        hint = f"`d2lparams convert {file} --draft > architecture.toml` makes a file to settle it, for -a"
        raise UsageError(f"{doubt}\n{hint}") from None
    except (BadFile, BadArchitecture, ConversionError) as error:
        raise UsageError(str(error)) from None
    except (InstallFailed, ErrandFailed) as error:
        errors.print(Text(f"torch: {error}"), soft_wrap=True)
        raise typer.Exit(1) from None
    for note in notes:
        errors.print(Text(f"note: {note}"), soft_wrap=True)
    kinds = ", ".join(f"{layer.path or 'the model'} {layer.kind}" for layer in parameters.layers)
    output.print(Text(f"wrote {to}: {len(parameters.layers)} layers ({kinds})"), soft_wrap=True)


def _check_target(to: Path | None, target: str | None) -> None:
    """Where the new file is to be written; checked before the work, not after it."""
    if to is None:
        raise UsageError("say where the new file is to be written, with -o FILE")
    known = ENDINGS[parse_column(target).adapter.name] if target and _has_files(target) else (".safetensors",)
    if target and not _has_files(target):
        raise UsageError(f"there are no files of {target!r}; --to is one of {', '.join(ENDINGS)}")
    if not any(to.name.endswith(ending) for ending in known):
        whose = f"files of {target}" if target else "files in the neutral form"
        raise UsageError(f"cannot write {to}: {whose} end in {', '.join(known)}")
    if not to.parent.is_dir() or to.is_dir():
        raise UsageError(f"cannot write {to}: there is no folder {to.parent}, or it is a folder itself")


def _has_files(target: str) -> bool:
    return parse_column(target).adapter.name in ENDINGS
