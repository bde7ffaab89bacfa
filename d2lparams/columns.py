"""What a user may ask for: columns, written NAME or NAME@VERSION, and scenarios, their groups and patterns.

Backends are found by their files. An adapter declares itself at the top of its file, as inline script metadata
(PEP 723): the Python and the packages of its environment, and a `[tool.d2lparams]` table:

    title      the framework's name as it writes it itself
    class      the Backend subclass in the file
    modules    what is imported to prove that an environment works
    later      what these import only when it is needed; imported at the build, so that its bytecode is there
    aliases    other names that people use for it
    position   where its column stands; those without one come last
    reference  true for the one backend that the others are held against
    environ    variables of its workers' environment, unless the user has set them; {environment} is the folder
               of the column's own

The file is read, never imported, so that the parent needs no framework. A column may also be the path of such
a file: that is how a backend of one's own is run.

What only a file of one's own needs, to be checked, is imported there: this module is loaded by every command, a
mistyped one too.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2lparams.scenarios import Scenario
from d2lparams.scenarios.catalog import catalog
from d2lparams.variation import FORMS, LARGEST_SEED, Variation

if TYPE_CHECKING:
    from packaging.requirements import Requirement

BACKENDS = Path(__file__).resolve().parent.parent / "backends"


class UsageError(Exception):
    """What the user asked for cannot be done. One sentence: what was wrong, where, what would work."""


@dataclass(frozen=True)
class Adapter:
    """What stands at the top of an adapter's file."""

    path: Path
    title: str
    class_name: str
    requires_python: str
    dependencies: tuple[str, ...]
    modules: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    position: int = 1000
    reference: bool = False
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The backend's name: the file's, without its ending."""
        return self.path.stem

    @property
    def requirements(self) -> list[Requirement]:
        """The dependencies that apply on this platform; the framework itself stands first."""
        from packaging.requirements import Requirement

        parsed = [Requirement(line) for line in self.dependencies]
        return [one for one in parsed if one.marker is None or one.marker.evaluate()]

    @property
    def distributions(self) -> list[str]:
        """The names of the declared packages, the framework's own first."""
        return [requirement.name for requirement in self.requirements]

    @property
    def pinned(self) -> str | None:
        """The framework's version that the header pins exactly, or None."""
        pins = [clause.version for clause in self.requirements[0].specifier if clause.operator == "=="]
        return pins[0] if self.requirements and pins else None


@dataclass(frozen=True)
class Column:
    """A backend at given versions, in its own environment."""

    name: str
    adapter: Adapter

    @property
    def argument(self) -> str:
        """What a user writes for it: its name, or the path of a file of his own, short where it is below."""
        if self.adapter in adapters().values():
            return self.name
        path = self.adapter.path
        try:
            return str(path.relative_to(Path.cwd()))
        except (OSError, ValueError):  # it is not below the current folder, or that is gone
            return str(path)


def read_adapter(path: Path) -> Adapter:
    """Read the metadata at the top of an adapter's file.

    Raises:
        UsageError: when the file is missing, or its metadata is missing or incomplete.
    """
    import msgspec
    from packaging.requirements import InvalidRequirement

    try:
        adapter = msgspec.convert(_declared(path), Adapter)
        requirements = adapter.requirements
    except (InvalidRequirement, msgspec.ValidationError) as error:
        raise UsageError(f"{path}: its script block cannot be read: {error}") from None
    if not requirements:
        raise UsageError(f"{path}: its script block declares no dependency for this platform")
    return adapter


def _declared(path: Path) -> dict[str, Any]:
    """What stands at the top of a file, as an `Adapter` takes it; of which types it is, is not looked at."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the backend file {path}: {error}") from None
    blocks = [match for match in _METADATA.finditer(source) if match["type"] == "script"]
    if len(blocks) != 1:
        raise UsageError(
            f"{path} must have one '# /// script' block that declares its environment; it has {len(blocks)}"
        )
    lines = blocks[0]["content"].splitlines(keepends=True)
    try:
        header = tomllib.loads("".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))
        table = header["tool"]["d2lparams"]
        declared = {
            "path": path.resolve(),
            "title": table["title"],
            "class_name": table["class"],
            "requires_python": header["requires-python"],
            "dependencies": header["dependencies"],
        }
        optional = {
            key: table[key]
            for key in ("modules", "later", "aliases", "position", "reference", "environ")
            if key in table
        }
        return {**declared, **optional}
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: its script block cannot be read: {error}") from None
    except KeyError as error:
        raise UsageError(f"{path}: its script block lacks {error}") from None


@cache
def adapters() -> dict[str, Adapter]:
    """The backends that are here, by name, in the order of their columns: the reference first."""
    # That these are whole is for a test to say, and not for every command.
    found = [Adapter(**_with_tuples(_declared(path))) for path in BACKENDS.glob("[!_]*.py")]
    return {one.name: one for one in sorted(found, key=lambda one: (one.position, one.name))}


def _with_tuples(declared: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in declared.items()}


def reference() -> Column:
    """The column that the others are held against."""
    adapter = next(one for one in adapters().values() if one.reference)
    return Column(adapter.name, adapter)


def parse_column(text: str) -> Column:
    """A column from what a user wrote: NAME, NAME@VERSION, or the path of a backend's file.

    Raises:
        UsageError: for a name that is not there, with the nearest one, or a version that cannot be built.
    """
    if text.endswith(".py"):
        adapter = read_adapter(Path(text))
        if adapter.name in adapters() and adapter.path != adapters()[adapter.name].path:
            raise UsageError(f"{text} has the name of the backend {adapter.name!r}; rename the file")
        return Column(adapter.name, adapter)
    name, at, version = text.partition("@")
    known = {alias: one for one in adapters().values() for alias in (one.name, *one.aliases)}
    if name.lower() not in known:
        raise UsageError(unknown("backend", name, list(known)))
    adapter = known[name.lower()]
    if at and version != adapter.pinned:
        raise UsageError(
            f"cannot build {text}: so far only {adapter.name}@{adapter.pinned} can be built, "
            f"the version that {adapter.name} stands for"
        )
    return Column(f"{adapter.name}@{version}" if at else adapter.name, adapter)


def parse_columns(texts: Iterable[str]) -> list[Column]:
    """The columns to run, each once: the reference first, for the verdicts need it, then those asked for.

    No text at all asks for every backend.

    Raises:
        UsageError: as `parse_column`; for two references, or two files of one name.
    """
    asked = [parse_column(text) for text in texts] or [Column(name, one) for name, one in adapters().items()]
    once: dict[str, Column] = {}
    for column in asked:
        if once.setdefault(column.name, column) != column:
            raise UsageError(
                f"two files for one column: {once[column.name].adapter.path} and {column.adapter.path}"
            )
    judges = [column for column in once.values() if column.adapter.reference] or [reference()]
    if len(judges) > 1:
        names = " and ".join(column.name for column in judges)
        raise UsageError(f"{names} are references both; the others can be held against one only")
    return judges + [column for column in once.values() if not column.adapter.reference]


def parse_scenarios(texts: Iterable[str], *, full: bool = False) -> list[Scenario]:
    """The scenarios to run, each once, in the order in which they are shown.

    Args:
        texts: names of scenarios, names of groups, and patterns for names of scenarios, such as 'tied-*'; what
            they name is run even when it takes long. No text at all asks for every scenario.
        full: whether every scenario means those that take long, too.

    Raises:
        UsageError: for a text that names none, with the nearest name.
    """
    known, asked = catalog(), list(texts)
    if not asked:
        return [one for one in known.values() if full or not one.full]
    chosen = {one.name for text in asked for one in _named(text, known.values())}
    return [one for name, one in known.items() if name in chosen]


def parse_variation(seed: int = 0, form: str = "") -> Variation:
    """The seed and the form of what scenarios use.

    Raises:
        UsageError: for a seed or a form that is none.
    """
    if form and form not in FORMS:
        raise UsageError(unknown("form", form, FORMS))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < LARGEST_SEED:
        raise UsageError(f"the seed must be a whole number from 0 to {LARGEST_SEED - 1}; got {seed!r}")
    return Variation(seed, form)


def left_out(texts: Collection[str], chosen: Iterable[Scenario]) -> list[str]:
    """The names of the scenarios that a run of everything did not choose; no text asked for any, then."""
    names = {one.name for one in chosen}
    return [] if texts else [name for name in catalog() if name not in names]


def _named(text: str, known: Collection[Scenario]) -> list[Scenario]:
    """The scenarios that a text means: one, those of a group, or those whose names match."""
    if any(sign in text for sign in "*?["):
        matching = [one for one in known if fnmatchcase(one.name, text)]
    else:
        matching = [one for one in known if text in (one.name, one.group)]
    if matching:
        return matching
    names = [one.name for one in known]
    groups = list(dict.fromkeys(one.group for one in known))
    near = difflib.get_close_matches(text.lower(), names + groups, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are the groups {', '.join(groups)}"
    what = "matches" if any(sign in text for sign in "*?[") else "or group"
    raise UsageError(f"no scenario {what} {text!r}; {hint}")


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not there: the nearest one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
    return f"no {what} {name!r}; {hint}"


# The regular expression of PEP 723's reference implementation, as the specification gives it.
_METADATA = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
