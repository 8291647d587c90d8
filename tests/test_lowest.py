"""The lower ends in pyproject.toml are the versions that `make versions` tests."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_lower_ends_are_the_tested_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    lowest: dict[str, str] = {}
    for one in asked:
        if one.startswith("tokenkl["):
            continue
        found = re.fullmatch(r"([\w-]+)>=([\d.]+)(; .*)?", one)
        assert found, f"{one} has no lower end"
        name, version, _ = found.groups()
        assert lowest.setdefault(name, version) == version, f"{name} has two lower ends"
    lines = (ROOT / "lowest.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert lowest.pop("torch")
    assert tested.pop("torch")  # the one that is not tested at its lower end, see lowest.txt
    assert lowest == tested
