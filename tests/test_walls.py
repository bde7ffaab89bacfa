"""The rooms of the program and what may pass between them, proved on what is loaded and on what is written.

What importing a module loads is seen in a process of its own. There, every framework stands on the path as an
empty stand-in, so that an import of it would succeed, and be seen, also where no framework is installed.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2lparams.columns import adapters, read_adapter

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"torch", "mxnet", "jax", "flax", "optax", "tensorflow", "keras"}


def modules(folder):
    """The names of all modules in a package's folder."""
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / folder).rglob("*.py")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths if path.stem != "__main__")


HARNESS = modules("d2lparams")
REPORTS = modules("d2lparams/reports")
NOTEBOOK = modules("d2lparams/notebook")
EXPLORING = modules("d2lparams/exploring")
# What runs inside a column's environment, where of all packages only the framework's and NumPy are installed.
INSIDE = [
    "d2lparams",
    "d2lparams.interface",
    "d2lparams.bounded",
    "d2lparams.carrying",
    "d2lparams.cells",
    "d2lparams.checks",
    "d2lparams.compiling",
    "d2lparams.conventions",
    "d2lparams.matching",
    "d2lparams.models",
    "d2lparams.natives",
    "d2lparams.parameter_set",
    "d2lparams.parameters",
    "d2lparams.programs",
    "d2lparams.recording",
    "d2lparams.structures",
    "d2lparams.subjects",
    "d2lparams.tensor_file",
    "d2lparams.training",
    "d2lparams.transfers",
    "d2lparams.variation",
    "d2lparams.results",
    "d2lparams.worker",
    "d2lparams.bootstrap",
    "d2lparams.errand",
    "d2lparams.events",
    "d2lparams.failures",
    "d2lparams.exploring",
    "d2lparams.exploring.alone",
    "d2lparams.exploring.executing",
    "d2lparams.exploring.ideal",
    "d2lparams.exploring.judging",
    "d2lparams.exploring.program",
    "d2lparams.exploring.seen",
    "d2lparams.leash",
    *modules("d2lparams/scenarios"),
]
# One way through, no going back: what a room never loads.
NEVER = {
    "d2lparams.environments": {
        "d2lparams.runner",
        "d2lparams.comparison",
        "d2lparams.reports",
        "d2lparams.cli",
    },
    "d2lparams.runner": {"d2lparams.comparison", "d2lparams.reports", "d2lparams.cli", "rich"},
    "d2lparams.workers": {
        "d2lparams.runner",
        "d2lparams.comparison",
        "d2lparams.reports",
        "d2lparams.cli",
        "rich",
    },
    "d2lparams.session": {"d2lparams.reports", "d2lparams.cli", "rich"},
    "d2lparams.comparison": {
        "d2lparams.runner",
        "d2lparams.environments",
        "d2lparams.reports",
        "rich",
        "typer",
    },
    **{module: {"d2lparams.runner", "d2lparams.reports", "d2lparams.cli", "rich"} for module in EXPLORING},
    # IPython is there where the magics run, and no requirement.
    **{module: {"d2lparams.cli", "IPython"} for module in NOTEBOOK},
} | {report: {"d2lparams.runner", "d2lparams.environments", "d2lparams.cli"} for report in REPORTS}
# The modules of the standard library by which a program reaches out of itself.
OUTSIDE = {
    *("asyncio", "builtins", "fileinput", "ftplib", "getpass", "glob", "http", "io", "logging", "mmap"),
    *("multiprocessing", "os", "pathlib", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "sys"),
    *("tempfile", "urllib", "webbrowser"),
}


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory):
    """A folder in which every framework is an empty module."""
    folder = tmp_path_factory.mktemp("stand-ins")
    for name in FRAMEWORKS:
        (folder / f"{name}.py").touch()
    return folder


def loaded(module, path=(), before=""):
    """What importing a module loads that was not loaded before, in a process of its own."""
    program = (
        f"import json, sys{before}; before = set(sys.modules); import {module}; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    # The stand-ins go first: an installed framework would take seconds, and be just as much of a breach.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def tops(names):
    return {name.partition(".")[0] for name in names}


def imports(path):
    """Every module that a file's import statements name, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            # `from package import module` names the module too.
            yield from [node.module, *(name for name in inner if file_of(name).exists())]


def file_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")


@pytest.mark.parametrize("module", HARNESS)
def test_the_harness_imports_no_framework(module, stand_ins):
    assert not tops(loaded(module, path=[stand_ins])) & FRAMEWORKS


@pytest.mark.parametrize("module", HARNESS)
def test_no_function_of_the_harness_imports_a_framework(module):
    assert not tops(imports(file_of(module))) & FRAMEWORKS


# What a command loads that only says something: no package whose import takes longer than the command.
HEAVY = {"numpy", "pandas", "h5py", "hypothesis", "IPython", "jinja2", "markdown_it", "packaging", "vl_convert"}
LIGHT = {
    "help": (["--help"], HEAVY | {"filelock", "uv"}),
    "help of one": (["compare", "--help"], HEAVY | {"filelock", "uv"}),
    "list": (
        ["list"],
        HEAVY - {"packaging"} | {"filelock", "uv"},
    ),  # shows those of what is not built
    "bad column": (["compare", "no-such-column"], HEAVY | {"filelock", "uv"}),
    "bad scenario": (["compare", "-s", "no-such-scenario"], HEAVY | {"filelock", "uv"}),
    "bad option": (["compare", "--no-such-option"], HEAVY | {"filelock", "uv"}),
}


@pytest.mark.parametrize(("arguments", "never"), LIGHT.values(), ids=LIGHT.keys())
def test_what_only_says_something_loads_nothing_heavy(arguments, never, stand_ins):
    command = f"sys.argv = ['d2lparams', *{arguments}]\ntry: main()\nexcept SystemExit: pass"
    program = f"import sys; from d2lparams.cli import main\n{command}\nprint(*sys.modules, file=sys.stderr)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (stand_ins, ROOT)))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    names = set(done.stderr.splitlines()[-1].split())
    assert "d2lparams.cli" in names
    assert not (names | tops(names)) & (never | FRAMEWORKS)


@pytest.mark.parametrize("module", ["d2lparams.cli", "d2lparams.runner", "d2lparams.comparison"])
def test_who_runs_columns_needs_no_numpy(module):
    assert "numpy" not in loaded(module)


def test_what_is_read_of_scenarios_is_what_is_registered():
    from d2lparams.scenarios import scenarios
    from d2lparams.scenarios.catalog import catalog

    assert list(catalog().items()) == list(scenarios().items())


def test_a_scenario_that_was_read_can_be_run():
    from backends.numpy import NumpyBackend
    from d2lparams.scenarios.catalog import catalog
    from d2lparams.worker import execute

    assert execute(catalog()["layer-access"], NumpyBackend()).status == "ok"


@pytest.mark.parametrize("adapter", adapters().values(), ids=lambda adapter: adapter.name)
def test_the_dependencies_of_an_adapter_can_be_read(adapter):
    """No command looks at those of this distribution before it builds with them."""
    assert read_adapter(adapter.path) == adapter


def test_a_breach_would_be_seen(stand_ins):
    assert loaded(", ".join(sorted(FRAMEWORKS)), path=[stand_ins]) >= FRAMEWORKS


@pytest.mark.parametrize("module", INSIDE)
def test_what_runs_inside_a_column_needs_numpy_and_nothing_else(module):
    # NumPy's compiled parts leave names of their own behind; they are there before we look.
    added = loaded(module, before=", numpy, numpy.random")
    others = tops(added) - {*sys.stdlib_module_names, "d2lparams", "numpy"}
    assert not others


@pytest.mark.parametrize("module", INSIDE[1:])  # the package's own functions are the parent's
def test_no_function_that_runs_inside_a_column_imports_more(module):
    """But for how an object looks in a notebook: nobody asks for that inside a column."""
    looks = imports_for_looks(file_of(module))
    for name in imports(file_of(module)):
        inside = name in INSIDE or name.partition(".")[0] in {*sys.stdlib_module_names, "numpy"}
        assert inside or name in looks


def imports_for_looks(path):
    """What only `_repr_html_` imports: the one module that knows how objects look in a notebook, or nothing."""
    found = {
        node.module
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and function.name == "_repr_html_"
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
    }
    assert found <= {"d2lparams.reports.notebook"}
    return found


@pytest.mark.parametrize(("module", "never"), NEVER.items(), ids=NEVER.keys())
def test_there_is_no_going_back(module, never):
    names = loaded(module)
    breaches = (names | tops(names)) & never
    assert not breaches


def test_comparison_is_pure():
    path = ROOT / "d2lparams" / "comparison.py"
    assert not tops(imports(path)) & OUTSIDE
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


def of_adapter(adapter):
    """The files of one framework: its adapter, and its module of each subject."""
    return [adapter.path, *sorted((ROOT / "backends").glob(f"*/{adapter.path.name}"))]


@pytest.mark.parametrize("adapter", adapters().values(), ids=lambda adapter: adapter.name)
def test_a_backend_imports_its_framework_numpy_and_the_interface(adapter):
    """And its own files of other subjects; never those of another framework."""
    files = of_adapter(adapter)
    own = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    for name in (name for path in files for name in imports(path)):
        top = name.partition(".")[0]
        # What only names things, or only moves bytes, may be read beside the interface.
        ours = name in ("d2lparams.interface", "d2lparams.naming", "d2lparams.tensor_file") or name in own
        assert ours or top in {*sys.stdlib_module_names, "numpy", *tops(adapter.modules)}
