"""Comparisons that follow each other, in a notebook say: workers are kept, and imports are paid for once.

    with d2lparams.Session(["torch", "jax"]) as session:
        session.compare(scenarios=["tied-by-construction"])
        session.compare(scenarios=["tied-by-construction"], seed=7)   # starts no process

A comparison says what `d2lparams.compare` says. A worker that crashed, hung or was killed costs its cells then,
and the next comparison has a new one. So it is after Ctrl-C, after a change of an adapter's file, of an
environment variable or of the current folder. When a session is closed or forgotten, or Python ends, however it
does, no process stays behind.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Self

from d2lparams.columns import left_out, parse_columns, parse_scenarios, parse_variation
from d2lparams.comparison import Comparison, compare_runs
from d2lparams.runner import run
from d2lparams.workers import KeptWorkers, Workers

if TYPE_CHECKING:
    from d2lparams.runner import Event


class Session:
    """Compares again and again, in processes that are kept; a context manager.

    From several threads, one comparison runs after the other.
    """

    def __init__(
        self,
        columns: Iterable[str] = (),
        *,
        timeout: float = 60.0,
        jobs: int | None = None,
        offline: bool = False,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            columns: what is compared where a comparison names none; none at all asks for every backend.
            timeout: as for `d2lparams.compare`, and so are the others; for comparisons that do not say.
            jobs: how many columns run at the same time.
            offline: use only what is on this machine.
            on_event: is told of progress.

        Raises:
            d2lparams.columns.UsageError: for a column that is not there.
        """
        self._columns = list(columns)
        parse_columns(self._columns)
        self._timeout, self._jobs, self._offline, self._on_event = timeout, jobs, offline, on_event
        self._lock = threading.Lock()
        self._workers = KeptWorkers()
        # It knows nothing of this object, so that it works when this one is forgotten, and when Python ends.
        self._end = weakref.finalize(self, self._workers.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._end.alive:
            return "<Session, closed>"
        kept = ", ".join(f"{name} {pid}" for name, pid in self.pids.items())
        return f"<Session: {kept or 'no process yet'}>"

    @property
    def pids(self) -> dict[str, int]:
        """The processes that wait for the next comparison, by the name of their column."""
        return self._workers.pids

    def compare(
        self,
        columns: Iterable[str] = (),
        scenarios: Iterable[str] = (),
        *,
        full: bool = False,
        timeout: float | None = None,
        jobs: int | None = None,
        offline: bool | None = None,
        on_event: Callable[[Event], None] | None = None,
        seed: int = 0,
        form: str = "",
    ) -> Comparison:
        """Run scenarios on columns and put the results side by side, as `d2lparams.compare` does.

        Args:
            columns: those of the session where none is named.
            scenarios: as for `d2lparams.compare`, and so are the others.
            full: whether every scenario means those, too, that take long.
            timeout: None is the session's, here and below.
            jobs: how many columns run at the same time. A worker that is kept computes with as many threads as
                when it was started.
            offline: use only what is on this machine.
            on_event: is told of progress.
            seed: of what scenarios draw.
            form: of the models of scenarios.

        Raises:
            RuntimeError: when the session is closed.
            d2lparams.columns.UsageError: as `d2lparams.compare`.
            d2lparams.runner.Interrupted: as `d2lparams.compare`; the session can be used again.
        """
        with self._lock:
            if not self._end.alive:
                raise RuntimeError("this session is closed; make a new one")
            return compare(
                list(columns) or self._columns,
                scenarios,
                full=full,
                timeout=self._timeout if timeout is None else timeout,
                jobs=self._jobs if jobs is None else jobs,
                offline=self._offline if offline is None else offline,
                on_event=on_event or self._on_event,
                seed=seed,
                form=form,
                workers=self._workers,
            )

    def close(self) -> None:
        """End all processes; what another thread compares ends as if they had been killed."""
        self._end()


def compare(
    columns: Iterable[str],
    scenarios: Iterable[str],
    *,
    full: bool,
    timeout: float,
    jobs: int | None,
    offline: bool,
    on_event: Callable[[Event], None] | None,
    seed: int,
    form: str,
    executor: Executor | None = None,
    workers: Workers | None = None,
) -> Comparison:
    """What `d2lparams.compare` does, with workers from wherever they come."""
    asked = list(scenarios)
    chosen = parse_scenarios(asked, full=full)
    runs = run(
        parse_columns(columns),
        chosen,
        timeout=timeout,
        jobs=jobs,
        offline=offline,
        executor=executor,
        on_event=on_event,
        variation=parse_variation(seed, form),
        workers=workers,
    )
    return compare_runs(runs, scenarios=chosen, left_out=left_out(asked, chosen))
