"""The verifier by itself: it accepts what is true, and refuses what was tampered with."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl.optimality import verify_dual
from tokenkl.optimality.counterexamples import merged_edges
from tokenkl.optimality.verify_dual import Refused, nearest_neighbours, rank_modulo, verify

STRICT = tk.certify_local(tk.FSQ((3, 3))).record
ASCENT = tk.certify_local(tk.FSQ((4, 3))).record
FIRST = tk.certify_local(tk.PointCodebook([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])).record
WEAK = tk.certify_local(merged_edges(), "min_distance").record


@pytest.mark.parametrize("record", [STRICT, ASCENT, FIRST, WEAK])
def test_accepts(record: dict[str, Any]) -> None:
    assert record["verdict"] in verify(record)


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


@pytest.mark.parametrize(
    "change",
    [
        _weight, _pair, _point, _missing, _negative, _float, _true, _ragged, _twice,
        _set("verdict", "not a maximum"), _set("verdict", "optimal"), _set("constraint", "ball"),
        _set("objective", "accuracy"), _set("format", "another"), _set("points", []),
        _set("points_over", 0), _set("dual", None), _set("dual", [[0, 1]]),
        _set("dual", [[0, 99, 1]]),
    ],
)  # fmt: skip
def test_refuses_what_was_changed(change: Callable[[dict[str, Any]], None]) -> None:
    record = copy.deepcopy(STRICT)
    change(record)
    with pytest.raises(Refused):
        verify(record)


def test_refuses_a_strict_maximum_that_is_weak() -> None:
    with pytest.raises(Refused, match="rank"):
        verify(WEAK | {"verdict": "strict"})


def test_a_flat_motion_is_seen() -> None:
    """Two pairs far apart: the tokens of one can slide along the box, which changes no distance."""
    points = [[0, 0], [2, 0], [0, 9], [2, 9], [0, 5], [2, 5]]
    dual = [[0, 1, 1], [1, 0, 1], [2, 3, 1], [3, 2, 1], [4, 5, 1], [5, 4, 1]]
    record = STRICT | {"points": points, "points_over": 1, "dual": dual}
    for verdict in ("strict", "weak"):  # in second order it rises, when one of a pair slides
        with pytest.raises(Refused):
            verify(record | {"verdict": verdict})
    slide = [[4, 1, 1]]
    assert "second order" in verify(record | {"verdict": "not a maximum", "direction": slide})


@pytest.mark.parametrize(
    "direction",
    [
        [[0, 0, -1]],  # out of the box
        [[5, 0, 1]],  # along the finest axis, where something falls
        [[0, 2, 1]],
        [[99, 0, 1]],
        [[0, 0, 0]],
        [],
        None,
    ],
)
def test_refuses_directions(direction: Any) -> None:
    with pytest.raises(Refused):
        verify(ASCENT | {"direction": direction})


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


@pytest.mark.parametrize("record", [STRICT, WEAK | {"verdict": "strict"}])
def test_runs_alone_and_optimised(record: dict[str, Any], tmp_path: Path) -> None:
    """Without site packages, without tokenkl, without `assert`."""
    path = tmp_path / "certificate.json"
    path.write_text(json.dumps(record))
    script = Path(verify_dual.__file__)
    assert "tokenkl." not in "".join(
        line for line in script.read_text().splitlines() if "import" in line
    )
    done = subprocess.run(
        [sys.executable, "-O", "-I", "-S", script, path], capture_output=True, text=True
    )
    assert done.returncode == (0 if record is STRICT else 1), done.stderr
    assert ("NOT verified" in done.stdout) == (record is not STRICT)


def test_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[" * 100_000)
    assert verify_dual.main([str(tmp_path / name) for name in ("a.json", "b.json", "c.json")]) == 1
    assert capsys.readouterr().out.count("NOT verified") == 3
