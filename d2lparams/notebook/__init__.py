"""The magics of a notebook: `%%compare` runs a cell as a scenario, `%%tab` runs native code of each framework.

Nothing of IPython is imported before a magic runs: it is there where they are loaded, and no requirement of
this distribution.
"""

from __future__ import annotations

from typing import Any


def load(shell: Any) -> None:
    """Give an IPython shell the magics; twice does no harm."""
    from d2lparams.notebook.magics import register

    register(shell)


def unload(shell: Any) -> None:
    """Take the magics away, and end the processes of the tabs."""
    from d2lparams.notebook.magics import remove

    remove(shell)
