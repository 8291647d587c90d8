"""Schedules, contexts, certificates and states of searches, damaged in many ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import pytest
from other_files import KINDS


@pytest.mark.parametrize(("name", "make", "load", "damage"), KINDS, ids=[kind[0] for kind in KINDS])
def test_damaged_files(
    name: str,
    make: Callable[..., Any],
    load: Callable[..., Any],
    damage: Callable[..., Any] | None,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    make(path)
    load(path)
    told = hostile.attack(path, lambda: load(path), damage, 60)
    assert told["refused"] > 10
