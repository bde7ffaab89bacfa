"""Takes down which of an adapter's functions a scenario calls, and their source, while it runs.

The harness calls an adapter by the hooks of its base classes (`_mlp`, `lifecycles`, a trainer's `_step`), and
through the functions in the plain data that it lists. For the time of a scenario each of these is, on this one
object, a function that tells of the call and then makes it; classes and modules are not touched, so what is run
is what stands in the file, and what is compiled or traced is the same. An adapter never sees a watched
function: what it listed comes back to it as it listed it. And nothing here can fail in a scenario's stead: it
would be taken for what the framework did.

What such a function calls by name, in its own module or another of the adapter's, is read from its code and not
watched: a helper may be called millions of times.

Imports the standard library only: this runs inside every framework's environment.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from d2lparams.interface import Backend, Carrier, Layers, Optimizers, Trainer
from d2lparams.results import Code
from d2lparams.subjects import Claim, Format, Lifecycle

Tell = Callable[[str, str, dict[str, Code]], None]
"""Is told what was asked, the name of the function that did it, and the sources of it and of its helpers."""

HARNESS = "d2lparams"
# They only say where the functions stand that the reader came for.
LISTS = {"carrier", "claims", "formats", "fresh", "layers", "lifecycles", "optimizers", "script"}
SUBJECTS: dict[type, str] = {
    Trainer: "trainer",
    Layers: "layers",
    Optimizers: "optimizers",
    Carrier: "carrier",
}
# Plain data with functions in it: the word for it, the field that names one, and the fields that are functions.
LISTED: dict[type, tuple[str, str, tuple[str, ...]]] = {
    Lifecycle: ("life cycle", "name", ("apply",)),
    Format: ("format", "name", ("save", "load", "edit")),
    Claim: ("claim", "topic", ("look",)),
}
# The attribute of a watched copy that holds what it is a copy of.
_LISTED_AS = "_listed_as"


@contextmanager
def recorded(backend: Backend[Any], tell: Tell) -> Iterator[None]:
    """Within the block, the first call of each of the adapter's functions is told, just before it is made.

    Args:
        backend: whose functions are watched, and those of the objects that they give.
        tell: what it raises is raised by the call.
    """
    known: set[str] = set()

    def told(asked: str, function: Callable[..., Any]) -> None:
        if asked not in known and asked not in LISTS:
            known.add(asked)
            tell(asked, *sources(function))

    watched = _watch(backend, "", told)
    try:
        yield
    finally:
        for name in watched:
            vars(backend).pop(name, None)


def sources(function: Callable[..., Any]) -> tuple[str, dict[str, Code]]:
    """A function's name, and the source of it and of all that it calls by name in its adapter, by name."""
    owner = _owner(function)
    plain = _plain(function)
    try:
        return _sources(plain, owner)
    except Exception as error:
        name = getattr(plain, "__name__", type(plain).__name__)
        return name, {name: Code("", 0, f"# the source of {name} cannot be read: {error}", [])}


def _plain(function: Any) -> Any:
    """The function itself, of one with some of its arguments given, bound to its object or decorated."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(getattr(function, "__func__", function))


@functools.cache
def _sources(first: Any, of: type | None) -> tuple[str, dict[str, Code]]:
    found: dict[str, Code] = {}
    todo = [(first, of)]
    while todo:
        one, owner = todo.pop(0)
        if (name := name_of(one)) not in found:
            helpers = list(_helpers(one, owner))
            names = [name_of(other) for other, _ in helpers if other is not one]
            found[name] = Code(*_where(one), _text(one), list(dict.fromkeys(names)))
            todo += helpers
    return name_of(first), found


def name_of(thing: Any) -> str:
    """The name of a function or class, with its module's below `backends`: `torch.TorchBackend._mlp`."""
    module = str(thing.__module__).removeprefix("backends.")
    return f"{module}.{thing.__qualname__}".replace(".<locals>", "").replace("<lambda>", f"line {_line(thing)}")


def _watch(thing: Any, prefix: str, told: Callable[[str, Callable[..., Any]], None]) -> list[str]:
    """Have an object tell of the calls of its hooks; the names of those that are watched."""
    watched = []
    for name in _hooks(type(thing)):
        # What an object holds under the name of a hook is its own affair.
        if name not in getattr(thing, "__dict__", {name}):
            asked = f"{prefix}{name.lstrip('_')}"
            # A frozen dataclass would refuse an ordinary assignment.
            object.__setattr__(thing, name, _telling(getattr(thing, name), asked, told))
            watched.append(name)
    return watched


def _telling(function: Callable[..., Any], asked: str, told: Callable[..., None]) -> Callable[..., Any]:
    """The function, which tells of its call first, and whose results tell of theirs."""

    @functools.wraps(function)
    def telling(*arguments: Any, **options: Any) -> Any:
        told(asked, function)
        given = {name: _unwatched(option) for name, option in options.items()}
        result = function(*map(_unwatched, arguments), **given)
        if isinstance(result, (list, tuple)):
            return type(result)(_listed(one, told) for one in result) if _all_listed(result) else result
        for subject, word in SUBJECTS.items():
            if isinstance(result, subject):
                _watch(result, f"{word}.", told)
        return result

    return telling


def _unwatched(argument: Any) -> Any:
    """The plain data that the adapter listed, of a watched copy of it; anything else as it is."""
    return vars(argument)[_LISTED_AS] if type(argument) in LISTED and _LISTED_AS in vars(argument) else argument


def _all_listed(result: Any) -> bool:
    return type(result) in (list, tuple) and bool(result) and all(type(one) in LISTED for one in result)


def _listed(one: Any, told: Callable[..., None]) -> Any:
    """A copy of plain data whose functions tell of their calls."""
    word, title, names = LISTED[type(one)]
    copy = object.__new__(type(one))
    vars(copy).update(vars(one), **{_LISTED_AS: one})
    for name in names:
        asked = f"{word}: {getattr(one, title)}" + (f", {name}" if len(names) > 1 else "")
        object.__setattr__(copy, name, _telling(getattr(one, name), asked, told))
    return copy


def _hooks(kind: type) -> list[str]:
    """The names of an adapter's functions that a base class of the harness knows, in the order of the base."""
    ours = [base for base in kind.__mro__ if _is_harness(base)]
    names = dict.fromkeys(name for base in reversed(ours) for name in vars(base))
    return [
        name
        for name in names
        if not name.startswith("__")
        and isinstance(found := inspect.getattr_static(kind, name), FunctionType)
        and not _is_harness(found)
    ]


def _is_harness(thing: Any) -> bool:
    return str(thing.__module__).partition(".")[0] == HARNESS


def _owner(function: Any) -> type | None:
    """The class whose method a function is, when it is one of an object."""
    bound = getattr(function, "__self__", None)
    return None if bound is None or isinstance(bound, type) else type(bound)


def _helpers(one: Any, owner: type | None) -> Iterator[tuple[Any, type | None]]:
    """The functions and classes of the adapter that a function names: globals, and methods of its own class."""
    names = dict.fromkeys(_named(one.__code__)) if isinstance(one, FunctionType) else {}
    hooks = _hooks(owner) if owner else []
    for name in names:
        found = getattr(one, "__globals__", {}).get(name)
        method = inspect.getattr_static(owner, name, None) if owner and name not in hooks else None
        for thing, of in ((found, None), (method, owner)):
            inner = inspect.unwrap(thing) if callable(thing) else thing
            if isinstance(inner, FunctionType | type) and _is_adapter(inner, one):
                yield inner, of


def _is_adapter(thing: Any, beside: Any) -> bool:
    """Whether it stands in a module of the same adapter: its own file, or a folder of `backends`."""
    return thing.__module__ == beside.__module__ or str(thing.__module__).startswith("backends.")


def _named(code: CodeType) -> Iterator[str]:
    """All names that code and the functions within it use."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant)


def _where(thing: Any) -> tuple[str, int]:
    """The file, from `backends` on where it is below it, and the line."""
    try:
        parts = Path(inspect.getsourcefile(thing) or "").parts
    except TypeError:
        return "", 0
    file = Path(*parts[parts.index("backends") :]) if "backends" in parts else Path(*parts[-1:])
    return file.as_posix(), _line(thing)


def _line(thing: Any) -> int:
    if isinstance(thing, FunctionType):
        return thing.__code__.co_firstlineno
    try:
        return inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return 0


def _text(thing: Any) -> str:
    """The source. Of a lambda, the call that it is an argument of; of what has none, a comment that says so."""
    try:
        if getattr(thing, "__name__", "") == "<lambda>" and (call := _call_around(thing)):
            return call
        return textwrap.dedent(inspect.getsource(thing)).rstrip()
    except (OSError, TypeError, SyntaxError):
        return f"# the source of {name_of(thing)} cannot be read"


def _call_around(function: FunctionType) -> str:
    """The call that a lambda is an argument of; "" when there is none, or more than one on its line."""
    lines, _ = inspect.findsource(function)
    source = "".join(lines)
    line = function.__code__.co_firstlineno
    around = [
        call
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and any(
            isinstance(value, ast.Lambda) and value.lineno == line
            for value in (*call.args, *(keyword.value for keyword in call.keywords))
        )
    ]
    if len(around) != 1:
        return ""
    text = ast.get_source_segment(source, around[0], padded=True) or ""
    return textwrap.dedent(text)
