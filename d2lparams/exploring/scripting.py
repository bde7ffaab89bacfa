"""A finding as a script that shows it: in the framework alone where an adapter writes that, else by d2lparams.

No script is handed over that was not run. What it did, its exit code and its last line, is told with it.
"""

from __future__ import annotations

import pprint
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import d2lparams
from d2lparams.child import ending, kill_group
from d2lparams.columns import Column
from d2lparams.exploring.column import ExploredColumn
from d2lparams.exploring.judging import MUST
from d2lparams.exploring.searching import Finding

START = 120.0
"""Seconds that a script may take beside its operations."""

_SCRIPT = '''\
"""{title}: {way}

{program}

must hold: {must}
seen:      {seen}

Found by a search, and run by d2lparams' adapter of the framework. The framework's own Python runs it, and is
told where d2lparams is:

    where=$(python -c 'import d2lparams; print(*d2lparams.__path__)')
    "$(d2lparams env path {column})/bin/python" FILE "$where"

It exits with 0 when it sees that, and with 1 when it does not.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(sys.argv[1]).parent))
from d2lparams.exploring.alone import show

PROGRAM = {data}

show({adapter!r}, {class_name!r}, PROGRAM, operation={operation!r}, violated={violated!r})
'''


@dataclass(frozen=True)
class Script:
    """A script that was written and run.

    Attributes:
        path: where it is.
        own: whether it imports the framework only.
        shows: whether it showed what it is there to show.
        ended: how it ended, in words.
        last_line: of what it printed.
    """

    path: Path
    own: bool
    shows: bool
    ended: str
    last_line: str


def write_script(finding: Finding, column: ExploredColumn, folder: Path, number: int) -> Script:
    """Write a finding's script into a folder, and run it.

    Args:
        finding: what it shows.
        column: where it was found.
        folder: that is there.
        number: of the finding.

    Raises:
        OSError: when it cannot be written.
    """
    deviation = finding.deviation
    words = f"{column.column.name}-{number}-{deviation.way or deviation.operation}-{deviation.violated}"
    path = folder / f"{re.sub(r'[^A-Za-z0-9._]+', '-', words).strip('-.')}.py"
    if deviation.violated not in ("crash", "hang") and (own := column.own_script(finding.program)):
        path.write_text(own, encoding="utf-8")
        script = _run(path, True, column, deviation.violated)
        if script.shows:
            return script
    path.write_text(_by_the_adapter(finding, column), encoding="utf-8")
    return _run(path, False, column, deviation.violated)


def _by_the_adapter(finding: Finding, column: ExploredColumn) -> str:
    deviation, (adapter, class_name) = finding.deviation, column.arguments
    title = f"{column.column.adapter.title} {column.version}"
    return _SCRIPT.format(
        title=title,
        way=deviation.way or deviation.operation,
        program=str(finding.program).replace("\\", "/"),
        must=MUST[deviation.violated],
        seen=_printable(deviation.seen),
        column=_asked(column.column),
        data=pprint.pformat(finding.program.to_json(), width=100, sort_dicts=False),
        adapter=adapter,
        class_name=class_name,
        operation=deviation.operation,
        violated=deviation.violated,
    )


def _run(path: Path, own: bool, column: ExploredColumn, violated: str) -> Script:
    """Run a script as its reader will; a crash or a hang is what one of those has to show."""
    package = str(Path(d2lparams.__file__).parent)
    seconds = START if violated != "hang" else column.timeout + START / 4
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(column.environment.python), "-I", str(path), package],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if violated == "raises" else subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(seconds)
            ended, code = f"the script {ending(process.returncode)}", process.returncode
        except subprocess.TimeoutExpired:
            ended, code = f"the script did not end within {seconds:g} s", 1
            hung = True
        else:
            hung = False
        finally:
            kill_group(process)
        output.seek(0)
        lines = output.read().decode("utf-8", "replace").split("\n")
    shows = hung if violated == "hang" else code not in (0, 1) if violated == "crash" else code == 0
    last = next((line for line in reversed(lines) if line.strip()), "")
    return Script(path, own, shows, ended, _printable(last)[:200])


def _asked(column: Column) -> str:
    return column.argument


def _printable(text: str) -> str:
    """Text that stays in a docstring, on one line."""
    return "".join(one if one.isprintable() else " " for one in text).replace("\\", "/").replace('"""', "'''")
