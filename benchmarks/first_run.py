"""How long do the environments of all frameworks take to build at once, against the slowest of them alone?

What is measured is a first run where the network is not the limit: uv's own cache is warm, and this program's
cache is empty. Each framework alone and all at once are built in turn, in one run, without the network, into
caches of their own that are removed again; the figure is the median of the ratios of the rounds, and 1.15 is
what is promised. On a machine with fewer cores than frameworks no order of the same work can keep that when it
is bound by processors: so all of them alone, divided by the cores, is shown beside it.

Also shown: how much of what was built is a hard link into uv's cache, that is neither downloaded nor stored
twice, and how many bytes are the environments' own, which is their bytecode nearly.

    python benchmarks/first_run.py [--rounds 3] [--json FILE]
"""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import platformdirs
from rich.console import Console
from rich.table import Table

from d2lparams.columns import adapters
from d2lparams.runner import usable_cores

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measuring import Row, Times, measure, options, show, write

PROMISED = 1.15
ALL = "all at once"

console = Console()


def build(*names: str, offline: bool = True) -> tuple[float, dict[str, int]]:
    """Wall-clock seconds that environments take in an empty cache, and the bytes of what they are made of."""
    # Beside uv's cache, for no hard link leaves its file system.
    caches = platformdirs.user_cache_path()
    caches.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="d2lparams-first-run-", dir=caches) as cache:
        command = [sys.executable, "-P", "-m", "d2lparams", "env", "build", *names, *["--offline"] * offline]
        began = time.perf_counter()
        ended = subprocess.run(
            command, env={**os.environ, "D2LPARAMS_CACHE": cache}, capture_output=True, text=True
        )
        took = time.perf_counter() - began
        if ended.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{ended.stdout}{ended.stderr}")
        return took, contents(Path(cache) / "envs")


def contents(folder: Path) -> dict[str, int]:
    """Bytes below a folder: hard links, each file once and as often as it appears; bytecode; and the rest."""
    found = {"linked, once": 0, "linked, as often as used": 0, "bytecode": 0, "else": 0}
    known = set()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            state = path.stat()
            if state.st_nlink > 1:
                found["linked, as often as used"] += state.st_size
                if state.st_ino not in known:
                    known.add(state.st_ino)
                    found["linked, once"] += state.st_size
            else:
                found["bytecode" if path.suffix == ".pyc" else "else"] += state.st_size
    return found


def main(rounds: int, file: Path | None) -> None:
    """Build everything in turn, and print the table and the ratios."""
    names = [name for name, adapter in adapters().items() if not adapter.reference]
    made: dict[str, int] = {}

    def seconds(*names: str) -> float:
        took, found = build(*names)
        if len(names) > 1:
            made.update(found)
        return took

    console.print("filling uv's cache", style="dim")
    build(*names, offline=False)
    sides = {name: partial(seconds, name) for name in names}
    times = measure({**sides, ALL: partial(seconds, *names)}, rounds)
    slowest = max(names, key=lambda name: times[name].median)
    cores = usable_cores()
    alone = list(zip(*(times[name].values for name in names)))
    bound = Times(tuple(max(*one, sum(one) / cores) for one in alone))

    table = Table("built", "median, s", "spread", title=f"{rounds} rounds, uv's cache warm, {cores} cores")
    for name, values in times.items():
        table.add_row(name, f"{values.median:.1f}", f"{values.low:.1f} to {values.high:.1f}")
    console.print(table)
    for what, size in made.items():
        console.print(f"{what}: {size / 1e6:.0f} MB")
    details = {"seconds": {name: values.values for name, values in times.items()}, "bytes": made}
    rows = [
        Row(f"all at once, against {slowest} alone", times[ALL], times[slowest], PROMISED, details),
        Row(f"against the slowest or all on {cores} cores, whichever is longer", times[ALL], bound),
    ]
    show("what a first run takes", rows)
    write(file, "a first run", rows)


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    given = options(__doc__, rounds=3).parse_args()
    main(given.rounds, given.json)
