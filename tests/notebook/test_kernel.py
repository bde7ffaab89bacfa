"""The magics in a real kernel that has no framework, on the real frameworks."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FRAMEWORKS = ("PyTorch", "MXNet", "JAX/Flax", "TensorFlow/Keras")
TELL = "import os; print('pid', os.getpid())\n"


def pids(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"pid (\d+)", text)]


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(numbers: list[int]) -> bool:
    """Whether all have ended, within the time that ending takes."""
    limit = time.monotonic() + 15
    while any(map(alive, numbers)) and time.monotonic() < limit:
        time.sleep(0.05)
    return bool(numbers) and not any(map(alive, numbers))


def children(pid: int) -> list[int]:
    """The processes below a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid and alive(int(folder.name)):
            found += [int(folder.name), *children(int(folder.name))]
    return found


# -- %%compare -------------------------------------------------------------------------------------------------


def test_a_cell_is_a_scenario(kernel: Any) -> None:
    reply = kernel.run(
        "%%compare --name seen\n"
        "'''What is the first weight called?'''\n"
        "model = backend.mlp(MLP(sizes=(4, 8, 1)))\n"
        "observe.trait('name', backend.parameter(model, 0, 'weight').native_name)\n"
        "observe.invariant('shape', list(backend.parameter(model, 0, 'weight').shape), expected=[8, 4])\n"
        "observe.invariant('twice', np.arange(3) * 2)\n"
    )
    assert reply.status == "ok", reply.error
    assert "<Comparison of numpy, torch, mxnet, jax, tensorflow: 2 agree, 1 differ>" in reply.text
    assert kernel.value("_ is seen") is True
    names = kernel.value("{row.observation: row.values for row in seen.rows}")["name"]
    assert names == {
        "numpy": names["numpy"],
        "torch": "0.weight",
        "mxnet": names["mxnet"],
        "jax": "layers_0.kernel",
        "tensorflow": names["tensorflow"],
    }
    assert kernel.value("seen.questions") == {"cell": "What is the first weight called?"}
    # No board is left, and no name of the cell.
    assert [one["data"]["text/plain"] for one in reply.outputs[:-1]] in ([], [""])
    assert kernel.value("'model' in globals() or 'backend' in globals()") is False


def test_a_failure_shows_the_line_of_the_cell(kernel: Any) -> None:
    reply = kernel.run("%%compare torch\nx = 1\n\nbackend.parameter(backend.mlp(MLP((4, 1))), 7, 'weight')\n")
    assert "✗ NumPy, PyTorch: failed: ValueError: " in reply.text
    assert re.search(r'File "<cell \d+>", line 4, in <module>\n +backend\.parameter\(', reply.text)
    assert "own_cell" not in reply.text
    assert "Comparison of numpy, torch" in reply.text


def test_unsupported_is_no_failure(kernel: Any) -> None:
    reply = kernel.run("%%compare torch\nraise Unsupported('it has no such thing')\n")
    assert "✗" not in reply.text
    assert kernel.value("[run.scenarios[0].status for run in _.columns]") == ["unsupported"] * 2


def test_what_is_no_python_is_told_before_anything_starts(kernel: Any) -> None:
    reply = kernel.run("%%compare torch\nx = 1\ny = (2\n")
    assert reply.status == "error"
    assert "was never closed" in reply.error
    assert "magics.py" not in reply.error
    assert re.search(r"<cell \d+>:3|line 3", reply.error)
    assert children(kernel.manager.provisioner.pid) == []


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("%%compare torhc\nx", "no backend 'torhc'; did you mean 'torch'?"),
        ("%%tab\nx", "%%tab needs a column: torch, mxnet, jax, tensorflow, or all"),
        ("%%tab torch\n%%tab jax\nx", "no code stands below `%%tab torch` in line 1 of the cell"),
        ("%tab --again", "%tab: unrecognized arguments: --again"),
    ],
)
def test_bad_usage_is_one_sentence(kernel: Any, cell: str, sentence: str) -> None:
    reply = kernel.run(cell)
    assert reply.status == "error"
    assert reply.text.startswith(f"UsageError: {sentence}")
    assert reply.text.strip().count("\n") == 0


def test_an_interrupt_stops_the_workers_and_shows_what_was_known(kernel: Any) -> None:
    cell = kernel.start(
        "%%compare torch numpy --name seen\nobserve.trait('first', 1)\nwhile backend.name == 'torch': pass\n"
    )
    # The board says so when both are at it, or have been.
    kernel.follow(cell, until=lambda reply: "cell" in reply.text)
    time.sleep(1)
    running = children(kernel.manager.provisioner.pid)
    kernel.interrupt()
    reply = kernel.follow(cell, 30)
    assert reply.status == "error"
    assert "Interrupted: what was known by then is shown." in reply.error
    assert "Traceback" not in reply.error
    assert gone(running)
    assert kernel.value("seen.interrupted, seen.columns[1].scenarios[0].error.message") == (True, "interrupted")
    assert "1 same" in kernel.run("%%compare numpy\nobserve.trait('again', 2)\n").text


def test_a_cell_finds_a_new_process_that_has_waited_for_it(kernel: Any) -> None:
    cell = (
        "%%compare torch --name seen\nimport os\nobserve.trait('pid', os.getpid())\n"
        "if backend.name == 'torch':\n    import torch\n"
        "    observe.trait('before', str(torch.get_default_dtype()))\n"
        "    torch.set_default_dtype(torch.float64)\n"
    )
    used: list[int] = []
    waiting: list[int] = []
    for _ in range(3):
        assert kernel.run(cell).status == "ok"
        values = kernel.value("{row.observation: row.values['torch'] for row in seen.rows}")
        assert values["before"] == "torch.float32"
        used.append(values["pid"])
        assert not used[1:] or used[-1] in waiting
        waiting = children(kernel.manager.provisioner.pid)
        assert len(waiting) == 2
    assert gone(used)
    kernel.run("%unload_ext d2lparams")
    assert gone(waiting)


def test_it_runs_in_a_thread_too(kernel: Any) -> None:
    kernel.run(
        "import threading\nfound = []\n"
        "def go():\n"
        "    found.append(get_ipython().run_cell_magic('compare', 'numpy', 'observe.trait(\"a\", 1)'))\n"
        "thread = threading.Thread(target=go); thread.start(); thread.join()\n"
    )
    assert kernel.value("len(found[0].rows)") == 1


# -- %%tab -----------------------------------------------------------------------------------------------------


def test_four_tabs_in_one_cell(kernel: Any) -> None:
    reply = kernel.run(
        "%%tab torch\nimport torch\ntorch.arange(3)\n"
        "%%tab mxnet\nfrom mxnet import np\nnp.arange(3)\n"
        "%%tab jax\nimport jax.numpy as jnp\njnp.arange(3)\n"
        "%%tab tensorflow\nimport tensorflow as tf\ntf.range(3)\n"
    )
    assert reply.status == "ok", reply.error
    assert [one for one in FRAMEWORKS if f"{one}\n{'-' * len(one)}\n" in reply.text] == list(FRAMEWORKS)
    for value in (
        "tensor([0, 1, 2])",
        "array([0., 1., 2.])",
        "Array([0, 1, 2], dtype=int32)",
        "numpy=array([0,",
    ):
        assert value in reply.text
    assert reply.page.count('<input type="radio"') == 4
    assert "<script" not in reply.page
    assert len(reply.outputs) == 1


def test_state_is_kept_and_nothing_leaks(kernel: Any) -> None:
    kernel.run("%%tab torch jax\nimport sys\nsecret = sys.executable\n")
    reply = kernel.run("%%tab torch\nsecret\n%%tab jax\nsecret\n")
    paths = re.findall(r"'(/.*/bin/python)'", reply.text)
    assert len(set(paths)) == 2
    assert kernel.value("'secret' in globals()") is False
    modules = kernel.run("%%tab torch jax\nsorted({'torch', 'jax'} & set(__import__('sys').modules))\n")
    assert modules.text.count("[]") == 2  # nothing is imported before it is asked for
    other = kernel.run("%%tab torch\nsecret = 1\n%%tab jax\nsecret == 1\n")
    assert "False" in other.text


def test_a_failing_tab_fails_the_cell_and_spares_the_others(kernel: Any) -> None:
    reply = kernel.run("%%tab torch\nprint('here')\n1 / 0\n%%tab jax\n'as ever'\n")
    assert reply.status == "error"
    assert reply.error == "PyTorch: ZeroDivisionError: division by zero"
    assert "here" in reply.text
    assert "'as ever'" in reply.text
    assert re.search(r'File "<cell \d+>", line 3, in <module>\n    1 / 0\n', reply.text)
    assert kernel.run("1").status == "ok"


def test_an_interrupt_keeps_what_was_defined(kernel: Any) -> None:
    cell = kernel.start("%%tab torch\nkept = 5\nprint('it runs')\nwhile True: pass\n")
    kernel.follow(cell, until=lambda reply: "it runs" in reply.text)
    kernel.interrupt()
    reply = kernel.follow(cell, 30)
    assert reply.status == "error"
    assert reply.error == "Interrupted."
    assert "KeyboardInterrupt" in reply.text
    assert "5" in kernel.run("%%tab torch\nkept\n").text


def test_a_crash_costs_its_own_tab(kernel: Any) -> None:
    kernel.run("%%tab torch jax\nkept = 5\n")
    reply = kernel.run("%%tab torch\nimport ctypes; ctypes.string_at(0)\n%%tab jax\nkept\n")
    assert reply.status == "error"
    assert "PyTorch: the process was killed by SIGSEGV" in reply.error
    after = kernel.run("%%tab torch\n'kept' in globals()\n%%tab jax\nkept\n")
    assert after.status == "ok"
    assert "what was defined before is gone: the process was killed by SIGSEGV" in after.text
    assert "False" in after.text
    assert re.search(r"JAX/Flax\n-+\n5", after.text)


def test_a_flood_is_shown_within_bounds(kernel: Any) -> None:
    reply = kernel.run("%%tab numpy\nfor i in range(2000): print('x' * 10_000)\nprint('the end')\n", 120)
    assert reply.status == "ok"
    assert "bytes are left out here" in reply.text
    assert "the end" in reply.text
    assert len(reply.page) < 300_000


def test_parts_run_at_the_same_time(kernel: Any, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    code = "import os, time\nopen({!r}, 'w').close()\nwhile not os.path.exists({!r}): time.sleep(0.01)\n"
    mine, theirs = code.format(str(one), str(other)), code.format(str(other), str(one))
    assert kernel.run(f"%%tab numpy\n{mine}'met'\n%%tab torch\n{theirs}'met'\n", 60).text.count("'met'") == 2


def test_processes_are_listed_started_anew_and_ended(kernel: Any) -> None:
    first = pids(kernel.run(f"%%tab numpy torch\n{TELL}kept = 1\n").text)
    listed = kernel.run("%tab").text
    assert all(f"process {number}" in listed for number in first)
    assert "numpy: what was defined is gone" in kernel.run("%tab --restart numpy").text
    second = kernel.run(f"%%tab numpy torch\n{TELL}'kept' in globals()\n").text
    assert re.findall(r"True|False", second) == ["False", "True"]
    assert "This is a new process" not in second  # the user knows
    kernel.run("%tab --stop")
    assert gone([*first, *pids(second)])
    assert "no process runs" in kernel.run("%tab").text


def test_a_tab_can_have_more_packages_and_shows_figures(kernel: Any) -> None:
    reply = kernel.run(
        "%%tab numpy --with matplotlib\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.figure();\n"
    )
    assert reply.status == "ok", reply.error
    assert reply.page.count('src="data:image/png;base64,iVBOR') == 2
    assert "[]" in kernel.run("%%tab numpy\nplt.get_fignums()\n").text
    assert "with matplotlib" in kernel.run("%tab").text


def test_an_environment_that_cannot_be_built_says_so_in_its_tab(kernel: Any) -> None:
    reply = kernel.run("%%tab numpy --with 'numpy==0.0.1'\n1\n%%tab torch\n'as ever'\n")
    assert reply.status == "error"
    assert "could not be installed" in reply.error
    assert "'as ever'" in reply.text


@pytest.mark.parametrize("end", ["shutdown", "kill"])
def test_no_process_outlives_the_kernel(new_kernel: Callable[[], Any], end: str) -> None:
    kernel = new_kernel()
    text = kernel.run(
        "%%tab numpy torch\nimport subprocess\n"
        + TELL
        + "print('pid', subprocess.Popen(['sleep', '999']).pid)\n"
    ).text
    numbers = pids(text)
    assert len(numbers) == 4
    assert all(map(alive, numbers))
    if end == "kill":
        os.kill(kernel.manager.provisioner.pid, signal.SIGKILL)
    else:
        kernel.manager.shutdown_kernel()
    assert gone(numbers)


def test_unloading_ends_everything(kernel: Any) -> None:
    numbers = pids(kernel.run(f"%%tab numpy\n{TELL}").text)
    kernel.run("%unload_ext d2lparams")
    assert gone(numbers)
    assert kernel.run("%%tab numpy\n1\n").status == "error"
    kernel.run("%load_ext d2lparams")
    assert "1" in kernel.run("%%tab numpy\n1\n").text
