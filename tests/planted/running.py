"""Runs of the real command in which planted errors are columns beside the true adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2lparams.columns import adapters, parse_column, reference
from d2lparams.comparison import Comparison
from d2lparams.environments import ensure, location
from d2lparams.reports.document import from_json
from tests.planted.catalog import Planted

PATIENCE = 3600  # seconds, for environments that have to be built


@dataclass(frozen=True)
class Ran:
    """A run: how the command ended, what it saw, and what it printed."""

    code: int
    comparison: Comparison
    said: str


def run_beside(command: Callable[..., Any], backend: str, errors: Sequence[Planted], folder: Path) -> Ran:
    """Run the errors of one backend as columns, on the scenarios that must flag one of them."""
    files = [folder / f"{one.column}.py" for one in errors]
    for one, file in zip(errors, files):
        file.write_text(one.file, encoding="utf-8")
    _lend_environments(folder / "cache", backend, files)
    asked = [text for name in sorted({one.scenario for one in errors}) for text in ("-s", name)]
    target = folder / "x.json"
    process = command(
        *("compare", backend, *files, *asked, "-o", target, "--timeout", PATIENCE),
        environ={"D2LPARAMS_CACHE": str(folder / "cache")},
        seconds=PATIENCE,
    )
    assert target.exists(), process.stderr
    return Ran(process.returncode, from_json(target.read_bytes()), process.stdout + process.stderr)


def _lend_environments(cache: Path, backend: str, files: Sequence[Path]) -> None:
    """A cache in which the errors' columns have the true adapter's environment; they declare the same one."""
    own = {column.name: column for column in map(parse_column, [reference().name, backend])}
    ready = {name: ensure(column, progress=print) for name, column in own.items()}
    (cache / "envs").mkdir(parents=True)
    columns = [(one, ready[name]) for name, one in own.items()]
    columns += [(parse_column(str(file)), ready[backend]) for file in files]
    for column, environment in columns:
        assert column.adapter.dependencies == adapters()[environment.column].dependencies
        (cache / "envs" / location(column).name).symlink_to(environment.path)
