"""The verifier of patterns: what it accepts, by itself, and what it refuses."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokenkl.optimality import verify_patterns
from tokenkl.optimality.nn_bounds import PATTERNS, PROOFS, pattern_bound
from tokenkl.optimality.patterns import FOUND
from tokenkl.optimality.verify_patterns import Refused, largest, verify

FILE, HALVED = PROOFS / "patterns_3_8.json", PROOFS / "patterns_2_9.json.gz"
RECORD = json.loads(FILE.read_text())
NINE = json.loads(gzip.decompress(HALVED.read_bytes()))


@pytest.mark.slow
def test_by_itself(tmp_path: Path) -> None:
    """Without tokenkl on the path, and with -O."""
    alone = tmp_path / "verify.py"
    alone.write_text(Path(verify_patterns.__file__).read_text())
    words = [sys.executable, "-I", "-O", str(alone), str(HALVED), str(FILE)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    nine, eight = done.stdout.splitlines()
    assert "sum of r^2 is at most 32 (210 patterns, 6435 with their images" in eight
    assert "sum of r is at most 9" in nine
    grid = [tuple(map(float, e)) for e in itertools.product(range(3), repeat=2)]
    assert f"reaches it nowhere but at {[grid]} and images" in nine
    del words[-1]
    tampered = copy.deepcopy(RECORD)
    tampered["limit"] = 31
    (tmp_path / "wrong.json").write_text(json.dumps(tampered))
    words[-1] = str(tmp_path / "wrong.json")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "reach 32, more than 31" in done.stderr


@pytest.mark.slow
def test_every_file_of_the_package() -> None:
    """Bounds that are given are those that are proved; one of them is by r^2."""
    files = {path.name for path in PROOFS.glob("patterns_*")}
    assert files == set(PATTERNS.values()) | set(FOUND)
    for (n, K), name in PATTERNS.items():
        packed = (PROOFS / name).read_bytes()
        text = gzip.decompress(packed) if name.endswith(".gz") else packed
        says = verify(json.loads(text))
        _, _, rest = says.partition(" is at most ")
        limit = Fraction(rest.split()[0])
        value = math.sqrt(limit / K) if "r^2" in says else float(limit / K)
        assert float(pattern_bound(n, K).value) == pytest.approx(value, abs=1e-15)


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    text = Path(verify_patterns.__file__).read_text()
    assert len(text.splitlines()) <= 200
    assert not re.search(r"^\s*(assert\b|from tokenkl|import tokenkl)", text, re.MULTILINE)


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
        (lambda r: r["patterns"][0].__setitem__(1, None), "a row for each point"),
        (lambda r: r["patterns"][0].__setitem__(1, {"parts": []}), "null, or a table of halves"),
        (_diagonal, "0 for a point itself"),
        (_negative, "at least 0"),
        (lambda r: r.update(limit=31), "reach 32"),
    ],
)
def test_refused(change: Callable[[Any], Any], says: str) -> None:
    record = copy.deepcopy(RECORD)
    change(record)
    with pytest.raises(Refused, match=says):
        verify(record)


def _halved(part: Any) -> Any:
    """Somewhere in a proof, a cell of several points that is halved, and that is all."""
    for one in part["parts"]:
        if isinstance(one, dict) and (found := _halved(one)) is not None:
            return found
    halves = [isinstance(one, list) for one in part["parts"]]
    return part if all(halves) and len(halves) > 2 else None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p["parts"].pop(), "parts of"),
        (lambda p: p.update(parts=7), "a point, an axis and parts"),
        (lambda p: p.update(point=9), "no cell has the point 9"),
        (lambda p: p.update(axis=-1), "no cell has .* the axis -1"),
        (lambda p: p.update(axis=True), "a point, an axis and parts"),
        (lambda p: p["parts"].__setitem__(0, None), "a row for each point"),
        (lambda p: p["parts"].__setitem__(0, [[0] * 9] * 9), "not all 0"),
        (lambda p: p["parts"].__setitem__(0, [[0] + [1] * 8] * 9), "0 for a point itself"),
    ],
)
def test_halves_are_refused(change: Callable[[Any], Any], says: str) -> None:
    record = copy.deepcopy(NINE)
    parts = (_halved(part) for _, part in record["patterns"] if isinstance(part, dict))
    part = next(one for one in parts if one is not None)
    part.pop("weights", None)
    change(part)
    with pytest.raises(Refused, match=says):
        verify(record)


def test_cells_are_halved_no_further_than_units(tmp_path: Path) -> None:
    record = {**NINE, "side": 1}
    with pytest.raises(Refused, match="points between 0 and 1"):
        verify(record)
    path = tmp_path / "damaged.json.gz"
    path.write_bytes(HALVED.read_bytes()[:5000])
    assert verify_patterns.main([str(path)]) == 1


def test_largest_against_all_ends() -> None:
    """Random ends and weights, every vertex by itself."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        low = rng.integers(0, 9, 5)
        ends = [(int(a), int(a + b)) for a, b in zip(low, rng.integers(1, 4, 5), strict=True)]
        pair = rng.integers(0, 5, (5, 5))
        pair = (pair + pair.T) * (1 - np.eye(5, dtype=int))

        def total(x: Any, pair: Any = pair) -> int:
            return sum(pair[i, j] * (x[i] - x[j]) ** 2 for i in range(5) for j in range(i))

        best, where = largest(ends, pair.tolist())
        values = {x: total(x) for x in itertools.product(*ends)}
        assert best == max(values.values())
        assert set(where) == {x for x, value in values.items() if value == best}
