"""Environments, built by the real uv from one tiny package; where time or a network matters, by a false one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uv
from filelock import FileLock
from packaging.specifiers import SpecifierSet

from d2lparams import building
from d2lparams.columns import Column, UsageError, read_adapter
from d2lparams.environments import Cancelled, InstallFailed, clean, ensure, find, location
from d2lparams.registries import names_a_registry, registry_flags, registry_settings

ROOT = Path(__file__).resolve().parent.parent
THIS_PYTHON = f"=={sys.version_info.major}.{sys.version_info.minor}.*"
REGISTRY = ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "DEFAULT_INDEX", "INDEX", "TORCH_BACKEND")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("D2LPARAMS_CACHE", str(folder))
    return folder


@pytest.fixture
def six(tmp_path: Path) -> Column:
    return column(tmp_path)


@pytest.fixture
def false_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in uv's place."""

    def replace(script: str) -> None:
        path = tmp_path / "uv"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(uv, "find_uv_bin", lambda: str(path))

    return replace


def column(
    folder: Path,
    *dependencies: str,
    modules: Iterable[str] = ("six",),
    python: str = THIS_PYTHON,
    later: Iterable[str] = (),
) -> Column:
    path = folder / "tiny.py"
    header = [
        "# /// script",
        f'# requires-python = "{python}"',
        f"# dependencies = {json.dumps(dependencies or ('six==1.17.0',))}",
        "# [tool.d2lparams]",
        '# title = "Tiny"',
        '# class = "Tiny"',
        f"# modules = {json.dumps(list(modules))}",
        f"# later = {json.dumps(list(later))}",
        "# ///",
    ]
    path.write_text("\n".join(header) + "\n")
    return Column("tiny", read_adapter(path))


def no_registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REGISTRY:
        monkeypatch.delenv(f"PIP_{name}", raising=False)
        monkeypatch.delenv(f"UV_{name}", raising=False)


def beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


# -- what is an environment ----------------------------------------------------------------------------------


def test_it_is_built_once_and_found_again(six: Column, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "uv.toml").write_text("no-index = true\n")  # the settings of the user's project are not ours
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    assert find(six) is None

    built = ensure(six, progress=said.append)

    assert built.path == location(six)
    assert built.versions == {"six": "1.17.0"}
    assert SpecifierSet(THIS_PYTHON).contains(built.python_version)
    steps = [f"creating an environment with Python {THIS_PYTHON}", "installing six==1.17.0", "importing six"]
    assert [line for line in said if line in steps] == steps
    assert any(line.startswith("Installed 1 package") for line in said), "uv's own lines are passed on"
    where = subprocess.run(
        [built.python, "-I", "-c", "import six; print(six.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout).is_relative_to(built.path), "it works at the place where it was moved to"
    assert list(built.path.rglob("six.*.pyc")), "bytecode of what is imported is made at the build"

    said.clear()
    assert ensure(six, progress=said.append) == built == find(six)
    assert said == []


def test_bytecode_is_made_of_what_is_imported_now_or_later_and_of_nothing_else(tmp_path: Path) -> None:
    both = ("six==1.17.0", "iniconfig==2.0.0")
    for later, compiled in (([], False), (["iniconfig"], True), (["no_such_module", "iniconfig"], False)):
        built = ensure(column(tmp_path, *both, later=later), rebuild=True)
        assert list(built.path.rglob("six.*.pyc"))
        assert bool(list(built.path.rglob("iniconfig/__pycache__/*.pyc"))) is compiled


def test_without_its_marker_or_its_interpreter_it_is_none(six: Column) -> None:
    built = ensure(six)
    marker = built.path / "d2lparams.json"
    content = marker.read_text()
    for broken in ("", "[]", "{}"):
        marker.write_text(broken)
        assert find(six) is None
    marker.unlink()
    assert find(six) is None

    marker.write_text(content)
    assert find(six) == built
    built.python.unlink()
    built.python.symlink_to("/nowhere/python")
    assert find(six) is None
    assert ensure(six) == built, "and it is built anew"
    assert built.python.exists()


def test_what_a_killed_build_left_is_no_environment_and_goes(six: Column) -> None:
    for ending in (".building", ".old"):
        leftover = beside(location(six), ending)
        leftover.mkdir(parents=True)
        (leftover / "d2lparams.json").write_text("{}")
    assert find(six) is None
    built = ensure(six)
    assert [path for path in built.path.parent.iterdir() if path.is_dir()] == [built.path]


def test_the_key_says_what_would_be_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_registry_of_its_own(monkeypatch)
    constraints = tmp_path / "constraints.txt"

    def place(*dependencies: str, **settings: str) -> Path:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            return location(column(tmp_path, *dependencies))

    places = [
        place("six==1.17.0"),
        place("six==1.16.0"),
        place("six==1.17.0", UV_INDEX_URL="https://one.example/simple"),
        place("six==1.17.0", PIP_INDEX_URL="https://two.example/simple"),
        place("six==1.17.0", PIP_NO_INDEX="1"),
        place("six==1.17.0", UV_TORCH_BACKEND="cpu"),
    ]
    for line in ("six<2", "six<3"):
        constraints.write_text(line)
        places.append(place("six==1.17.0", UV_CONSTRAINT=str(constraints)))
    assert len(set(places)) == len(places)

    assert place("six==1.17.0") == places[0]
    assert place("six==1.17.0", PIP_DEFAULT_TIMEOUT="99") == places[0]
    assert place("six==1.17.0", PIP_INDEX_URL="https://me:word@two.example/simple") == places[3]
    assert location(column(tmp_path, python=">=3.9")) != places[0]


# -- what goes wrong -----------------------------------------------------------------------------------------


def test_a_version_that_does_not_exist(tmp_path: Path) -> None:
    wrong = column(tmp_path, "six==99.0")
    with pytest.raises(InstallFailed) as caught:
        ensure(wrong)
    failure = caught.value.failure
    assert failure.message.startswith("six==99.0 could not be installed: No solution found")
    assert "there is no version of six==99.0" in failure.message
    assert "pip install" in failure.command
    assert failure.command.endswith(f"--project {location(wrong).parent}")
    assert "six==99.0" in failure.detail
    assert len(failure.detail.splitlines()) <= 20
    assert failure.detail in caught.value.log.read_text()
    assert not location(wrong).exists()
    assert not beside(location(wrong), ".building").exists()


def test_a_package_that_cannot_be_imported(tmp_path: Path) -> None:
    wrong = column(tmp_path, modules=["six", "nowhere_to_be_found"])
    with pytest.raises(InstallFailed) as caught:
        ensure(wrong)
    assert str(caught.value) == (
        "six, nowhere_to_be_found was installed but cannot be imported: "
        "ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    )
    assert "Traceback" in caught.value.failure.detail
    assert find(wrong) is None


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time; time.sleep(3600)", "it was ended after 2 s"),
        ("while True: print('x' * 1000)", "it was ended when it had printed 1 MiB"),
    ],
    ids=["hangs", "floods"],
)
def test_an_import_without_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    monkeypatch.setattr(building, "LOG_LIMIT", 2**20)
    monkeypatch.setattr(building, "IMPORT_LIMIT", 2.0 if "sleep" in program else 60.0)
    monkeypatch.setattr(building.Build, "_importing", lambda self, python: [str(python), "-c", program])
    with pytest.raises(InstallFailed, match=f"six was installed but cannot be imported: {said}"):
        ensure(column(tmp_path, modules=["six"]))
    assert not list(location(column(tmp_path, modules=["six"])).parent.glob("*.building"))


def test_a_failed_rebuild_leaves_the_old_one_standing(six: Column, false_uv: Callable[[str], None]) -> None:
    built = ensure(six)
    before = built.python.lstat().st_ino
    assert ensure(six, rebuild=True) == built
    assert built.python.lstat().st_ino != before, "it is another one"

    false_uv("echo error: no luck; exit 2")
    with pytest.raises(InstallFailed, match=r"could be created: no luck$"):
        ensure(six, rebuild=True)
    assert find(six) == built
    assert subprocess.run([built.python, "-c", "import six"], check=False).returncode == 0


def test_no_such_python(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed) as caught:
        ensure(column(tmp_path, python="==3.99.*"), offline=True)
    assert str(caught.value).startswith("no environment with Python ==3.99.* could be created: No interpreter")


def test_a_process_that_is_killed(six: Column, false_uv: Callable[[str], None]) -> None:
    false_uv("kill -SEGV $$")
    with pytest.raises(InstallFailed, match="it was ended by signal 11"):
        ensure(six)


def test_a_cache_that_cannot_be_written(six: Column, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("D2LPARAMS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InstallFailed, match=r"the environment of tiny cannot be built in .*Not a directory"):
        ensure(six)
    assert clean() == []


def test_offline(six: Column, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    with pytest.raises(InstallFailed) as caught:
        ensure(six, offline=True)
    assert "six was not found in the cache" in str(caught.value)
    assert str(caught.value).endswith("run it once without --offline")

    built = ensure(six)
    clean([six])
    assert ensure(six, offline=True) == built


# -- several at once -----------------------------------------------------------------------------------------


def test_two_processes_build_it_once(six: Column) -> None:
    script = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from d2lparams.columns import Column, read_adapter\n"
        "from d2lparams.environments import ensure\n"
        "said = []\n"
        "ensure(Column('tiny', read_adapter(Path(sys.argv[1]))), progress=said.append)\n"
        "print(json.dumps(said))\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, six.adapter.path],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("installing six==1.17.0" in lines for lines in said) == 1
    assert min(said, key=len) in ([], ["waiting for another process to build it"])


def test_a_build_is_cancelled_with_all_that_it_started(
    six: Column, tmp_path: Path, false_uv: Callable[[str], None]
) -> None:
    ticks = tmp_path / "ticks"
    false_uv(f"(while :; do echo tick >> '{ticks}'; sleep 0.05; done) & wait")
    cancelled = threading.Event()
    with ThreadPoolExecutor() as pool:
        build = pool.submit(ensure, six, cancelled=cancelled)
        wait_for(ticks.exists)
        began = time.monotonic()
        cancelled.set()
        with pytest.raises(Cancelled):
            build.result(timeout=10)
    assert time.monotonic() - began < 1
    size = ticks.stat().st_size
    time.sleep(0.3)
    assert ticks.stat().st_size == size
    assert find(six) is None


def test_the_wait_for_another_process_is_cancelled(six: Column) -> None:
    location(six).parent.mkdir(parents=True)
    said: list[str] = []
    cancelled = threading.Event()
    with FileLock(beside(location(six), ".lock")), ThreadPoolExecutor() as pool:
        wait = pool.submit(ensure, six, progress=said.append, cancelled=cancelled)
        wait_for(lambda: said == ["waiting for another process to build it"])
        cancelled.set()
        with pytest.raises(Cancelled):
            wait.result(timeout=10)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- cleaning ------------------------------------------------------------------------------------------------


def test_clean_removes_what_was_built_and_nothing_else(cache: Path, tmp_path: Path) -> None:
    assert clean() == []
    envs = cache / "envs"
    mine = location(column(tmp_path))
    stale = envs / "torch@2.4.1-0123456789ab"
    ours = [mine, beside(mine, ".building"), stale, envs / "gone-0123456789ab.building"]
    others = [envs / "notes", cache / "elsewhere-0123456789ab"]
    for folder in (*ours, *others):
        folder.mkdir(parents=True)
    beside(stale, ".log").touch()

    assert clean([column(tmp_path)]) == ours[:2]
    assert stale.exists()
    assert sorted(clean()) == sorted(ours[2:])
    assert all(folder.exists() for folder in others)
    assert not beside(stale, ".log").exists()
    assert clean() == []


def test_clean_says_what_it_cannot_remove(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "envs" / "torch-0123456789ab").mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise PermissionError(f"not yours: {path}")

    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(UsageError, match=r"cannot remove the environments .*not yours"):
        clean()


# -- where packages come from --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, {}),
        ({"PIP_INDEX_URL": "https://a/simple"}, {"UV_DEFAULT_INDEX": "https://a/simple"}),
        ({"PIP_INDEX_URL": "https://a/simple", "UV_INDEX_URL": "https://b/simple"}, {}),
        ({"PIP_INDEX_URL": " "}, {}),
        (
            {"PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple"},
            {"UV_INDEX": "https://a/simple https://b/simple", "UV_INDEX_STRATEGY": "unsafe-best-match"},
        ),
        (
            {"PIP_EXTRA_INDEX_URL": "https://a/simple", "UV_INDEX_STRATEGY": "first-index"},
            {"UV_INDEX": "https://a/simple"},
        ),
        ({"PIP_EXTRA_INDEX_URL": "https://a/simple", "UV_EXTRA_INDEX_URL": "https://b/simple"}, {}),
        ({"PIP_FIND_LINKS": "/a  https://b/c"}, {"UV_FIND_LINKS": "/a,https://b/c"}),
        ({"PIP_FIND_LINKS": "~/wheels"}, {"UV_FIND_LINKS": str(Path.home() / "wheels")}),
        ({"PIP_FIND_LINKS": "/a", "UV_FIND_LINKS": "/b"}, {}),
        ({"PIP_CERT": "/a.pem"}, {"SSL_CERT_FILE": "/a.pem"}),
        ({"PIP_CERT": "/a.pem", "SSL_CERT_FILE": "/b.pem"}, {}),
        ({"PIP_CLIENT_CERT": "/a.pem"}, {"SSL_CLIENT_CERT": "/a.pem"}),
        ({"PIP_TRUSTED_HOST": "a b:8080"}, {"UV_INSECURE_HOST": "a b:8080"}),
        ({"PIP_PROXY": "http://a:1"}, {"ALL_PROXY": "http://a:1"}),
        ({"PIP_PROXY": "http://a:1", "https_proxy": "http://b:1"}, {}),
        ({"PIP_RETRIES": "7"}, {"UV_HTTP_RETRIES": "7"}),
        ({"PIP_DEFAULT_TIMEOUT": "12.5"}, {"UV_HTTP_TIMEOUT": "13"}),
        ({"PIP_DEFAULT_TIMEOUT": "12", "PIP_TIMEOUT": "14"}, {"UV_HTTP_TIMEOUT": "14"}),
        ({"PIP_DEFAULT_TIMEOUT": "soon"}, {}),
        ({"PIP_DEFAULT_TIMEOUT": "12", "UV_REQUEST_TIMEOUT": "14"}, {}),
    ],
)
def test_pips_settings_in_uvs_words(environ: dict[str, str], expected: dict[str, str]) -> None:
    assert registry_settings(environ) == expected


@pytest.mark.parametrize(
    ("environ", "flags", "own"),
    [
        ({}, [], False),
        ({"PIP_CERT": "/a.pem", "PIP_NO_INDEX": "0"}, [], False),
        ({"PIP_NO_INDEX": "1"}, ["--no-index"], True),
        ({"PIP_NO_INDEX": "true", "UV_DEFAULT_INDEX": "https://a/simple"}, [], True),
        ({"PIP_FIND_LINKS": "/a"}, [], True),
        ({"UV_INDEX": "https://a/simple"}, [], True),
        ({"UV_TORCH_BACKEND": "auto"}, [], True),
    ],
)
def test_whether_the_user_names_a_registry(environ: dict[str, str], flags: list[str], own: bool) -> None:
    assert registry_flags(environ) == flags
    assert names_a_registry(environ) is own


def test_a_folder_of_wheels_that_pip_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "some" / "wheels"
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "homemade-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("homemade.py", "")
        wheel.writestr(
            "homemade-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: homemade\nVersion: 1.0\n"
        )
        wheel.writestr(
            "homemade-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("homemade-1.0.dist-info/RECORD", "")
    no_registry_of_its_own(monkeypatch)
    monkeypatch.setenv("PIP_FIND_LINKS", "wheels")  # relative to where the user stands
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.chdir(tmp_path / "some")
    built = ensure(column(tmp_path, "homemade", modules=["homemade"]))
    assert built.versions == {"homemade": "1.0"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the plain build of torch is the CPU build")
@pytest.mark.parametrize(
    ("settings", "reachable", "expected"),
    [
        ({}, True, ["cpu/0 --dry-run --no-deps torch==2.13.0", "cpu/ torch==2.13.0 six"]),
        ({}, False, ["cpu/0 --dry-run --no-deps torch==2.13.0", "/ torch==2.13.0 six"]),
        ({"PIP_FIND_LINKS": "/wheels"}, True, ["/ torch==2.13.0 six"]),
        ({"UV_TORCH_BACKEND": "cu130"}, True, ["cu130/ torch==2.13.0 six"]),
    ],
)
def test_the_cpu_build_of_torch_is_asked_for_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    false_uv: Callable[[str], None],
    settings: dict[str, str],
    reachable: bool,
    expected: list[str],
) -> None:
    no_registry_of_its_own(monkeypatch)
    monkeypatch.delenv("UV_HTTP_RETRIES", raising=False)
    monkeypatch.delenv("PIP_RETRIES", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    calls = tmp_path / "calls"
    false_uv(
        '[ "$1" = venv ] && exit 0\n'
        f'shift 4; echo "$UV_TORCH_BACKEND/$UV_HTTP_RETRIES $*" >> "{calls}"\n'
        f'[ "$1" = --dry-run ] && {str(reachable).lower()} && exit 0\n'
        'echo "error: Failed to fetch: it"; exit 2\n'
    )
    said: list[str] = []
    with pytest.raises(InstallFailed):
        ensure(column(tmp_path, "torch==2.13.0", "six"), progress=said.append)
    assert [line.partition(" --color")[0] for line in calls.read_text().splitlines()] == expected
    assert any(line.startswith("no CPU build of torch") for line in said) is (
        "--dry-run" in expected[0] and not reachable
    )


def test_builds_that_begin_at_once_all_find_uv() -> None:
    # In a new process, for it is found out once; without care three of four fail.
    program = """
import threading
from d2lparams.building import uv_program
together, found = threading.Barrier(4), []
def find():
    together.wait()
    found.append(uv_program())
threads = [threading.Thread(target=find) for _ in range(4)]
for one in threads: one.start()
for one in threads: one.join()
print(len(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "4\n", done.stderr
