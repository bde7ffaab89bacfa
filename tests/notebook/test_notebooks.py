"""The notebooks of this repository, executed from top to bottom by a kernel that has no framework."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.md"))
FRAMEWORKS = ("PyTorch", "MXNet", "JAX/Flax", "TensorFlow/Keras")
MODULES = ("torch", "mxnet", "jax", "flax", "tensorflow", "keras")
PATIENCE = 1800  # seconds that a cell may take: an environment may have to be built


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    """A notebook after it has run, and behind it a cell that looks for frameworks in its kernel."""
    read = jupytext.read(request.param)
    looks = f"import importlib.util\n[one for one in {MODULES} if importlib.util.find_spec(one)]"
    read.cells.append(nbformat.v4.new_code_cell(looks))
    NotebookClient(read, timeout=PATIENCE, kernel_name="python3").execute()
    return read


def shown(cell: Any) -> str:
    """What a cell has displayed, as plain text."""
    texts = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in cell.outputs]
    return "\n".join(texts)


def cells(notebook: Any, magic: str) -> list[Any]:
    return [one for one in notebook.cells if one.cell_type == "code" and one.source.startswith(magic)]


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["own-scenario", "parameter-management", "tying"]


def test_its_kernel_has_no_framework(notebook: Any) -> None:
    assert shown(notebook.cells[-1]) == "[]"


def test_every_column_ran_and_every_invariant_agrees(notebook: Any) -> None:
    compared = cells(notebook, "%%compare")
    assert compared
    for cell in compared:
        found = re.search(r"<Comparison of ([\w, ]+): (.*)>", shown(cell))
        assert found, shown(cell)
        assert "✗" not in shown(cell)
        assert "disagree" not in found[2]
        named = cell.source.partition("\n")[0].split()[1:]
        everywhere = ["numpy", "torch", "mxnet", "jax", "tensorflow"]
        chosen = [one for one in named if one in everywhere]
        assert found[1].split(", ") == (["numpy", *chosen] if chosen else everywhere)


def test_every_tab_that_is_named_shows_something(notebook: Any) -> None:
    titles = dict(zip(("torch", "mxnet", "jax", "tensorflow"), FRAMEWORKS))
    for cell in cells(notebook, "%%tab"):
        named = re.findall(r"^%%tab (\w+)$", cell.source, flags=re.MULTILINE)
        headings = re.findall(r"^([\w/]+)\n-+\n", shown(cell), flags=re.MULTILINE)
        assert headings == [titles[one] for one in named]
        assert "nothing to show" not in shown(cell)
        assert all(one["data"]["text/html"].count('type="radio"') == len(named) for one in cell.outputs)


def test_all_four_frameworks_are_seen(notebook: Any) -> None:
    whole = "\n".join(shown(cell) for cell in notebook.cells if cell.cell_type == "code")
    pages = "\n".join(
        one.get("data", {}).get("text/html", "") for cell in cells(notebook, "%%") for one in cell.outputs
    )
    for name, title in zip(("torch", "mxnet", "jax", "tensorflow"), FRAMEWORKS):
        assert title in whole + pages or name in whole


def test_what_the_text_says_is_what_comes_out(notebook: Any) -> None:
    """The numbers that the notebooks' words speak of."""
    whole = "\n".join(shown(cell) for cell in notebook.cells if cell.cell_type == "code")
    for said in SAID[_heading(notebook)]:
        assert re.search(said, whole), said


# By the heading of a notebook: what its text promises to a reader who looks at the outputs.
SAID = {
    "Parameter management, four times at once": [
        r"JAX/Flax\n-+\n\['layers_0', 'layers_2', 'layers_6'\]",
        r"PyTorch\n-+\n100\.0",
        r"MXNet\n-+\n100\.0",
        r"TensorFlow/Keras\n-+\n100\.0",
        r"PyTorch\n-+\nNone",
    ],
    "Ties, and what they do not survive": [
        r"tensor\(\[\[12\.\]\]\)",
        r"MXNet\n-+\narray\(\[\[12\.\]\]\)",
        r"Array\(\[\[12\.\]\], dtype=float32\)",
        r"numpy=array\(\[\[12\.\]\], dtype=float32\)",
        r"tensorflow +changed +type\(net\)\.from_config",
        r"jax +corrupted +jax\.jit\(update, donate_argnums=0\)",
        r"121 numbers, and then 121",
        r"the original is deleted: True",
    ],
    "A scenario of your own": [r"output +invariant +agree", r"where it is +trait +differ"],
}


def _heading(notebook: Any) -> str:
    return next(cell.source for cell in notebook.cells if cell.cell_type == "markdown").partition("\n")[0][2:]
