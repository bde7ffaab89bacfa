"""What an exception says: one line, and its traceback without the frames that are ours to run others' code.

A function that only calls what somebody else wrote has a local `__tracebackhide__ = True`, as pytest reads it.

Standard library only: this runs inside every framework's environment.
"""

from __future__ import annotations

import textwrap
import traceback

from d2lparams.bounded import within
from d2lparams.results import Failure

_LONGEST = 2000  # characters of a text that are looked at for its one line


def failure(error: BaseException) -> Failure:
    """What an exception says, in one line, and its traceback below the frame that caught it."""
    text = f"{type(error).__name__}: {_said(error)}".removesuffix(": ")
    inner = error.__traceback__ and error.__traceback__.tb_next
    while inner and inner.tb_frame.f_locals.get("__tracebackhide__"):
        inner = inner.tb_next
    trace = traceback.format_exception(type(error), error, inner)
    return Failure(textwrap.shorten(text[:_LONGEST], 300, placeholder=" ..."), within("".join(trace)))


def _said(error: BaseException) -> str:
    """An exception's text; one that raises when it is asked has none."""
    try:
        return str(error)
    except Exception as other:
        return f"it cannot say what it is ({type(other).__name__})"
