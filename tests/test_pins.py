"""A header pins the environment that is tested; the extra of the same name says what is supported beyond it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from d2lparams.columns import adapters

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
PROJECT = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
PLATFORMS = {
    "Linux": {"sys_platform": "linux", "platform_machine": "x86_64"},
    "Linux on ARM": {"sys_platform": "linux", "platform_machine": "aarch64"},
    "macOS": {"sys_platform": "darwin", "platform_machine": "arm64"},
}
FRAMEWORKS = [adapter for adapter in adapters().values() if not adapter.reference]


def python_of(adapter):
    """The oldest Python that the header takes."""
    return next(SpecifierSet(adapter.requires_python).filter(f"3.{minor}" for minor in range(9, 20)))


def applicable(lines, platform, python):
    """The requirements that hold there, by the name of the distribution."""
    parsed = [Requirement(line) for line in lines]
    environment = {**platform, "python_version": python, "python_full_version": f"{python}.0"}
    return {one.name: one.specifier for one in parsed if one.marker is None or one.marker.evaluate(environment)}


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS.keys())
@pytest.mark.parametrize("adapter", FRAMEWORKS, ids=lambda adapter: adapter.name)
def test_the_environment_that_is_tested_is_within_what_the_extra_supports(adapter, platform):
    python = python_of(adapter)
    pins = applicable(adapter.dependencies, platform, python)
    ours = applicable(PROJECT["dependencies"], platform, python)
    extra = applicable(PROJECT["optional-dependencies"][adapter.name], platform, python)
    assert extra.keys() <= pins.keys()
    for name, pin in pins.items():
        (clause,) = pin
        assert clause.operator == "=="
        supported = extra.get(name, ours.get(name))
        assert supported is not None, f"{name} is pinned, and in no range that is supported"
        assert supported.contains(clause.version)


@pytest.mark.parametrize("adapter", adapters().values(), ids=lambda adapter: adapter.name)
def test_the_tested_python_is_one_that_the_package_supports(adapter):
    assert SpecifierSet(PROJECT["requires-python"]).contains(python_of(adapter))
