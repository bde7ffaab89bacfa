"""An interpreter per column, built by uv and kept for the next time.

Everything lies under one folder, the user's cache or `$D2LPARAMS_CACHE`:

    <cache>/envs/
        uv.toml                           empty, so that uv reads no settings of a project around the cache
        <column>-<key>/                   an environment
            bin/python
            d2lparams.json                the marker: the versions that are in it
        <column>-<key>.building/          one that is being built, or what a killed build left
        <column>-<key>.old/               the one that a rebuild is just replacing
        <column>-<key>.lock               held by whoever builds or removes it; stays
        <column>-<key>.log                what the last build printed

The marker makes an entry valid; without it, or without its interpreter, there is no environment. The new
interpreter writes it, as the last thing before the folder gets its name and after it imported the framework, so
an environment that is found is one that worked. One that was harmed since is found out when a worker cannot be
started in it, see `mend`. A failed rebuild leaves the old one standing. The key is a hash of all that decides
what would be installed: where one of these changes, another environment is meant.

This module decides whether to build; `building` does it. No framework is imported here, and what only a build
needs not before there is one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sysconfig
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from d2lparams.building import MARKER, Build, Cancelled, InstallFailed, beside, remove
from d2lparams.columns import Adapter, Column, UsageError
from d2lparams.registries import fingerprint

__all__ = [
    "Cancelled",
    "Environment",
    "InstallFailed",
    "cache_root",
    "clean",
    "ensure",
    "find",
    "location",
    "mend",
]

SCHEMA = 1  # of what stands above; a change makes every older environment another one


@dataclass(frozen=True)
class Environment:
    """One that is ready.

    Attributes:
        column: the name of the column it is for.
        path: its folder.
        python: its interpreter.
        versions: of the distributions that the adapter declares, as they were installed.
        python_version: of its interpreter.
    """

    column: str
    path: Path
    python: Path
    versions: dict[str, str]
    python_version: str

    def variables(self, adapter: Adapter) -> dict[str, str]:
        """What an adapter declares for the environment of its processes, with the place of this one in it."""
        return {name: value.format(environment=self.path) for name, value in adapter.environ.items()}


def cache_root() -> Path:
    """The folder under which everything lies: `$D2LPARAMS_CACHE`, or the user's cache."""
    own = os.environ.get("D2LPARAMS_CACHE")
    return Path(own).expanduser().absolute() if own else platformdirs.user_cache_path("d2lparams")


def location(column: Column) -> Path:
    """Where a column's environment is, or would be."""
    ingredients = [
        SCHEMA,
        column.adapter.requires_python,
        sysconfig.get_platform(),
        sorted(column.adapter.dependencies),
        fingerprint(os.environ),
    ]
    key = hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:12]
    return _folder() / f"{column.name}-{key}"


def find(column: Column) -> Environment | None:
    """A column's environment when it is ready; reads one file and starts nothing."""
    try:
        return _read(column, location(column))
    except (OSError, ValueError, KeyError, TypeError):  # no marker, or not all of it: a disk may have been full
        return None


def ensure(
    column: Column,
    *,
    offline: bool = False,
    rebuild: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    cancelled: threading.Event | None = None,
) -> Environment:
    """A column's environment, built if it is not ready. Any number of processes may ask at once; one builds.

    Args:
        column: whose environment.
        offline: use only what uv has downloaded before.
        rebuild: build it even when one is ready.
        progress: called with a line for people, whenever there is something new to say.
        cancelled: stops the build, or the wait for another's, when it is set from another thread.

    Raises:
        InstallFailed: when it cannot be built.
        Cancelled: when `cancelled` was set.
    """
    if not rebuild and (ready := find(column)):
        return ready
    cancelled = cancelled or threading.Event()
    build = Build(column.adapter, location(column), offline=offline, progress=progress, cancelled=cancelled)
    try:
        build.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(build.path, build.progress, build.cancelled):
            # Look again: another process may have built it while this one waited.
            if rebuild or not find(column):
                build.run()
            return _read(column, build.path)
    except OSError as error:
        raise _cannot_build(column, build, error) from error


def mend(
    column: Column,
    environment: Environment,
    *,
    offline: bool = False,
    progress: Callable[[str], None] = lambda text: None,
    cancelled: threading.Event | None = None,
) -> bool:
    """Build an environment anew when its framework cannot be imported any more: files of it are gone, say.

    Args:
        column: whose environment.
        environment: as it was found.
        offline: as for `ensure`.
        progress: as for `ensure`.
        cancelled: as for `ensure`.

    Returns:
        False when it is whole, so that there was nothing to mend.

    Raises:
        InstallFailed: when it cannot be built.
        Cancelled: when `cancelled` was set.
    """
    cancelled = cancelled or threading.Event()
    build = Build(column.adapter, environment.path, offline=offline, progress=progress, cancelled=cancelled)
    try:
        with _locked(build.path, build.progress, build.cancelled):
            if build.whole(environment.python):
                return False
            progress("its framework cannot be imported any more; building it anew")
            build.run()
            return True
    except OSError as error:
        raise _cannot_build(column, build, error) from error


def clean(columns: Iterable[Column] | None = None) -> list[Path]:
    """Remove the environments of these columns; None asks for all there are, whatever they were built for.

    What killed builds left goes too. An environment that is being built is waited for.

    Returns:
        The folders that were removed.

    Raises:
        UsageError: when one cannot be removed.
    """
    from filelock import FileLock

    removed: list[Path] = []
    try:
        for path in _entries() if columns is None else [location(column) for column in columns]:
            if path.parent.is_dir():
                with FileLock(beside(path, ".lock")):
                    folders = [path, beside(path, ".building"), beside(path, ".old")]
                    removed += [folder for folder in folders if remove(folder)]
                    beside(path, ".log").unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot remove the environments in {_folder()}: {error}") from error
    return removed


def _cannot_build(column: Column, build: Build, error: OSError) -> InstallFailed:
    from d2lparams.results import Failure

    message = f"the environment of {column.name} cannot be built in {build.path.parent}: {error}"
    return InstallFailed(Failure(message), build.log)


def _folder() -> Path:
    return cache_root() / "envs"


def _entries() -> list[Path]:
    """What has ever been built here and left something; other files in the folder are not ours."""
    folder = _folder()
    names = [_ENTRY.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return [folder / name for name in sorted({match["name"] for match in names if match})]


def _read(column: Column, path: Path) -> Environment:
    """The environment at a path, by its marker; raises where there is none."""
    marker = json.loads((path / MARKER).read_text(encoding="utf-8"))
    python = path / "bin" / "python"
    python.stat()  # follows the link: its target is gone when that Python was uninstalled
    return Environment(column.name, path, python, dict(marker["versions"]), str(marker["python_version"]))


@contextmanager
def _locked(path: Path, progress: Callable[[str], None], cancelled: threading.Event) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock, told = FileLock(beside(path, ".lock")), False
    while not lock.is_locked:
        if cancelled.is_set():
            raise Cancelled("waiting for another process to build the environment was cancelled")
        try:
            lock.acquire(timeout=0.2)
        except Timeout:
            if not told:
                progress("waiting for another process to build it")
            told = True
    try:
        yield
    finally:
        lock.release()


_ENTRY = re.compile(r"(?P<name>.+-[0-9a-f]{12})(\.building|\.old|\.log)?")
