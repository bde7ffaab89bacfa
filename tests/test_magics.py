"""The magics' words and bounds, without a kernel: what cells are split into, what is asked, what is shown."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from d2lparams.bounded import Bounded, within
from d2lparams.cells import Cells, figures, looks
from d2lparams.columns import Column, UsageError, adapters
from d2lparams.environments import Environment
from d2lparams.notebook import load, unload
from d2lparams.notebook.arguments import compare_options, tab_options, tab_orders
from d2lparams.notebook.board import Board
from d2lparams.notebook.comparing import failures, scenario_of
from d2lparams.notebook.splitting import numbered, parts
from d2lparams.notebook.tabs import Order, Output, Tabs
from d2lparams.notebook.view import bundle, shown
from d2lparams.results import Failure, Run, ScenarioResult
from d2lparams.runner import Event


def column(name: str = "torch") -> Column:
    return Column(name, adapters()[name.partition("@")[0]])


def names(columns: Any) -> list[str]:
    return [one.name for one in columns]


# -- what is kept of what is printed ---------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_the_beginning_and_the_end_are_kept(step: int) -> None:
    text = bytes(range(97, 123)) * 4
    bounded = Bounded(kept=10)
    for start in range(0, len(text), step):
        bounded.add(text[start : start + step])
    assert str(bounded) == "abcdefghij\n[... 84 bytes are left out here ...]\nqrstuvwxyz"
    assert bounded.left_out == 84


@pytest.mark.parametrize("size", [0, 1, 19, 20])
def test_what_fits_is_whole(size: int) -> None:
    assert within("é"[:size] + "x" * max(size - 2, 0), kept=10) == "é"[:size] + "x" * max(size - 2, 0)


def test_no_character_is_halved_at_a_seam() -> None:
    text = within("aéééé" * 20, kept=10)
    assert "\ufffd" not in text
    assert text.startswith("aéééé"[:4])


@pytest.mark.parametrize(
    ("printed", "left"),
    [
        ("a\nb\n", "a\nb\n"),
        ("10%\r50%\r100%\n", "100%\n"),
        ("loss 1\b2 done", "loss 2 done"),
        ("half\r", "half"),
        ("windows\r\n", "windows\n"),
        ("\x1b[1mbold\x1b[0m", "bold"),
        ("\b\b\b\bx", "x"),
    ],
)
def test_printed_text_is_as_a_terminal_leaves_it(printed: str, left: str) -> None:
    assert shown(printed) == left


# -- the parts of a cell ---------------------------------------------------------------------------------------


def test_each_line_begins_a_part_and_lines_keep_their_numbers() -> None:
    found = parts("torch", "a\nb\n%%tab jax flax\nc\n  %%tab is code here\n%%tabs, too\n")
    assert [part.line for part in found] == ["torch", "jax flax"]
    assert found[0].source.splitlines() == ["", "a", "b"]
    assert found[1].source.splitlines() == [*[""] * 4, "c", "  %%tab is code here", "%%tabs, too"]


@pytest.mark.parametrize("body", ["", "\n  \n", "%%tab jax\nx"])
def test_a_part_without_code(body: str) -> None:
    with pytest.raises(UsageError, match=r"no code stands below `%%tab torch` in line 1"):
        parts("torch", body)


def test_a_later_part_without_code() -> None:
    with pytest.raises(UsageError, match=r"`%%tab jax` in line 3"):
        parts("torch", "x\n%%tab jax\n")


# -- what is asked ---------------------------------------------------------------------------------------------


def test_compare_runs_everywhere_beside_the_reference() -> None:
    assert names(compare_options("").columns) == list(adapters())
    assert compare_options("all") == compare_options("")
    assert names(compare_options("flax pytorch").columns) == ["numpy", "jax", "torch"]


def test_compare_takes_options_among_columns() -> None:
    found = compare_options("torch --timeout 2.5 jax --name seen --title 'What is it?' --offline --quiet")
    assert names(found.columns) == ["numpy", "torch", "jax"]
    assert (found.timeout, found.name, found.title) == (2.5, "seen", "What is it?")
    assert found.offline
    assert found.quiet


def test_a_tab_is_no_reference_unless_it_is_asked_for() -> None:
    assert names(tab_options("all").columns) == [name for name, one in adapters().items() if not one.reference]
    assert names(tab_options("torch pytorch numpy").columns) == ["torch", "numpy"]
    assert tab_options("torch --with 'matplotlib >= 3' --with pandas jax").requirements == (
        "matplotlib>=3",
        "pandas",
    )


def test_orders_to_tabs() -> None:
    assert tab_orders("").action == "list"
    assert names(tab_orders("--restart torch jax").columns) == ["torch", "jax"]
    assert tab_orders("--stop").columns == tab_orders("--stop all").columns == ()
    assert tab_orders("--stop").action == "stop"


@pytest.mark.parametrize(
    ("read", "line", "sentence"),
    [
        (compare_options, "pytorhc", "no backend 'pytorhc'; did you mean 'pytorch'?"),
        (compare_options, "--timeout 0", "--timeout takes a number of seconds above 0; got 0"),
        (compare_options, "--timeout soon", "%%compare: argument --timeout: invalid float value: 'soon'"),
        (compare_options, "--name 2x", "--name takes the name of a variable; got '2x'"),
        (compare_options, "--time 3", "%%compare: unrecognized arguments: --time"),
        (compare_options, "--title 'a", "%%compare cannot be read: No closing quotation"),
        (tab_options, "", "%%tab needs a column: torch, mxnet, jax, tensorflow, or all"),
        (tab_options, "torch --with =3", "--with takes a package, such as 'matplotlib>=3.9'; got '=3': "),
        (tab_options, "torch@0", "cannot build torch@0"),
        (tab_orders, "torch", "%tab: unrecognized arguments: torch; `%tab?` shows what there is"),
        (tab_orders, "--stop torch --restart jax", "not allowed with argument"),
    ],
)
def test_bad_usage_is_one_sentence(read: Any, line: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


# -- a cell as a scenario --------------------------------------------------------------------------------------


def test_a_text_at_the_top_is_the_question() -> None:
    cell = scenario_of(numbered('"""Which?\n\nAnd why?"""\nx = 1\n'), "<cell 1>")
    assert (cell.scenario.title, cell.scenario.question) == ("Cell 1", "Which?\n\nAnd why?")
    assert scenario_of("x", "<cell 1>").scenario.question == ""
    assert scenario_of("'Which?'", "<cell 1>", "Mine").scenario.title == "Mine"


@pytest.mark.parametrize(("body", "line"), [("x = (1\n", 2), ("x = 1\nreturn x\n", 3), ("\n\tx\ny\n", 3)])
def test_what_is_no_python_names_the_line_of_the_cell(body: str, line: int) -> None:
    with pytest.raises(SyntaxError) as caught:
        scenario_of(numbered(body), "<cell 7>")
    assert (caught.value.filename, caught.value.lineno) == ("<cell 7>", line)


def ended(title: str, status: Any, error: Failure | None, log: str = "") -> Run:
    cell = ScenarioResult("cell", "6.2", "t", status=status, error=error)
    return Run(title, title, title, status=status, error=error, scenarios=[cell], log=log)


def test_failures_of_one_kind_are_told_once_and_as_text() -> None:
    error = Failure("NameError: <b>", "Traceback\n<script>alert(1)</script>")
    runs = [ended("A", "failed", error), ended("B", "ok", None), ended("C", "failed", error)]
    found = failures(
        [*runs, ended("D", "unsupported", Failure("it cannot")), ended("E", "timeout", None, "/l")]
    )
    assert found is not None
    assert found["text/plain"].startswith("✗ A, C: failed: NameError: <b>\nTraceback\n")
    assert "✗ E: timeout: no more is known\nlog: /l" in found["text/plain"]
    assert "<script>" not in found["text/html"]
    assert "&lt;script&gt;" in found["text/html"]
    assert failures(runs[1:2]) is None


# -- a namespace of cells --------------------------------------------------------------------------------------


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> Cells:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    return Cells()


@pytest.mark.parametrize(
    ("source", "plain"),
    [
        ("1 + 1", "2"),
        ("x = 1", None),
        ("None", None),
        ("1;", None),
        ("1  ;  # silent", None),
        ("'a;'", "'a;'"),
        ("[1,\n 2]", "[1, 2]"),
        ("if True:\n    3", None),
        ("", None),
    ],
)
def test_the_last_expression_is_shown(cells: Cells, source: str, plain: str | None) -> None:
    found = cells.run(source, "<cell>")
    assert (found and found["text/plain"]) == plain


def test_names_and_futures_and_the_last_value_stay(cells: Cells) -> None:
    cells.run("from __future__ import annotations\nx = 2", "<cell 1>")
    cells.run("def f(a: Nowhere): return a * x\nf(4)", "<cell 2>")
    found = cells.run("_ + 1", "<cell 3>")
    assert found == {"text/plain": "9"}


def test_classes_of_a_cell_can_be_pickled(cells: Cells) -> None:
    cells.run("import dataclasses, pickle\n@dataclasses.dataclass\nclass P:\n    x: int", "<cell 1>")
    assert cells.run("pickle.loads(pickle.dumps(P(3)))", "<cell 2>") == {"text/plain": "P(x=3)"}


def test_what_an_object_says_of_its_looks_is_taken_and_what_fails_is_told(capsys: Any) -> None:
    class Picture:
        def _repr_html_(self) -> str:
            return "<b>x</b>"

        def _repr_png_(self) -> bytes:
            return b"PNG"

        def _repr_svg_(self) -> str:
            raise ValueError("no")

        def __repr__(self) -> str:
            return "P"

    assert looks(Picture()) == {"text/plain": "P", "text/html": "<b>x</b>", "image/png": "UE5H"}
    assert "Picture._repr_svg_ raised ValueError: no" in capsys.readouterr().err
    assert set(looks(Picture)) == {"text/plain"}


def test_a_long_value_is_bounded() -> None:
    assert len(looks("x" * 10**6)["text/plain"]) < 210_000
    assert looks(list(range(10**5)))["text/plain"].startswith("[0, 1, 2")


def test_without_matplotlib_there_are_no_figures() -> None:
    assert "matplotlib.pyplot" not in sys.modules
    assert list(figures()) == []


# -- a process of cells, in this program's own Python ----------------------------------------------------------


@pytest.fixture
def tabs(monkeypatch: pytest.MonkeyPatch) -> Any:
    here = Environment("numpy", Path(sys.prefix), Path(sys.executable), {}, "")
    monkeypatch.setattr("d2lparams.environments.ensure", lambda *arguments, **options: here)
    made = Tabs()
    yield made
    made.stop()


def run(tabs: Tabs, source: str, interrupted: Any = lambda: 0, on_event: Any = lambda event: None) -> Output:
    order = Order([column("numpy")], numbered(source), "<cell 1>")
    (output,) = tabs.run([order], interrupted, on_event)
    return output


def test_what_is_printed_comes_in_order_whoever_prints(tabs: Tabs) -> None:
    output = run(
        tabs,
        "import ctypes, os, sys\n"
        "print('one'); print('two', file=sys.stderr); os.write(1, b'three\\n')\n"
        "ctypes.CDLL(None).printf(b'four\\n'); os.system('echo five'); print('six', end='')\n",
    )
    assert output.error is None
    assert output.printed == "one\ntwo\nthree\nfour\nfive\nsix"


def test_a_flood_is_bounded(tabs: Tabs) -> None:
    output = run(tabs, "print('begin')\nfor _ in range(300): print('x' * 10_000)\nprint('end')")
    assert output.error is None
    assert output.printed.startswith("begin\n")
    assert output.printed.endswith("end\n")
    assert "2,800,3" in output.printed
    assert len(output.printed) < 210_000


def test_an_exception_shows_the_cell_and_nothing_of_ours(tabs: Tabs) -> None:
    output = run(tabs, "x = 1\n\ndef f():\n    raise KeyError(x)\nf()\n")
    assert output.error is not None
    assert output.error.message == "KeyError: 1"
    lines = [line for line in output.error.detail.splitlines() if line.startswith("  File")]
    assert lines == ['  File "<cell 1>", line 6, in <module>', '  File "<cell 1>", line 5, in f']
    assert "    raise KeyError(x)\n" in output.error.detail
    assert run(tabs, "x").shown == [{"text/plain": "1"}]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("input()", "EOFError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("x =", "SyntaxError: invalid syntax (<cell 1>, line 2)"),
        ("class B:\n    def __repr__(self): raise OSError('no')\nB()", "OSError: no"),
    ],
)
def test_what_a_cell_raises_costs_no_state(tabs: Tabs, source: str, message: str) -> None:
    run(tabs, "kept = 5")
    output = run(tabs, source)
    assert output.error is not None
    assert message in output.error.message
    assert "d2lparams" not in output.error.detail
    assert run(tabs, "kept").shown == [{"text/plain": "5"}]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; print('last', flush=True); os._exit(3)", "the process left with exit code 3"),
        ("import ctypes; print('last'); ctypes.string_at(0)", "the process was killed by SIGSEGV"),
        ("import os; os.write(1, b'last'); os.kill(os.getpid(), 9)", "the process was killed by SIGKILL"),
    ],
)
def test_a_process_that_dies_says_so_and_the_next_cell_too(tabs: Tabs, source: str, reason: str) -> None:
    run(tabs, "kept = 5")
    output = run(tabs, source)
    assert output.error is not None
    assert output.error.message.startswith(reason)
    assert "last" in output.printed
    after = run(tabs, "'kept' in globals()")
    assert after.shown == [{"text/plain": "False"}]
    assert reason in after.notes[0]
    assert not run(tabs, "1").notes


def test_a_process_that_dies_between_cells(tabs: Tabs) -> None:
    run(tabs, "import os, threading\nthreading.Timer(0.05, os._exit, [4]).start()")
    limit = time.monotonic() + 10
    while tabs.running and time.monotonic() < limit:
        time.sleep(0.02)
    assert "the process left with exit code 4 between two cells" in run(tabs, "1").notes[0]


def test_an_interrupt_stops_the_cell_and_keeps_the_state(tabs: Tabs) -> None:
    running: list[Event] = []
    output = run(
        tabs,
        "kept = 5\nprint('it runs')\nwhile True: pass",
        interrupted=lambda: any("it runs" in event.activity for event in running),
        on_event=running.append,
    )
    assert output.error is not None
    assert output.error.message == "KeyboardInterrupt"
    assert run(tabs, "kept").shown == [{"text/plain": "5"}]


def test_a_cell_that_does_not_heed_an_interrupt_is_killed(tabs: Tabs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2lparams.notebook.tabs.GRACE", 0.3)
    running: list[Event] = []
    output = run(
        tabs,
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('it runs')\nwhile True: pass",
        interrupted=lambda: any("it runs" in event.activity for event in running),
        on_event=running.append,
    )
    assert output.error is not None
    assert output.error.message.startswith("the cell did not stop within 0.3 s and its process was killed")
    assert not tabs.running


def test_no_child_of_a_cell_stays_behind(tabs: Tabs) -> None:
    output = run(tabs, "import subprocess\nsubprocess.Popen(['sleep', '600']).pid")
    pid = int(output.shown[0]["text/plain"])
    assert tabs.stop() == ["numpy"]
    limit = time.monotonic() + 10
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    if state.parent.parent.is_dir() and not state.exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Nobody may be there to take note of its death.
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_a_fork_that_comes_to_the_end_of_the_cell_reports_nothing(tabs: Tabs) -> None:
    output = run(tabs, "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\n'shown'")
    assert output.error is None
    assert output.shown == [{"text/plain": "'shown'"}]
    assert run(tabs, "2").shown == [{"text/plain": "2"}]


def test_parts_of_one_column_run_in_order_until_one_fails(tabs: Tabs) -> None:
    orders = [Order([column("numpy")], source, "<cell 1>") for source in ("x = 1", "x + y", "print('never')")]
    outputs = tabs.run(orders, lambda: 0, lambda event: None)
    assert [bool(output.error) for output in outputs] == [False, True]
    assert outputs[1].notes == ["What follows for it in this cell was not run (1 more)."]


def test_what_a_running_process_lacks_is_refused(tabs: Tabs) -> None:
    run(tabs, "1")
    with pytest.raises(UsageError, match="the process of numpy runs without pandas; `%tab --stop numpy`"):
        tabs.run([Order([column("numpy")], "1", "<cell 1>", ("pandas",))], lambda: 0, lambda event: None)


def test_signals_between_cells_do_no_harm(tabs: Tabs) -> None:
    run(tabs, "kept = 5")
    process = vars(tabs)["_tabs"]["numpy"]
    vars(process)["_process"].interrupt()
    assert run(tabs, "kept").shown == [{"text/plain": "5"}]


# -- what is displayed -----------------------------------------------------------------------------------------


def test_tabs_need_no_script_and_text_is_text() -> None:
    hostile = "<script>alert(1)</script>"
    outputs = [
        Output(column(), notes=[hostile], printed=hostile, shown=[{"text/plain": hostile}]),
        Output(column("jax"), error=Failure(hostile, f"Traceback\n{hostile}")),
    ]
    found = bundle(outputs)
    assert "<script" not in found["text/html"]
    assert found["text/html"].count('type="radio"') == 2
    assert found["text/plain"].startswith("PyTorch\n-------\n<script>")


def test_each_radio_button_has_a_name_of_its_cell_and_the_failed_tab_is_open() -> None:
    outputs = [Output(column()), Output(column("jax"), error=Failure("it failed"))]
    pages = [bundle(outputs)["text/html"] for _ in range(2)]
    found = [re.findall(r'name="([^"]+)" id="([^"]+)"( checked)?><label for="([^"]+)"', page) for page in pages]
    ids = [identity for page in found for _, identity, _, _ in page]
    assert len(set(ids)) == 4
    assert all(identity == target for page in found for _, identity, _, target in page)
    assert {len({name for name, *_ in page}) for page in found} == {1}
    assert [bool(checked) for _, _, checked, _ in found[0]] == [False, True]
    assert all(f"#{identity}:checked~" in pages[0] for _, identity, _, _ in found[0])


def test_nothing_is_blank() -> None:
    found = bundle([Output(column())])
    assert "(nothing to show)" in found["text/plain"]
    assert "nothing to show" in found["text/html"].lower()


def test_the_richest_form_is_shown() -> None:
    values = [
        {"text/plain": "p", "text/markdown": "*m*"},
        {"text/plain": "p", "image/png": "AAAA"},
        {"text/plain": "p", "text/html": "<i>h</i>", "image/png": "AAAA"},
    ]
    found = bundle([Output(column(), shown=values)])["text/html"]
    assert "<em>m</em>" in found
    assert "<i>h</i>" in found
    assert found.count("data:image/png;base64,AAAA") == 1


def test_the_board_says_what_every_column_does() -> None:
    board = Board({"torch": "PyTorch", "jax": "JAX <b>"}, live=True)
    board(Event("torch", "running: \x1b[1mloss\n0.5", 0, 0, 2.0))
    found = board.bundle()
    assert "PyTorch" in found["text/plain"]
    assert "running: loss 0.5" in found["text/plain"]
    assert "waiting for its turn" in found["text/plain"]
    assert "<b>JAX &lt;b&gt;</b>" in found["text/html"]


def test_loading_needs_no_ipython_and_unloading_undoes_it() -> None:
    known: dict[str, dict[str, Any]] = {"line": {}, "cell": {}}
    shell = SimpleNamespace(
        magics_manager=SimpleNamespace(magics=known),
        register_magic_function=lambda function, kind, name: known[kind].update({name: function}),
    )
    load(shell)
    load(shell)
    assert {kind: sorted(found) for kind, found in known.items()} == {
        "line": ["tab"],
        "cell": ["compare", "tab"],
    }
    assert all("%" in function.__doc__ for found in known.values() for function in found.values())
    unload(shell)
    assert known == {"line": {}, "cell": {}}
