"""Schedules, contexts, certificates and states of searches, damaged in many ways."""

from pathlib import Path
from typing import Any

import hostile
import pytest
from other_files import KINDS


@pytest.mark.parametrize("kind", KINDS, ids=[kind[0] for kind in KINDS])
def test_damaged_files(kind: tuple[Any, ...], tmp_path: Path) -> None:
    name, make, load, damage = kind
    path = tmp_path / name
    make(path)
    load(path)
    told = hostile.attack(path, lambda: load(path), damage, 60)
    assert told["refused"] > 10
