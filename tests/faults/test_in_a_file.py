"""Files of results that are not trusted: each is shown, or refused in one sentence, in seconds.

They are made from what the command itself wrote, and given to `d2lparams report`.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conftest import HEALTHY, Place

Saw = Callable[[str], None]
Document = dict[str, Any]
SECONDS = 100


@pytest.fixture(scope="module")
def written(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run of a healthy column wrote."""
    here = Place(tmp_path_factory.mktemp("written"), environment.parents[2] / "lent")
    here.lend(environment, "numpy", HEALTHY)
    assert here.command("compare", HEALTHY, "-s", "forward", "-o", "x.json").returncode == 0
    return (here.out / "x.json").read_bytes()


def report(place: Place, content: bytes, code: int | None = None) -> subprocess.CompletedProcess[str]:
    """Show a file of this content, in every form; nothing is written when it is refused."""
    (place.root / "given.json").write_bytes(content)
    targets = ("-o", "y.json", "-o", "y.md", "-o", "y.html", "-o", "y.svg")
    process = place.command("report", place.root / "given.json", *targets, seconds=SECONDS)
    assert code in (None, process.returncode), process.stderr
    left = () if process.returncode == 2 else ("y.html", "y.json", "y.md", "y.svg")
    place.check(process, process.returncode, *left)
    assert process.returncode in (0, 1, 2)
    assert process.stdout == ""
    return process


def refusal(place: Place, content: bytes, sentence: str) -> str:
    process = report(place, content, 2)
    (line,) = process.stderr.splitlines()
    assert line.startswith("Error: cannot ")
    assert sentence in line
    return line.replace(str(place.root), "...")


def changed(content: bytes, change: Callable[[Document], Any]) -> bytes:
    document = json.loads(content)
    change(document)
    return json.dumps(document).encode()


# -- what is no document -------------------------------------------------------------------------------------


@pytest.mark.fault("a file of results is cut off, at ten places")
def test_a_file_that_is_cut_off(place: Place, written: bytes, saw: Saw) -> None:
    lines = {
        refusal(place, written[: len(written) * part // 10 or 1], "it is not JSON").partition(" (byte")[0]
        for part in range(10)
    }
    saw(min(lines))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        pytest.param(make, sentence, marks=pytest.mark.fault(f"a file of results {fault}"))
        for fault, make, sentence in [
            ("is empty", lambda content: b"", "it is empty"),
            ("is blank", lambda content: b" \n", "it is empty"),
            ("is a page", lambda content: b"<html>", "it is not JSON"),
            ("is not UTF-8", lambda content: content.replace(b"healthy", b"h\xe9althy"), "not JSON"),
            ("is UTF-16", lambda content: content.decode().encode("utf-16"), "it is not JSON"),
            ("is packed", gzip.compress, "it is not JSON"),
            ("is random", lambda content: os.urandom(10_000), "it is not JSON"),
            ("has a lone surrogate", lambda content: b'"\\ud800"', "it is not JSON"),
            ("has a mistake and is cut off", lambda content: b'{"columns": 1, ', "it is not JSON: Input data"),
            (
                "has a column that is none",
                lambda content: changed(content, lambda one: one.update(columns=[{"name": 1}])),
                "it is not what `compare --output` writes",
            ),
            ("is a list", lambda content: b"[1]", "it is not what `compare --output` writes"),
            ("is another document", lambda content: b'{"transfers": []}', "it is not what `compare"),
            (
                "is of a newer program",
                lambda content: changed(content, lambda one: one.update(schema_version=2)),
                "it was written by a newer d2lparams; upgrade this one",
            ),
            (
                "is of no program",
                lambda content: changed(content, lambda one: one.update(schema_version=0)),
                "it is not what `compare --output` writes",
            ),
            (
                "is of a newer program, in other words",
                lambda content: b'{"schema_version": 7, "results": {"of": "another form"}}',
                "it was written by a newer d2lparams; upgrade this one",
            ),
            (
                "has no column",
                lambda content: changed(content, lambda one: one.update(columns=[], rows=[])),
                "there is no column in it",
            ),
            ("is nested 100 000 deep", lambda content: b"[" * 100_000, "nested too deep"),
            ("is nested 100 000 deep, by objects", lambda content: b'{"a":' * 100_000, "nested too deep"),
        ]
    ],
)
def test_what_is_no_document(
    make: Callable[[bytes], bytes], sentence: str, place: Place, written: bytes, saw: Saw
) -> None:
    saw(refusal(place, make(written), sentence))


# -- what is one, and harmed ---------------------------------------------------------------------------------


def values(document: Document, value: Any) -> None:
    """Put a value in the place of each that was observed."""
    for column in document["columns"]:
        for cell in column["scenarios"]:
            for one in cell["observations"]:
                one["value"] = value


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def every_text(value: Any, text: str, key: str = "") -> Any:
    """The document with a text added to each that is free to be anything."""
    if isinstance(value, dict):
        return {name: every_text(one, text, name) for name, one in value.items()}
    if isinstance(value, list):
        return [every_text(one, text, key) for one in value]
    fixed = key in {"kind", "form", "status", "verdict", "schema_version"}
    return value + text if isinstance(value, str) and not fixed else value


HARMED: dict[str, Callable[[Document], Any]] = {
    "integers of 400 digits": lambda one: values(one, 10**400),
    "numbers of 300 digits": lambda one: values(one, [1e308, -1e308, 5e-324]),
    "lists nested 700 deep": lambda one: values(one, nested(700)),
    "lists nested 300 deep": lambda one: values(one, nested(300)),
    "values of every kind": lambda one: values(one, [None, True, "x", 1.5, {"a": [1, "2", None]}, []]),
    "ragged arrays": lambda one: values(one, [[1, 2], [3], [], [[4]]]),
    "texts for numbers": lambda one: values(one, "12 apples"),
    "NaN by name": lambda one: values(one, ["NaN", "Infinity", "nan"]),
    "a value of 10 MB": lambda one: values(one, "x" * 10**7),
    "an array of 10**5 numbers": lambda one: values(one, [0.5] * 10**5),
    "seconds that are negative": lambda one: [column.update(seconds=-1e300) for column in one["columns"]],
    "seconds without an end": lambda one: [column.update(seconds=1e308) for column in one["columns"]],
    "a date that is none": lambda one: [column.update(date="the day before") for column in one["columns"]],
    "two columns of one name": lambda one: one["columns"].append(one["columns"][1]),
    "no reference": lambda one: one["columns"][0].update(reference=False),
    "references only": lambda one: one["columns"][1].update(reference=True),
    "no observation": lambda one: [cell.update(observations=[]) for cell in one["columns"][0]["scenarios"]],
    "no scenario": lambda one: [column.update(scenarios=[]) for column in one["columns"]],
    "a scenario twice": lambda one: one["columns"][0]["scenarios"].append(one["columns"][0]["scenarios"][0]),
    "names without a letter": lambda one: [column.update(name="", title="") for column in one["columns"]],
    "code that names itself": lambda one: [
        code.update(helpers=list(column["code"]))
        for column in one["columns"]
        for code in column["code"].values()
    ],
    "drawings that cannot be drawn": lambda one: [
        seen.update(form=form, kind="drawing", value=[1, {"x": "y"}, None])
        for column in one["columns"]
        for cell in column["scenarios"]
        for seen, form in zip(cell["observations"], ("matrices", "curves", "histograms", "ties") * 9)
    ],
    "outcomes that are none": lambda one: [
        seen.update(kind="outcome", value=[1, None])
        for column in one["columns"]
        for cell in column["scenarios"]
        for seen in cell["observations"]
    ],
}


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(harm, marks=pytest.mark.fault(f"a file of results has {name}"))
        for name, harm in HARMED.items()
    ],
)
def test_what_is_harmed_is_shown_or_refused(
    harm: Callable[[Document], Any], place: Place, written: bytes, saw: Saw
) -> None:
    process = report(place, changed(written, harm))
    said = process.stderr.replace(str(place.root), "...").strip()
    if process.returncode == 2:
        assert said.startswith("Error: cannot ")
        assert "\n" not in said
    else:
        assert said == ""
    saw(said[:120] or f"shown; exit code {process.returncode}")


@pytest.mark.fault("a file of results has fields of other types")
def test_fields_of_other_types(place: Place, written: bytes, saw: Saw) -> None:
    for field, value in {
        "columns": {},
        "rows": 1,
        "groups": [],
        "left_out": {"a": 1},
        "interrupted": "no",
        "schema_version": "1",
    }.items():
        refusal(place, changed(written, lambda one: one.update({field: value})), "it is not what `compare")  # noqa: B023
    saw("each refused in one sentence, which says where")


@pytest.mark.fault("a file of results has each key twice")
def test_each_key_twice(place: Place, written: bytes, saw: Saw) -> None:
    text = written.decode().replace('"name": "healthy"', '"name": 7, "name": "healthy"')
    refusal(place, text.encode(), "it is not what `compare --output` writes")
    text = written.decode().replace('"name": "healthy"', '"name": "numpy", "name": "healthy"')
    assert '"name": "numpy", "name": "healthy"' in text
    report(place, text.encode(), 0)
    saw("the last one counts")


@pytest.mark.fault("a file of results has a number that no float can hold")
def test_a_number_without_a_float(place: Place, written: bytes, saw: Saw) -> None:
    text = changed(written, lambda one: one["columns"][0].update(seconds=12321.5)).replace(b"12321.5", b"1e999")
    saw(refusal(place, text, "cannot read"))


@pytest.mark.parametrize(
    "place_of",
    [
        pytest.param("rows", marks=pytest.mark.fault("a file of results has 10**6 rows")),
        pytest.param("observations", marks=pytest.mark.fault("a file of results has 10**6 observations")),
        pytest.param("columns", marks=pytest.mark.fault("a file of results has 10**5 columns")),
    ],
)
def test_a_million(place_of: str, place: Place, written: bytes, saw: Saw) -> None:
    document = json.loads(written)
    if place_of == "rows":
        document["rows"] = []
        row = {"scenario": "forward", "observation": "x", "kind": "trait", "verdict": "same"}
        extra = b",".join([json.dumps(row).encode()] * 10**6)
    elif place_of == "observations":
        document["columns"][1]["scenarios"][0]["observations"] = []
        extra = b",".join(b'{"name": "%d", "kind": "trait", "value": 1}' % number for number in range(10**6))
    else:
        document["columns"] = []
        extra = b",".join([b'{"name": "one", "backend": "one", "title": "One"}'] * 10**5)
    text = json.dumps(document).encode()
    key = f'"{place_of}": []'.encode()
    assert key in text
    before, _, after = text.partition(key)
    began = time.monotonic()
    process = report(place, before + key[:-1] + extra + b"]" + after)
    said = process.stderr.replace(str(place.root), "...").strip()
    saw(f"{said or 'shown'}, after {time.monotonic() - began:.0f} s")


@pytest.mark.fault("a file of results has escape sequences and markup in each of its texts")
def test_what_would_act_on_a_screen(place: Place, written: bytes, saw: Saw) -> None:
    hostile = "\x1b]0;mine\x07\x1b[2J\x9b31m\u202e|`\n\r\0"
    hostile += "[bold]red[/nobold]<script>alert(1)</script><img src=x onerror=1>"
    content = json.dumps(every_text(json.loads(written), hostile)).encode()
    report(place, content)
    for name in ("y.html", "y.md", "y.svg"):
        text = (place.out / name).read_text(encoding="utf-8")
        assert "\x1b" not in text, name
        assert "\0" not in text, name
        if name != "y.md":
            assert "<script>alert" not in text, name
            assert "<img src=x" not in text, name
    shown = place.command("report", place.root / "given.json", seconds=SECONDS)
    place.check(shown, shown.returncode, "y.html", "y.json", "y.md", "y.svg")
    for sign in "\x1b\x07\x9b\0\r":
        assert sign not in shown.stdout + shown.stderr, repr(sign)
    saw("shown as plain text everywhere")


# -- what is no file -----------------------------------------------------------------------------------------


@pytest.mark.fault("a pipe by name instead of a file")
def test_a_pipe_by_name(place: Place, written: bytes, saw: Saw) -> None:
    pipe = place.root / "pipe.json"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(written,))
    writer.start()
    process = place.command("report", pipe)
    writer.join(10)
    place.check(process, 0)
    assert "0 disagree" in process.stdout
    saw("read and shown")


@pytest.mark.fault("a pipe by name into which nobody writes, and Ctrl-C")
def test_a_pipe_into_which_nobody_writes(place: Place, saw: Saw) -> None:
    pipe = place.root / "pipe.json"
    os.mkfifo(pipe)
    with place.start("report", pipe) as process:
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    place.check(subprocess.CompletedProcess(process.args, process.returncode, output, errors), 130)
    saw("exit code 130")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("nowhere.json", "No such file", marks=pytest.mark.fault("a file that is not there")),
        pytest.param(".", "Is a directory", marks=pytest.mark.fault("a folder instead of a file")),
        pytest.param("large.json", "larger than 1 GiB", marks=pytest.mark.fault("a file of a terabyte")),
        pytest.param("/dev/zero", "larger than 1 GiB", marks=pytest.mark.fault("a file without an end")),
        pytest.param("loop.json", "symbolic links", marks=pytest.mark.fault("a link to itself")),
        pytest.param("x" * 300, "File name too long", marks=pytest.mark.fault("a name of 300 letters")),
    ],
)
def test_what_is_no_file(name: str, sentence: str, place: Place, saw: Saw) -> None:
    with (place.root / "large.json").open("wb") as file:
        file.truncate(2**40)  # a hole, which takes no room
    (place.root / "loop.json").symlink_to(place.root / "loop.json")
    process = place.command("report", name, cwd=place.root)
    place.check(process, 2)
    assert process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert sentence in line
    saw(line[:100])
