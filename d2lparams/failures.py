"""What an exception says: one line, and its traceback without the frames that are ours to run others' code.

A function that only calls what somebody else wrote has a local `__tracebackhide__ = True`, as pytest reads it.

Standard library only: this runs inside every framework's environment.
"""

from __future__ import annotations

import traceback

from d2lparams.bounded import KEPT, within
from d2lparams.results import Failure

_LONGEST = 2000  # characters of a text that are looked at for its one line


def failure(error: BaseException) -> Failure:
    """What an exception says, in one line, and its traceback below the frame that caught it."""
    said = _said(error)
    text = f"{type(error).__name__}: {said[:_LONGEST]}".removesuffix(": ")
    line = " ".join(text.split())
    inner = error.__traceback__ and error.__traceback__.tb_next
    while inner and inner.tb_frame.f_locals.get("__tracebackhide__"):
        inner = inner.tb_next
    if len(said) > KEPT:  # a traceback copies the text over and over, which takes seconds
        trace = [*traceback.format_tb(inner), text]
    else:
        trace = traceback.format_exception(type(error), error, inner)
    return Failure(line if len(line) <= 300 else f"{line[:296]} ...", within("".join(trace)))


def _said(error: BaseException) -> str:
    """An exception's text; one that raises when it is asked has none."""
    try:
        return str(error)
    except Exception as other:
        return f"it cannot say what it is ({type(other).__name__})"
