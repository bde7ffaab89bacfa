"""The process behind a notebook's tab: it runs cells of native code, one after the other, in one namespace.

It is told what to run by lines of JSON on its stdin, {"source": ..., "filename": ...}, and ends when that
closes. What it reports are events, see `d2lparams.events`:

    ready      it has started
    started    a cell begins; from now on SIGINT is a KeyboardInterrupt in it
    shown      the value of its last expression, or a figure: {"data": {MIME type: text, or base64}}
    ended      how it ended: {"error": null or a `Failure`, "seconds": ...}

What is printed, by Python or by C code, is not among them: it goes to the stderr that the parent gave.

Imports the standard library and NumPy only: this runs inside every framework's environment.
"""

from __future__ import annotations
import __future__

import ast
import base64
import builtins
import contextlib
import ctypes
import io
import json
import linecache
import os
import pprint
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from types import CodeType, ModuleType
from typing import Any, NoReturn

from d2lparams.bounded import within
from d2lparams.errand import end_with_parent
from d2lparams.events import Events, take_stdout
from d2lparams.failures import failure

RICH = {
    "text/html": "_repr_html_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "text/markdown": "_repr_markdown_",
}
"""How an object says what it looks like, as in IPython."""

LARGEST_PICTURE = 8 * 2**20
"""More than so many characters of one picture or page are not shown."""

MOST_ENTRIES = 1000
"""A container with more entries is not laid out: that takes seconds."""

_FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def main(arguments: Sequence[str]) -> NoReturn:
    """Run what comes, until the parent is gone."""
    events = take_stdout()
    orders: SimpleQueue[bytes] = SimpleQueue()
    end_with_parent(orders.put)
    _print_at_once()
    # The notebook's own backend, which its process names for all its children, is not installed here.
    os.environ["MPLBACKEND"] = "Agg"
    sys.argv = [""]
    # What stands beside the notebook can be imported; last, lest a torch.py there be taken for PyTorch.
    sys.path.append(str(os.getcwd()))  # noqa: PTH109
    signal.signal(signal.SIGINT, _ignore)
    cells = Cells()
    events.send("ready")
    while True:
        order = json.loads(orders.get())
        cells.answer(order["source"], order["filename"], events)


def remember(source: str, filename: str) -> None:
    """Let tracebacks show the lines of a source that stands in no file."""
    # Without a time of modification it is not looked for on the disk.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)


class Cells:
    """One namespace, the module `__main__` of this process, and what runs in it."""

    def __init__(self) -> None:
        self.module = ModuleType("__main__")
        self.module.__dict__["__builtins__"] = builtins
        # Dataclasses and pickle look a class up by the name of its module.
        sys.modules["__main__"] = self.module
        self._flags = 0  # what `from __future__ import` has asked for so far

    def answer(self, source: str, filename: str, events: Events) -> None:
        """Run one cell and report it, whatever it does."""
        process, began, error = os.getpid(), time.perf_counter(), None
        shown = None
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                events.send("started")
                shown = self.run(source, filename)
            finally:
                signal.signal(signal.SIGINT, _ignore)
        except BaseException as raised:  # sys.exit(), too, is the cell's and not ours
            signal.signal(signal.SIGINT, _ignore)
            error = raised
        if os.getpid() != process:
            _leave_a_fork(error)
        for data in [*([shown] if shown else []), *figures()]:
            events.send("shown", data=data)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # the cell has replaced or closed it
                stream.flush()
        seconds = time.perf_counter() - began
        events.send("ended", error=error and vars(failure(error)), seconds=seconds)

    def run(self, source: str, filename: str) -> dict[str, str] | None:
        """Run one cell; what its last expression looks like, see `looks`, where there is one that is not None.

        Args:
            source: of the cell; its lines are counted from its first one.
            filename: under which tracebacks speak of it.
        """
        __tracebackhide__ = True
        remember(source, filename)
        tree = self._compile(source, filename, "exec", ast.PyCF_ONLY_AST)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        namespace = self.module.__dict__
        exec(self._compile(tree, filename, "exec"), namespace)
        if last is None:
            return None
        value = eval(self._compile(ast.Expression(last.value), filename, "eval"), namespace)
        if value is None:
            return None
        namespace["_"] = value
        return None if _silenced(source, last) else looks(value)

    def _compile(self, source: Any, filename: str, mode: str, flags: int = 0) -> Any:
        __tracebackhide__ = True
        code = compile(source, filename, mode, flags | self._flags, dont_inherit=True)
        if isinstance(code, CodeType):
            self._flags |= code.co_flags & _FUTURE
        return code


def looks(value: Any) -> dict[str, str]:
    """What an object looks like: as plain text, and in the ways that it knows itself; by MIME type."""
    __tracebackhide__ = True
    data = {"text/plain": within(_laid_out(value))}
    for mime, name in RICH.items():
        # Of the type, for an object may answer to every name; and a class is not one of its own objects.
        method = None if isinstance(value, type) else getattr(type(value), name, None)
        if method is None:
            continue
        try:
            found = method(value)
        except Exception as error:
            _tell(f"{type(value).__name__}.{name} raised {type(error).__name__}: {error}")
            continue
        found = found[0] if isinstance(found, tuple) else found  # what stands beside it is for IPython
        text = base64.b64encode(found).decode() if isinstance(found, bytes) else found
        if isinstance(text, str) and len(text) <= LARGEST_PICTURE:
            data[mime] = text
        elif text is not None:
            _tell(f"what {type(value).__name__}.{name} gave cannot be shown: it is too large, or no text")
    return data


def figures() -> Iterator[dict[str, str]]:
    """The figures of Matplotlib that are open, as PNG; they are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        figure, picture = pyplot.figure(number), io.BytesIO()
        try:
            figure.savefig(picture, format="png", bbox_inches="tight")
        except Exception:
            traceback.print_exc()  # a figure that cannot be drawn says so, and the others are shown
        else:
            encoded = base64.b64encode(picture.getvalue()).decode()
            yield {"text/plain": f"<figure {number}>", "image/png": encoded}
        pyplot.close(figure)


def _laid_out(value: Any) -> str:
    """A value's `repr`; containers over several lines where they are long, in their own order."""
    __tracebackhide__ = True
    own: Any = type(value).__repr__
    if own in (dict.__repr__, list.__repr__, tuple.__repr__, set.__repr__) and len(value) <= MOST_ENTRIES:
        return pprint.pformat(value, width=88, compact=True, sort_dicts=False)
    return repr(value)


def _silenced(source: str, last: ast.stmt) -> bool:
    """Whether a semicolon stands behind the last statement, which says that its value is not wanted."""
    assert last.end_lineno is not None
    line = source.splitlines()[last.end_lineno - 1]
    return line.encode()[last.end_col_offset :].lstrip().startswith(b";")


def _tell(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201  (what a cell prints, too, goes there)


def _print_at_once() -> None:
    """Let C code's `printf` keep nothing back, so that it comes in order and a crash does not take it along."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # a C library of another kind keeps its way
        library, unbuffered = ctypes.CDLL(None), 2
        stream = ctypes.c_void_p.in_dll(library, "__stdoutp" if sys.platform == "darwin" else "stdout")
        library.setvbuf(stream, None, unbuffered, 0)


def _leave_a_fork(error: BaseException | None) -> NoReturn:
    """End a process that a cell has forked and that has come to the cell's end: only one may report."""
    if error is not None:
        traceback.print_exception(error)
    sys.stdout.flush()
    os._exit(1 if error is not None else 0)


def _ignore(number: int, frame: object) -> None:
    """Between cells nothing is there to be interrupted. No SIG_IGN, which what is started would inherit."""
