"""The command that shows results again, as its users run it: one file or several, in every form."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from d2lparams.comparison import Comparison, compare_runs
from d2lparams.reports.document import from_json, to_json
from d2lparams.results import Failure, Observation, Run, ScenarioResult

Command = Callable[..., subprocess.CompletedProcess[str]]


def results(column: str, value: float = 1.0) -> Comparison:
    runs = []
    for name in ("numpy", column):
        seen = [Observation("output", "invariant", value if name == column else 1.0)]
        ended = ScenarioResult("forward", "6.2", "It computes the same", "ok", 0.1, seen)
        runs.append(
            Run(name, name, name.title(), name == "numpy", {name: "1.0"}, "3.11", "ok", 1.0, scenarios=[ended])
        )
    return compare_runs(runs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of results, and one in which something disagrees."""
    (tmp_path / "monday.json").write_bytes(to_json(results("torch")))
    (tmp_path / "tuesday.json").write_bytes(to_json(results("jax")))
    (tmp_path / "wrong.json").write_bytes(to_json(results("torch", 2.0)))
    return tmp_path


def test_without_a_target_it_is_shown_as_compare_shows_it(command: Command, folder: Path) -> None:
    process = command("report", "monday.json", cwd=folder)
    assert process.returncode == 0
    assert "It computes the same" in process.stdout
    assert "Summary" in process.stdout
    assert process.stderr == ""


def test_several_files_become_one_report_in_every_form(command: Command, folder: Path) -> None:
    targets = ["-o", "all.json", "-o", "all.md", "-o", "all.svg"]
    process = command("report", "monday.json", "tuesday.json", *targets, cwd=folder)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    merged = from_json((folder / "all.json").read_bytes())
    assert [run.name for run in merged.columns] == ["numpy", "torch", "jax"]
    assert "Torch, Jax, side by side" in (folder / "all.md").read_text()
    assert (folder / "all.svg").read_text().startswith("<svg")


def test_standard_input_and_output_are_files_too(command: Command, folder: Path) -> None:
    with (folder / "monday.json").open() as source:
        process = command("report", "-", "tuesday.json", "-o", "-", cwd=folder, stdin=source)
    assert process.returncode == 0
    assert [one["name"] for one in json.loads(process.stdout)["columns"]] == ["numpy", "torch", "jax"]


def test_files_of_one_name_are_told_apart_by_their_folders(command: Command, folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other" / "monday.json").write_bytes(to_json(results("torch")))
    process = command("report", "monday.json", "other/monday.json", "-o", "-", cwd=folder)
    names = [one["name"] for one in json.loads(process.stdout)["columns"]]
    assert names == ["numpy", "torch (monday.json)", "torch (other/monday.json)"]


def test_the_same_file_twice_is_two_columns(command: Command, folder: Path) -> None:
    process = command("report", "monday.json", "monday.json", "-o", "-", cwd=folder)
    names = [one["name"] for one in json.loads(process.stdout)["columns"]]
    assert names == ["numpy", "torch (monday.json)", "torch (monday.json 2)"]


def test_a_disagreement_is_written_and_is_an_exit_code(command: Command, folder: Path) -> None:
    process = command("report", "wrong.json", "-o", "wrong.md", cwd=folder)
    assert process.returncode == 1
    assert "### ✗ What disagrees" in (folder / "wrong.md").read_text()


def test_rows_are_made_of_what_columns_saw_and_never_believed(command: Command, folder: Path) -> None:
    document = json.loads((folder / "wrong.json").read_text())
    document["rows"] = [{**document["rows"][0], "verdict": "agree", "values": {}, "problems": {}}]
    (folder / "forged.json").write_text(json.dumps(document))
    process = command("report", "forged.json", cwd=folder)
    assert process.returncode == 1
    assert "1 disagree" in process.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["."], "cannot read .: Is a directory"),
        (["-", "-"], "cannot read standard input twice"),
        (["-"], "cannot read standard input: it is empty"),
        (["monday.json", "-o", "x.pdf"], "cannot write x.pdf: name a file that ends in .json for everything, "),
        (["nowhere.json", "-o", "x.pdf"], "cannot write x.pdf"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    command: Command, folder: Path, arguments: list[str], sentence: str
) -> None:
    process = command("report", *arguments, cwd=folder)
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith(f"Error: {sentence}")


def test_an_error_of_a_run_is_shown_again(command: Command, folder: Path) -> None:
    broken = results("torch")
    broken.columns[1].status = "crashed"
    broken.columns[1].scenarios[0].status = "crashed"
    broken.columns[1].scenarios[0].error = Failure("killed by SIGSEGV")
    (folder / "x.json").write_bytes(to_json(broken))
    process = command("report", "x.json", cwd=folder)
    assert process.returncode == 1
    assert "torch: forward crashed: killed by SIGSEGV" in process.stdout
