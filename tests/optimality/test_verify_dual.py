"""The two verifiers by themselves: they accept what is true, and refuse what was tampered with."""

from __future__ import annotations

import copy
import inspect
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl.optimality import verify_ascent, verify_dual
from tokenkl.optimality.counterexamples import merged_edges
from tokenkl.optimality.verify_dual import nearest_neighbours, rank_modulo, verify

STRICT = tk.certify_local(tk.FSQ((3, 3))).record
ASCENT = tk.certify_local(tk.FSQ((4, 3))).record
FIRST = tk.certify_local(tk.PointCodebook([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])).record
WEAK = tk.certify_local(merged_edges(), "min_distance").record


@pytest.mark.parametrize(
    ("module", "record"),
    [
        (verify_dual, STRICT),
        (verify_dual, WEAK),
        (verify_ascent, ASCENT),
        (verify_ascent, FIRST),
    ],
)
def test_accepts(module: Any, record: dict[str, Any]) -> None:
    assert record["verdict"] in module.verify(record)
    other = verify_dual if module is verify_ascent else verify_ascent
    with pytest.raises(ValueError, match="verdict must be one of"):
        other.verify(record)


@pytest.mark.parametrize("module", [verify_dual, verify_ascent])
def test_they_are_short_and_import_nothing_of_ours(module: Any) -> None:
    text = Path(module.__file__).read_text()
    assert len(text.splitlines()) <= 200
    assert not re.search(r"^\s*(assert\b|from tokenkl|import tokenkl)", text, re.MULTILINE)


def test_what_both_need_is_the_same() -> None:
    for name in ("need", "rows", "read", "nearest_neighbours", "faces", "main"):
        one, other = (inspect.getsource(getattr(m, name)) for m in (verify_dual, verify_ascent))
        assert one == other


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.__setitem__(name, value)


def _weight(record: dict[str, Any]) -> None:
    record["dual"][5][2] += 1


def _pair(record: dict[str, Any]) -> None:
    record["dual"][0][1] = 8  # the opposite corner


def _point(record: dict[str, Any]) -> None:
    record["points"][4][0] += 1  # the centre moves


def _missing(record: dict[str, Any]) -> None:
    record["dual"] = [row for row in record["dual"] if row[0] != 4]


def _negative(record: dict[str, Any]) -> None:
    record["dual"][0][2] = -1


def _float(record: dict[str, Any]) -> None:
    record["points"][0][0] = -1.0


def _true(record: dict[str, Any]) -> None:
    record["points"][0][0] = True


def _ragged(record: dict[str, Any]) -> None:
    record["points"][0].append(0)


def _twice(record: dict[str, Any]) -> None:
    record["points"][0] = record["points"][1]


def _permuted(record: dict[str, Any]) -> None:
    """Every weight at the next pair: the same numbers, another dual."""
    weights = [row[2] for row in record["dual"]]
    for row, weight in zip(record["dual"], weights[1:] + weights[:1], strict=True):
        row[2] = weight


def _renamed(record: dict[str, Any]) -> None:
    """Tokens of the dual under other numbers, points as they were."""
    record["dual"] = [[(k + 1) % 9, (j + 1) % 9, w] for k, j, w in record["dual"]]


def _not_a_number(record: dict[str, Any]) -> None:
    record["dual"][0][2] = float("nan")


def _huge_weight(record: dict[str, Any]) -> None:
    record["dual"][0][2] = 10**10_000


def _one_pair_less(record: dict[str, Any]) -> None:
    """A token at an edge of the grid keeps a neighbour, and no longer balances."""
    record["dual"] = record["dual"][1:]


@pytest.mark.parametrize(
    "change",
    [
        _weight, _pair, _point, _missing, _negative, _float, _true, _ragged, _twice,
        _permuted, _renamed, _not_a_number, _huge_weight, _one_pair_less,
        _set("points_over", 10**10_000), _set("points_over", float("nan")), _set("points", {}),
        _set("points", [[10**10_000, 0], [0, 1]]), _set("dual", [[0, 1, 1]] * 3),
        _set("points", [[0] * 300, [1] * 300]), _set("verdict", ["strict"]), _set("format", None),
        _set("verdict", "not a maximum"), _set("verdict", "optimal"), _set("constraint", "ball"),
        _set("objective", "accuracy"), _set("format", "another"), _set("points", []),
        _set("points_over", 0), _set("dual", None), _set("dual", [[0, 1]]),
        _set("dual", [[0, 99, 1]]),
    ],
)  # fmt: skip
def test_refuses_what_was_changed(change: Callable[[dict[str, Any]], None]) -> None:
    record = copy.deepcopy(STRICT)
    change(record)
    with pytest.raises(ValueError):
        verify(record)


def test_limits_come_before_work() -> None:
    """Numbers too large to compute with are refused at once, as are lists too long."""
    huge = 10**1_000_000
    began = time.process_time()
    for name, value in (
        ("points", [[k * huge, 0] for k in range(1, 100)]),
        ("points_over", huge),
        ("dual", [[0, 1, huge]] * 1000),
        ("dual", [[0, 1, 1]] * (2**24 // 3 + 1)),
    ):
        with pytest.raises(ValueError, match=name):
            verify(STRICT | {name: value})
    assert time.process_time() - began < 5


def test_a_claim_that_is_not_so() -> None:
    """Honest weights for points that are no maximum: nothing balances them."""
    grid = STRICT["points"]
    stretched = [[2 * a, 3 * b] for a, b in grid]
    with pytest.raises(ValueError, match="not nearest"):
        verify(STRICT | {"points": stretched})
    rows = [row for row in STRICT["dual"] if grid[row[0]][1] == grid[row[1]][1]]
    with pytest.raises(ValueError, match="rank"):
        verify(STRICT | {"points": stretched, "dual": rows})


def test_a_coordinate_without_room() -> None:
    """A square in space: its box is flat, so that nothing moves out of its plane."""
    flat = STRICT | {"points": [[*point, 7] for point in STRICT["points"]]}
    assert "strict" in verify(flat)
    with pytest.raises(ValueError, match="normal"):
        verify(flat | {"constraint": "ball"})


def test_refuses_a_strict_maximum_that_is_weak() -> None:
    with pytest.raises(ValueError, match="rank"):
        verify(WEAK | {"verdict": "strict"})


def test_a_flat_motion_is_seen() -> None:
    """Two pairs far apart: the tokens of one can slide along the box, which changes no distance."""
    points = [[0, 0], [2, 0], [0, 9], [2, 9], [0, 5], [2, 5]]
    dual = [[0, 1, 1], [1, 0, 1], [2, 3, 1], [3, 2, 1], [4, 5, 1], [5, 4, 1]]
    record = STRICT | {"points": points, "points_over": 1, "dual": dual}
    for verdict in ("strict", "weak"):  # in second order it rises, when one of a pair slides
        with pytest.raises(ValueError):
            verify(record | {"verdict": verdict})
    slide = {"verdict": "not a maximum", "direction": [[4, 1, 1]]}
    assert "second order" in verify_ascent.verify(record | slide)


@pytest.mark.parametrize(
    "direction",
    [
        [[0, 0, -1]],  # out of the box
        [[5, 0, 1]],  # along the finest axis, where something falls
        [[0, 2, 1]],
        [[99, 0, 1]],
        [[0, 0, 0]],
        [[0, 0, float("nan")]],
        [[0, 0, 10**1000]],
        [[0, 0]],
        [],
        None,
    ],
)
def test_refuses_directions(direction: Any) -> None:
    with pytest.raises(ValueError):
        verify_ascent.verify(ASCENT | {"direction": direction})


def test_nearest_neighbours_against_all_pairs() -> None:
    rng = np.random.default_rng(0)
    for size, n in ((2, 1), (40, 2), (60, 3), (50, 5)):
        points = np.unique(rng.integers(-4, 5, (size, n)), axis=0)
        squares = np.rint(cdist(points, points) ** 2).astype(int)
        np.fill_diagonal(squares, 10**6)
        found, ties = nearest_neighbours([tuple(row) for row in points.tolist()])
        assert found == squares.min(axis=1).tolist()
        for k, near in enumerate(ties):
            assert sorted(near) == np.flatnonzero(squares[k] == found[k]).tolist()


def test_rank_against_floating_point() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        rows, columns = rng.integers(1, 12, 2)
        matrix = rng.integers(-3, 4, (rows, columns)) * (rng.random((rows, columns)) < 0.4)
        sparse = [{int(c): int(row[c]) for c in np.flatnonzero(row)} for row in matrix]
        assert rank_modulo(sparse) == np.linalg.matrix_rank(matrix)


@pytest.mark.parametrize(
    ("module", "record", "holds"),
    [
        (verify_dual, STRICT, True),
        (verify_dual, WEAK | {"verdict": "strict"}, False),
        (verify_ascent, ASCENT, True),
        (verify_ascent, STRICT, False),
    ],
)
def test_runs_alone_and_optimised(
    module: Any, record: dict[str, Any], holds: bool, tmp_path: Path
) -> None:
    """Without site packages, without tokenkl, without `assert`."""
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(record))
    done = subprocess.run(
        [sys.executable, "-O", "-I", "-S", Path(module.__file__), path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if holds else 1), done.stderr
    assert ("NOT verified" in done.stdout) != holds


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[" * 100_000)
    assert verify_dual.main([str(tmp_path / name) for name in ("a.json", "b.json", "c.json")]) == 1
    assert capsys.readouterr().out.count("NOT verified") == 3
