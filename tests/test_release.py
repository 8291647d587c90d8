"""What a release needs: one version everywhere, and constraints for all that is installed."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tokenkl as tk

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_one_version_everywhere() -> None:
    version = PROJECT["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)  # semantic versioning
    assert tk.__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
    changes = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## (.+)$", changes, re.M)
    assert version in heads
    numbers = [tuple(map(int, head.split("."))) for head in heads if head != "Unreleased"]
    assert numbers == sorted(numbers, reverse=True)


def test_everything_that_is_installed_is_constrained() -> None:
    """What pyproject.toml asks for, with all extras, and what these packages ask for in turn."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in pins}
    if metadata.version("numpy") != pinned[canonicalize_name("numpy")]:
        pytest.skip("other versions are installed, with other needs")
    extras = PROJECT["optional-dependencies"]
    waiting = [
        Requirement(one)
        for one in [*PROJECT["dependencies"], *(one for extra in extras.values() for one in extra)]
    ]
    seen, missing = {("tokenkl", "")}, set()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for extra in ("", *one.extras):
            if (name, extra) in seen or name == "tokenkl":
                continue
            seen.add((name, extra))
            if name not in pinned:
                missing.add(name)
            try:
                asked = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                continue  # of an extra that is not installed here
            for text in asked:
                further = Requirement(text)
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    waiting.append(further)
    assert not missing, sorted(missing)
