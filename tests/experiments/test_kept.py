"""Parts of a long run: made once, kept, put together, and told of."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments import harness
from experiments.settings import Settings
from experiments.toy.kept import Part, alone_with, gather, kept_folder, parts_in


def rows_of(log: list[int], seed: int, report: Callable[[float], None]) -> pd.DataFrame:
    report(0.5)
    if seed == 9:
        raise KeyboardInterrupt
    log.append(seed)
    return pd.DataFrame({"x": np.random.default_rng(seed).standard_normal(3)})


def test_parts_are_made_once(tmp_path: Path) -> None:
    log: list[int] = []

    def parts(*seeds: int) -> list[Part]:
        return [Part(f"part{s}", functools.partial(rows_of, log, s), 1.0 + s) for s in seeds]

    with pytest.raises(KeyboardInterrupt):
        gather(tmp_path, parts(0, 1, 9), lambda done, total: None)
    assert log == [0, 1]
    told: list[tuple[float, float]] = []
    found = gather(tmp_path, parts(0, 1, 2), lambda *one: told.append(one))
    assert log == [0, 1, 2]
    assert told == [(4.5, 6), (6, 6), (6, 6)]  # 1 + 2 were there, and half of 3 is told of
    for seed, rows in enumerate(found):
        np.testing.assert_allclose(rows.x, np.random.default_rng(seed).standard_normal(3), 1e-14)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [f"part{s}.csv" for s in range(3)]


def test_a_check_has_parts_of_its_own(tmp_path: Path) -> None:
    with parts_in(tmp_path):
        folder = kept_folder("name", {"a": 1})
        assert folder.is_relative_to(tmp_path)
        assert kept_folder("name", {"a": 2}) != folder == kept_folder("name", {"a": 1})


def test_one_process_at_a_time(tmp_path: Path) -> None:
    def compute(config: Settings, progress: harness.Progress) -> tuple[pd.DataFrame, dict]:
        return pd.DataFrame(), {}

    own: dict[str, Any] = {"compute": compute, "plot": lambda table, facts: None, "shares": True}
    one = harness.Experiment("one", "claim", Settings(), Settings(), **own)
    with parts_in(tmp_path):
        with alone_with("one"), pytest.raises(ValueError, match="one must be run by one process"):
            harness.compute(one, Settings(), lambda done, total: None)
        harness.compute(one, Settings(), lambda done, total: None)
