"""The first lines that run in a column's interpreter: they let it see this program, and nothing else of ours.

The parent runs this file as a script, isolated (`python -I .../bootstrap.py`), in an environment that holds a
framework only. Were the parent's site-packages put on the path there, its NumPy would win over the one that
the framework needs. So a finder answers for two names, `d2lparams` and `backends`, and leaves every other
import to the environment.

Standard library only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ERRAND = "errand"
"""The first argument when one function is to be run, see `d2lparams.errand`, and no worker."""

CELLS = "cells"
"""The first argument when cells of a notebook are to be run, see `d2lparams.cells`."""

EXPLORE = "explore"
"""The first argument when programs of a search are to be run, see `d2lparams.exploring.executing`."""


class Exposed(MetaPathFinder):
    """Finds the given packages in their own folders; their submodules follow by the packages' own paths."""

    def __init__(self, *folders: Path) -> None:
        self._folders = {folder.name: folder for folder in folders}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where a package begins, for the exact names that are exposed; None leaves it to the other finders."""
        folder = self._folders.get(fullname)
        if folder is None:
            return None
        return spec_from_file_location(
            fullname, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def expose() -> None:
    """Make `d2lparams` and `backends` importable; they stand side by side, in a checkout as when installed."""
    here = Path(__file__).resolve().parent
    # In front, for an environment may hold a package of the same name, and ours is the one that is meant.
    sys.meta_path.insert(0, Exposed(here, here.parent / "backends"))


if __name__ == "__main__":
    expose()
    if sys.argv[1:2] == [ERRAND]:
        from d2lparams.errand import main

        main(sys.argv[2:])
    elif sys.argv[1:2] == [CELLS]:
        from d2lparams.cells import main

        main(sys.argv[2:])
    elif sys.argv[1:2] == [EXPLORE]:
        from d2lparams.exploring.executing import main

        main(sys.argv[2:])
    else:
        from d2lparams.worker import main

        main(sys.argv[1:])
