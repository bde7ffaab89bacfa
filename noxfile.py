"""What is checked, and how. `nox` runs the checks; `nox -l` lists all sessions, `nox -s core` runs one.

A backend's session takes its environment from the metadata at the top of the backend's file, and builds it as
the command does. Sessions for tools take the registries that the user's pip knows.
"""

import os
from dataclasses import replace
from pathlib import Path

import nox

from d2lparams.columns import Column, adapters
from d2lparams.environments import ensure
from d2lparams.registries import registry_flags, registry_settings

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.sessions = [
    "lint",
    "types",
    "core",
    "faults",
    "backend",
    "road",
    "planted",
    "alarms",
    "explore",
    "page",
    "notebooks",
]
# What the session `core` leaves to others.
APART = ("faults", "road", "planted", "alarms", "explore", "page", "notebook")
BENCHMARKS = ("startup", "compare", "first_run", "files", "training", "looking", "growth")

PROJECT = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *packages: str, group: str) -> None:
    """Install packages and one of pyproject's dependency groups."""
    pinned = nox.project.dependency_groups(PROJECT, group)
    session.install(*registry_flags(os.environ), *packages, *pinned, env=registry_settings(os.environ))


@nox.session
def lint(session: nox.Session) -> None:
    """Lint and format."""
    install(session, group="lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strict, without any framework."""
    install(session, *PROJECT["project"]["dependencies"], group="types")
    session.run("mypy")


@nox.session
def core(session: nox.Session) -> None:
    """The harness itself, and the contract on the reference, without any framework."""
    install(session, "-e", ".", group="test")
    apart = [f"--ignore=tests/{folder}" for folder in APART]
    session.run("pytest", *apart, *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Faults, each injected into the command; prints a score, and writes the table to $FAULTS_REPORT."""
    install(session, "-e", ".", group="test")
    session.run("pytest", "tests/faults", *session.posargs)


@nox.session(venv_backend="none")
@nox.parametrize("name", list(adapters()), ids=list(adapters()))
def backend(session: nox.Session, name: str) -> None:
    """The contract and the scenarios on one backend, in its own environment."""
    adapter = adapters()[name]
    pytest = nox.project.dependency_groups(PROJECT, "contract")
    column = Column(f"{name}-tests", replace(adapter, dependencies=(*adapter.dependencies, *pytest)))
    environment = ensure(column, progress=session.log)
    # The variables that the column's workers have, too: JAX keeps its compiled programs between runs.
    variables = environment.variables(adapter)
    command = (str(environment.python), "-m", "pytest", "tests/contract", "--backend", name)
    session.run(*command, *session.posargs, env=variables, external=True)


@nox.session
def road(session: nox.Session) -> None:
    """The command as a process, on all four frameworks."""
    install(session, "-e", ".", group="test")
    session.run("pytest", "tests/road", *session.posargs)


@nox.session
def planted(session: nox.Session) -> None:
    """Adapters with one mistake each, as columns of the command: every one must be flagged."""
    install(session, "-e", ".", group="test")
    session.run("pytest", "tests/planted", *session.posargs)


@nox.session
def page(session: nox.Session) -> None:
    """The page of a real run, used in a real browser; skipped where there is none."""
    install(session, "-e", ".", group="page")
    session.run("pytest", "tests/page", *session.posargs)


@nox.session
def notebooks(session: nox.Session) -> None:
    """The magics in a real kernel, and the notebooks, on all four frameworks."""
    install(session, "-e", ".", group="notebook")
    session.run("pytest", "tests/notebook", *session.posargs)


@nox.session
def explore(session: nox.Session) -> None:
    """The search on planted faults, and a short one on all four frameworks."""
    install(session, "-e", ".", group="explore")
    session.run("pytest", "tests/explore", *session.posargs)


@nox.session
def alarms(session: nox.Session) -> None:
    """No false alarm: scenarios with other numbers and models on all four frameworks; `-- --seeds 200`."""
    install(session, "-e", ".", group="test")
    # Without arguments what some minutes are enough for: the life cycles of each form alone take as many.
    groups = ("access", "tying", "training", "exercises", "optimizers", "layers")
    bounded = ["--seeds", "1", *(f"-s={group}" for group in groups), "--minutes", "3", "--chunk", "4"]
    session.run("python", "tests/alarms/campaign.py", *(session.posargs or bounded))


@nox.session
def bench(session: nox.Session) -> None:
    """What the harness costs, against what its parts need; not a check. `-- training looking` asks two."""
    # pip compiles what it installs and uv does not unless it is asked; an import without costs double.
    install(session, "--compile-bytecode", ".", group="test")
    answers = Path(session.create_tmp()) / "benchmarks.json"
    if not session.posargs:
        answers.unlink(missing_ok=True)
    for name in session.posargs or BENCHMARKS:
        session.run("python", f"benchmarks/{name}.py", "--json", str(answers))
    table = Path(os.environ.get("BENCH_REPORT", answers.with_suffix(".md")))
    session.run("python", "benchmarks/summary.py", str(answers), "--markdown", str(table))
    session.log(f"all figures: {answers}; what is promised, as Markdown: {table}")


@nox.session
def readme(session: nox.Session) -> None:
    """Make the README's pictures anew, from a real run."""
    install(session, "-e", ".", group="page")
    chosen = ("-s", "targeted-parameter", "-s", "tied-by-construction")
    session.run("d2lparams", "compare", *chosen, "--output", "docs/compare.svg")
    report = f"{session.create_tmp()}/report.html"
    session.run("d2lparams", "compare", "--output", report)
    session.run("python", "docs/page.py", report, "docs/page.png")
