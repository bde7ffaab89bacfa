"""What a user may ask for, what an adapter must declare, and what is said when either is wrong."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from d2lparams import columns
from d2lparams.columns import (
    UsageError,
    adapters,
    left_out,
    parse_column,
    parse_columns,
    parse_scenarios,
    read_adapter,
    reference,
)
from d2lparams.scenarios import Scenario, scenarios

HEADER = """\
# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.0.0"]
# [tool.d2lparams]
# title = "Mine"
# class = "MineBackend"
# ///
"""


def refuses(sentence):
    """A UsageError that says this and nothing else."""
    return pytest.raises(UsageError, match=rf"\A{re.escape(sentence)}\Z")


@pytest.fixture
def write(tmp_path):
    """Writes an adapter's file, and gives its path."""

    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


# -- names ---------------------------------------------------------------------------------------------------


def test_the_backends_stand_in_the_order_of_the_book_the_reference_first():
    assert list(adapters()) == ["numpy", "torch", "mxnet", "jax", "tensorflow"]
    assert [name for name, adapter in adapters().items() if adapter.reference] == ["numpy"]


def test_no_two_backends_share_a_name_or_an_alias():
    names = list(chain.from_iterable((one.name, *one.aliases) for one in adapters().values()))
    assert len(set(names)) == len(names)
    assert names == [name.lower() for name in names]  # what the user types is lowered before it is looked up


@pytest.mark.parametrize(
    ("text", "backend"),
    [
        ("torch", "torch"),
        ("pytorch", "torch"),
        ("PyTorch", "torch"),
        ("np", "numpy"),
        ("gluon", "mxnet"),
        ("flax", "jax"),
        ("keras", "tensorflow"),
        ("tf", "tensorflow"),
    ],
)
def test_a_column_is_asked_for_by_the_backend_s_name_or_an_alias(text, backend):
    column = parse_column(text)
    assert (column.name, column.adapter) == (backend, adapters()[backend])


@pytest.mark.parametrize("name", ["torch", "PYTORCH"])
def test_the_version_that_is_pinned_can_be_named(name):
    pinned = adapters()["torch"].pinned
    column = parse_column(f"{name}@{pinned}")
    assert (column.name, column.adapter) == (f"torch@{pinned}", adapters()["torch"])


@pytest.mark.parametrize("version", ["1.0", "", "latest"])
def test_another_version_is_refused_with_the_one_there_is(version):
    pinned = adapters()["torch"].pinned
    other = f"so far only torch@{pinned} can be built, the version that torch stands for"
    with refuses(f"cannot build pytorch@{version}: {other}"):
        parse_column(f"pytorch@{version}")


@pytest.mark.parametrize(
    ("text", "near"),
    [("touch", "torch"), ("pytroch", "pytorch"), ("Tensorflw", "tensorflow"), ("jaxx@0.10", "jax")],
)
def test_a_misspelt_name_gets_the_nearest_one(text, near):
    with refuses(f"no backend {text.partition('@')[0]!r}; did you mean {near!r}?"):
        parse_column(text)


@pytest.mark.parametrize("text", ["", "@1.0", "zzz"])
def test_a_name_near_to_none_gets_all_of_them(text):
    names = sorted(chain.from_iterable((one.name, *one.aliases) for one in adapters().values()))
    with refuses(f"no backend {text.partition('@')[0]!r}; there are {', '.join(names)}"):
        parse_column(text)


# -- lists ---------------------------------------------------------------------------------------------------


def test_the_reference_is_the_column_of_the_backend_that_says_so():
    assert (reference().name, reference().adapter) == ("numpy", adapters()["numpy"])


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        ([], ["numpy", "torch", "mxnet", "jax", "tensorflow"]),
        (["torch"], ["numpy", "torch"]),
        (["torch", "jax"], ["numpy", "torch", "jax"]),
        (["torch", "numpy", "jax"], ["numpy", "torch", "jax"]),
        (["torch", "pytorch", "torch"], ["numpy", "torch"]),
        (["numpy"], ["numpy"]),
        (["reference", "np"], ["numpy"]),
    ],
)
def test_the_reference_stands_first_and_every_column_once(asked, columns):
    assert [column.name for column in parse_columns(asked)] == columns


def test_one_wrong_name_refuses_the_whole_list():
    with refuses("no backend 'touch'; did you mean 'torch'?"):
        parse_columns(["jax", "touch"])


def test_what_is_shown_as_a_column_s_argument_names_that_column(write, tmp_path, monkeypatch):
    for text in ("torch", f"torch@{adapters()['torch'].pinned}"):
        assert parse_column(text).argument == text
    own = parse_column(str(write(HEADER)))
    assert own.argument == str(tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    assert own.argument == "mine.py"
    assert parse_column(own.argument) == own


# -- scenarios -----------------------------------------------------------------------------------------------

SCENARIOS = {
    name: Scenario(name, "0", name, "?", print, group, full)
    for name, group, full in (
        ("forward", "access", False),
        ("tied-afterwards", "tying", False),
        ("tied-twice", "tying", True),
        ("copies-of-one", "cycles", False),
        ("copies-of-two", "cycles", True),
    )
}
DEFAULT = ["forward", "tied-afterwards", "copies-of-one"]


@pytest.fixture
def few(monkeypatch):
    """Takes the place of the scenarios there are."""
    monkeypatch.setattr(columns, "catalog", lambda: SCENARIOS)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], DEFAULT),
        (["forward"], ["forward"]),
        (["tied-afterwards", "forward", "tied-afterwards"], ["forward", "tied-afterwards"]),
        (["tied-twice"], ["tied-twice"]),
        (["tying"], ["tied-afterwards", "tied-twice"]),
        (["cycles", "access"], ["forward", "copies-of-one", "copies-of-two"]),
        (["tied-*"], ["tied-afterwards", "tied-twice"]),
        (["*-tw?", "copies-of-[!t]*"], ["copies-of-one", "copies-of-two"]),
        (["*"], list(SCENARIOS)),
        (["tied-*", "tying", "tied-twice"], ["tied-afterwards", "tied-twice"]),
    ],
)
def test_scenarios_are_named_by_name_group_or_pattern_and_run_in_their_own_order_once(texts, names):
    """What is named runs even when it takes long."""
    assert [one.name for one in parse_scenarios(texts)] == names
    assert [one.name for one in parse_scenarios(iter(texts))] == names


@pytest.mark.usefixtures("few")
def test_full_adds_what_takes_long_to_a_run_of_everything():
    assert [one.name for one in parse_scenarios([], full=True)] == list(SCENARIOS)
    assert [one.name for one in parse_scenarios(["forward"], full=True)] == ["forward"]


@pytest.mark.usefixtures("few")
def test_what_a_run_of_everything_leaves_out_is_known():
    assert left_out([], parse_scenarios([])) == ["tied-twice", "copies-of-two"]
    assert left_out([], parse_scenarios([], full=True)) == []
    assert left_out(["forward"], parse_scenarios(["forward"])) == []


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("foward", "no scenario or group 'foward'; did you mean 'forward'?"),
        ("Tieing", "no scenario or group 'Tieing'; did you mean 'tying'?"),
        ("cycle", "no scenario or group 'cycle'; did you mean 'cycles'?"),
        ("teid-*", "no scenario matches 'teid-*'; did you mean 'tied-twice'?"),
        ("zzz", "no scenario or group 'zzz'; there are the groups access, tying, cycles"),
        ("zzz*", "no scenario matches 'zzz*'; there are the groups access, tying, cycles"),
        ("", "no scenario or group ''; there are the groups access, tying, cycles"),
    ],
)
def test_what_names_no_scenario_gets_the_nearest_name(text, sentence):
    with refuses(sentence):
        parse_scenarios(["forward", text])


def test_no_scenario_has_the_name_of_a_group():
    assert not scenarios().keys() & {one.group for one in scenarios().values()}


# -- files ---------------------------------------------------------------------------------------------------


def test_a_path_is_a_column_named_by_its_file(write):
    path = write(HEADER)
    column = parse_column(str(path))
    assert (column.name, column.adapter.path) == ("mine", path.resolve())
    assert [one.name for one in parse_columns([str(path)])] == ["numpy", "mine"]


def test_the_path_of_a_backend_of_ours_is_that_backend():
    assert parse_column(str(adapters()["torch"].path)).adapter == adapters()["torch"]


def test_a_file_that_takes_a_backend_s_name_is_refused(write):
    path = write(HEADER, "torch.py")
    with refuses(f"{path} has the name of the backend 'torch'; rename the file"):
        parse_column(str(path))


def test_the_header_says_all_there_is_to_say(write):
    more = '# modules = ["a", "b.c"]\n# aliases = ["own"]\n# position = 3\n# reference = true\n'
    full = HEADER.removesuffix("# ///\n") + more + "# ///\n"
    plain, given = read_adapter(write(HEADER)), read_adapter(write(full))
    assert (plain.title, plain.class_name, plain.requires_python) == ("Mine", "MineBackend", ">=3.11")
    assert (plain.dependencies, plain.distributions, plain.pinned) == (("numpy==2.0.0",), ["numpy"], "2.0.0")
    assert (plain.modules, plain.aliases, plain.reference) == ((), (), False)
    assert (given.modules, given.aliases) == (("a", "b.c"), ("own",))
    assert (given.position, given.reference) == (3, True)
    assert plain.position > max(adapter.position for adapter in adapters().values())


def test_a_dependency_for_another_platform_does_not_count(write):
    two = '["nowhere==1.0; sys_platform == \'nowhere\'", "numpy>=2"]'
    adapter = read_adapter(write(HEADER.replace('["numpy==2.0.0"]', two)))
    assert (adapter.distributions, adapter.pinned) == (["numpy"], None)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\Acannot read the backend file .*gone\.py: .*No such file"):
        parse_column(str(tmp_path / "gone.py"))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"\Acannot read the backend file .*mine\.py: .*decode"):
        parse_column(str(path))


@pytest.mark.parametrize(
    ("text", "blocks"),
    [("import torch\n", 0), (HEADER.replace("# ///\n", ""), 0), (HEADER + "\n" + HEADER, 2)],
    ids=["none", "without an end", "two"],
)
def test_a_file_must_have_one_block(write, text, blocks):
    path = write(text)
    with refuses(f"{path} must have one '# /// script' block that declares its environment; it has {blocks}"):
        read_adapter(path)


@pytest.mark.parametrize(
    "key",
    ["requires-python", "dependencies", "title", "class"],
    ids=["python", "dependencies", "title", "class"],
)
def test_a_key_that_is_missing_is_named(write, key):
    lines = [line for line in HEADER.splitlines(keepends=True) if not line.startswith(f"# {key} =")]
    path = write("".join(lines))
    with refuses(f"{path}: its script block lacks {key!r}"):
        read_adapter(path)


def test_a_table_that_is_missing_is_named(write):
    path = write("# /// script\n# dependencies = []\n# ///\n")
    with refuses(f"{path}: its script block lacks 'tool'"):
        read_adapter(path)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('title = "Mine"', "title = Mine"),
        ("numpy==2.0.0", "numpy = 2.0.0"),
        ('["numpy==2.0.0"]', "3"),
        ('["numpy==2.0.0"]', '"numpy"'),
        ('"Mine"', '"Mine"\n# modules = "numpy"'),
        ('"Mine"', '"Mine"\n# position = "first"'),
    ],
    ids=["no TOML", "no requirement", "no list", "text for a list", "text for modules", "text for a number"],
)
def test_a_block_that_cannot_be_read_says_what_is_wrong(write, good, bad):
    path = write(HEADER.replace(good, bad))
    with pytest.raises(UsageError, match=rf"\A{re.escape(str(path))}: its script block cannot be read: .+"):
        read_adapter(path)


@pytest.mark.parametrize("none", ["[]", "[\"numpy; sys_platform == 'nowhere'\"]"])
def test_a_block_without_a_dependency_is_refused(write, none):
    path = write(HEADER.replace('["numpy==2.0.0"]', none))
    with refuses(f"{path}: its script block declares no dependency for this platform"):
        read_adapter(path)
