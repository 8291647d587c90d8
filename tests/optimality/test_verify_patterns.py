"""The verifier of patterns: what it accepts, by itself, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenkl.optimality import verify_patterns
from tokenkl.optimality.nn_bounds import PROOFS
from tokenkl.optimality.verify_patterns import Refused, largest_sum, verify

FILE = PROOFS / "patterns_3_8.json"
RECORD = json.loads(FILE.read_text())


def test_by_itself(tmp_path: Path) -> None:
    """Without tokenkl on the path, and with -O."""
    alone = tmp_path / "verify.py"
    alone.write_text(Path(verify_patterns.__file__).read_text())
    words = [sys.executable, "-I", "-O", str(alone), str(FILE)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "sum of r^2 is at most 32" in done.stdout
    assert "6435" in done.stdout
    tampered = copy.deepcopy(RECORD)
    tampered["limit"] = 31
    (tmp_path / "wrong.json").write_text(json.dumps(tampered))
    words[-1] = str(tmp_path / "wrong.json")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "reaches 1920" in done.stderr


def _weight(record: Any) -> None:
    weights = record["patterns"][3][1]
    row = weights[0]
    row[row.index(max(row))] -= 1


def _diagonal(record: Any) -> None:
    record["patterns"][3][1][2] = [0, 0, 60, 0, 0, 0, 0, 0]


def _negative(record: Any) -> None:
    record["patterns"][3][1][0] = [0, -60, 120, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(format="other"), "format"),
        (lambda r: r.update(K=True), "K must be"),
        (lambda r: r.update(scale=0), "scale must be"),
        (lambda r: r["patterns"].pop(), "of 6435 patterns"),
        (lambda r: r.update(patterns=7), "must be a list"),
        (lambda r: r["patterns"].__setitem__(0, [1]), "counts and weights"),
        (lambda r: r["patterns"][0].__setitem__(0, [8, 1, 0, 0, 0, 0, 0, -1]), "sum to K"),
        (lambda r: r["patterns"][0].__setitem__(1, [[0] * 8]), "a row for each point"),
        (_weight, "sum to 60"),
        (_diagonal, "0 for a point itself"),
        (_negative, "at least 0"),
        (lambda r: r.update(limit=31), "reaches"),
    ],
)
def test_refused(change: Callable[[Any], Any], says: str) -> None:
    record = copy.deepcopy(RECORD)
    change(record)
    with pytest.raises(Refused, match=says):
        verify(record)


def test_largest_sum_against_all_vertices() -> None:
    """Small cells and random weights, every vertex by itself."""
    rng = np.random.default_rng(0)
    cells = list(itertools.product(range(3), repeat=2))
    for _ in range(20):
        counts = np.bincount(rng.integers(9, size=4), minlength=9).tolist()
        weights = rng.integers(0, 5, (4, 4))
        np.fill_diagonal(weights, 0)
        where = [cell for cell, count in zip(cells, counts, strict=True) for _ in range(count)]
        best = max(
            sum(
                weights[i, j]
                * sum(
                    (where[i][c] + u[2 * i + c] - where[j][c] - u[2 * j + c]) ** 2 for c in (0, 1)
                )
                for i in range(4)
                for j in range(4)
            )
            for u in itertools.product((0, 1), repeat=8)
        )
        assert largest_sum(counts, weights.tolist(), cells, 2) == best
