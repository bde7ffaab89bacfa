"""The planted errors: which there are, where each must be flagged, and a backend's file for each.

Each module beside this one that has a backend's name holds wrong adapters: classes that are the real one but
for one mistake. A class's docstring says what is wrong, and in its last line which row must flag it, in one of
these forms:

    Flagged by: SCENARIO / OBSERVATION              an invariant that disagrees
    Flagged by: SCENARIO / WAY ends as OUTCOME      an outcome that is a harm, and not the true adapter's
    Flagged by: SCENARIO fails: WORDS               the scenario fails with a sentence that has these words
    Not flagged: WHY                                nothing that is observed can tell it

The modules are read here and never imported, for their frameworks are in environments of their own.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from d2lparams.columns import adapters
from d2lparams.scenarios import scenarios

HERE = Path(__file__).parent
HARMS = (
    *("broken", "changed", "corrupted", "refused", "error"),
    *("silent", "keeps its own", "half empty", "first wins", "last wins", "no longer holds"),
)
_FLAGGED = re.compile(
    r"(?P<scenario>[\w-]+) (?:/ (?P<way>.+) ends as (?P<outcome>.+)|/ (?P<row>.+)|fails: (?P<words>.+))"
)


@dataclass(frozen=True)
class Planted:
    """A wrong adapter.

    Attributes:
        backend: the one that it is made of.
        class_name: in the backend's module here.
        says: what is wrong, in one sentence.
        scenario: that must flag it; empty where nothing can.
        observation: of the row; empty where the scenario fails.
        outcome: that the row shows, where it shows outcomes.
        words: of the failure.
        why_not: the reason why nothing flags it.
    """

    backend: str
    class_name: str
    says: str
    scenario: str = ""
    observation: str = ""
    outcome: str = ""
    words: str = ""
    why_not: str = ""

    @property
    def column(self) -> str:
        """TieCopies is tie-copies."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.class_name).lower()

    @property
    def group(self) -> str:
        """Of the scenario; errors that are looked for in one group run side by side."""
        return scenarios()[self.scenario].group

    @property
    def expected(self) -> str:
        """Where it must be flagged, in words."""
        if self.why_not:
            return "nowhere"
        if self.words:
            return f"{self.scenario} fails"
        return f"{self.scenario} / {self.observation}" + (f" ends as {self.outcome}" if self.outcome else "")

    @property
    def file(self) -> str:
        """A backend's file of this error: the adapter's own header with this class, and the module's source."""
        source = adapters()[self.backend].path.read_text(encoding="utf-8")
        header = source[: source.index("# ///\n") + len("# ///\n")]
        for pattern, line in (
            (r"# title = .*\n", f'# title = "{self.column}"\n'),
            (r"# class = .*\n", f'# class = "{self.class_name}"\n'),
            (r"# (aliases|position) = .*\n", ""),
        ):
            header = re.sub(pattern, line, header)
        return header + (HERE / f"{self.backend}.py").read_text(encoding="utf-8")


def _read(backend: str, node: ast.ClassDef) -> Planted | None:
    said = ast.get_docstring(node) or ""
    says, _, last = said.rpartition("\n\n")
    kind, _, where = " ".join(last.split()).partition(": ")
    says = " ".join(says.split())
    if kind == "Not flagged":
        return Planted(backend, node.name, says, why_not=where)
    if kind != "Flagged by":
        return None
    found = _FLAGGED.fullmatch(where)
    assert found, f"{node.name}: {where!r} names no row"
    observation = found["way"] or found["row"] or ""
    return Planted(
        backend, node.name, says, found["scenario"], observation, found["outcome"] or "", found["words"] or ""
    )


def _errors() -> list[Planted]:
    found = []
    for backend in adapters():
        path = HERE / f"{backend}.py"
        if path.exists():
            classes = [one for one in ast.parse(path.read_text("utf-8")).body if isinstance(one, ast.ClassDef)]
            found += [error for one in classes if (error := _read(backend, one))]
    return found


ERRORS = _errors()
"""All of them, backend by backend."""
