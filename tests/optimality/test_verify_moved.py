"""The verifier of a centre that is moved to an edge: what it accepts, refuses and encloses."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl._formats import FileError
from tokenkl.optimality import verify_less, verify_moved
from tokenkl.optimality.counterexamples import centre_to_edge
from tokenkl.optimality.enclosed import Enclosed
from tokenkl.optimality.nn_bounds import PROOFS
from tokenkl.optimality.prove_less import FORMATS
from tokenkl.optimality.proved import CENTRE_TO_EDGE, prove
from tokenkl.optimality.verify_moved import verify

THREE = json.loads((PROOFS / "centre_to_edge_3.json").read_text())


def test_by_itself(tmp_path: Path) -> None:
    """Without tokenkl on the path, and with -O."""
    alone = tmp_path / "verify.py"
    alone.write_text(Path(verify_moved.__file__).read_text())
    words = [sys.executable, "-I", "-O", str(alone)]
    files = [str(PROOFS / f"centre_to_edge_{n}.json") for n in CENTRE_TO_EDGE]
    done = subprocess.run([*words, *files], capture_output=True, text=True, check=True)
    assert done.stdout.count("is proved: ") == len(files)
    tampered = copy.deepcopy(THREE)
    tampered["inequalities"][2]["less"]["quantity"]["terms"][1][1]["value"] = "9e-5"
    (tmp_path / "wrong.json").write_text(json.dumps(tampered))
    done = subprocess.run([*words, str(tmp_path / "wrong.json")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    text = Path(verify_moved.__file__).read_text()
    assert len(text.splitlines()) <= 200
    assert not re.search(r"^\s*(assert\b|from tokenkl|import tokenkl)", text, re.MULTILINE)
    assert FORMATS["verify_moved"] == verify_moved.FORMAT


def test_a_file_is_found_anew() -> None:
    there = tk.load_inequalities(PROOFS / "centre_to_edge_4.json")
    assert prove("centre_to_edge_4").claims == there.claims
    assert there.verifier == "verify_moved"
    assert "3 inequalities" in there.check()


def _side(record: Any, side: str = "less", **changes: Any) -> None:
    record["inequalities"][0][side]["quantity"].update(changes)


def _swap(record: Any) -> None:
    claim = record["inequalities"][0]
    claim["less"], claim["than"] = claim["than"], claim["less"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(format=verify_less.FORMAT), "must be tokenkl inequalities of moved"),
        (lambda r: r.update(inequalities=[]), "must be"),
        (lambda r: r.update(inequalities=None), "damaged|must be"),
        (lambda r: r["inequalities"][0].pop("than"), "damaged"),
        (_swap, "not apart"),
        (lambda r: _side(r, snr=1.6), "must be a whole number"),
        (lambda r: _side(r, snr=float("nan")), "must be a whole number"),
        (lambda r: _side(r, snr="1.65"), "an enclosure is not what is found"),
        (lambda r: _side(r, snr="1/0"), "damaged"),
        (lambda r: _side(r, what="entropy"), "must be a known quantity"),
        (lambda r: _side(r, codebook={"kind": "centre to edge", "n": 4}), "an enclosure is not"),
        (lambda r: _side(r, codebook={"kind": "centre to edge", "n": 2}), "from 3 to 64"),
        (lambda r: _side(r, codebook={"kind": "centre to edge", "n": 10**9}), "from 3 to 64"),
        (lambda r: _side(r, codebook={"kind": "centre to edge", "n": True}), "from 3 to 64"),
        (lambda r: _side(r, codebook={"kind": "points", "levels": [[0]] * 3}), "grids"),
        (lambda r: _side(r, "than", codebook={"kind": "product", "levels": [[0]] * 3}), "be -1"),
        (lambda r: r["inequalities"][0]["less"].update(enclosure=["0", "1"]), "not apart"),
    ],
)  # fmt: skip
def test_refused(change: Callable[[Any], Any], says: str) -> None:
    changed = copy.deepcopy(THREE)
    change(changed)
    with pytest.raises(ValueError, match=says):
        verify(changed)


def test_files_with_the_other_description(tmp_path: Path) -> None:
    """Claims of moved tokens under the description of the other verifier, and the reverse."""
    nine = json.loads((PROOFS / "nine_overtake.json").read_text())
    for record, wrong in ((THREE, verify_less.FORMAT), (nine, verify_moved.FORMAT)):
        path = tmp_path / "changed.json"
        path.write_text(json.dumps({**record, "format": wrong}))
        with pytest.raises(FileError, match="that of other claims"):
            tk.load_inequalities(path)


# ---- Enclosures against independent values ------------------------------------------------------


def gain(n: int, snr: Any) -> tuple[float, float]:
    grid, moved = (
        Enclosed.accuracy(c, snr).enclosure() for c in (tk.FSQ((3,) * n), centre_to_edge(n))
    )
    return float(moved[0] - grid[1]), float(moved[1] - grid[0])


def _integral_of_the_largest(points: np.ndarray, s: float, step: float) -> float:
    """K times the accuracy of points of three dimensions, the last coordinate of which is -1, 0, 1.

    At every (y_1, y_2) the largest of three weighted densities over y_3, in closed form.
    """
    y = np.arange(-1 - 6 * s, 1 + 6 * s, step)
    one, two = y[:, None], y[None, :]
    logs = []
    for z in (-1, 0, 1):
        tokens = points[points[:, 2] == z]
        nearest = np.full((len(y), len(y)), np.inf)
        for a, b, _ in tokens:
            np.minimum(nearest, (one - a) ** 2 + (two - b) ** 2, out=nearest)
        logs.append(-nearest / (2 * s * s))
    low, middle, high = logs
    ends = (low - middle) * s * s - 0.5, (middle - high) * s * s + 0.5  # the middle wins between
    straight = ends[0] < ends[1]
    both = (low - high) * s * s / 2
    first, last = (np.where(straight, end, both) for end in ends)
    share = np.exp(low) * special.ndtr((first + 1) / s) + np.exp(high) * special.ndtr(
        (1 - last) / s
    )
    share += np.exp(middle) * (special.ndtr(last / s) - special.ndtr(first / s))
    return float(share.sum() * step**2 / (2 * np.pi * s * s))


@pytest.mark.slow
@pytest.mark.parametrize("s", [0.6, 1.0])
def test_three_dimensions_against_quadrature(s: float) -> None:
    grid, moved = np.asarray(tk.FSQ((3,) * 3).points), np.asarray(centre_to_edge(3).points)
    whole = _integral_of_the_largest(grid, s, s / 120)
    known = float(tk.accuracy(tk.FSQ((3,) * 3), 1 / s**2))
    # Kinks cost the trapezoid rule a part of step^2 = (s / 120)^2, far less of the difference.
    assert whole / 27 == pytest.approx(known, abs=(s / 120) ** 2)
    value = (_integral_of_the_largest(moved, s, s / 120) - whole) / 27
    low, high = gain(3, Fraction(1 / Fraction(str(s)) ** 2))
    assert low - 1e-7 <= value <= high + 1e-7
    assert high - low <= 4e-6


@pytest.mark.parametrize(("n", "snr"), [(4, "25/9"), (5, "4")])
def test_against_sampling(n: int, snr: str) -> None:
    """Both codebooks on the same draws of the grid: the mean of a ratio that is unbiased."""
    grid, moved = np.asarray(tk.FSQ((3,) * n).points), np.asarray(centre_to_edge(n).points)
    rng, h = np.random.default_rng(0), float(Fraction(snr)) ** 0.5
    draws: list[np.ndarray] = []
    for _ in range(16):
        at = rng.integers(0, len(grid), 2**13)
        y = grid[at] + rng.standard_normal((len(at), n)) / h

        def densities(points: np.ndarray, y: np.ndarray = y) -> np.ndarray:
            squares = (y**2).sum(1)[:, None] - 2 * y @ points.T + (points**2).sum(1)
            return np.asarray(np.exp(-h * h * squares / 2))

        old = densities(grid)
        draws.append((densities(moved).max(1) - old.max(1)) / old.sum(1))
    found = np.concatenate(draws)
    low, high = gain(n, snr)
    error = 5 * found.std() / len(found) ** 0.5
    assert low - error <= found.mean() <= high + error


GAIN = {"what": "gain", "codebook": {"kind": "centre to edge", "n": 3}}


def test_gains_on_an_interval_hold_those_inside() -> None:
    low, high = Enclosed(GAIN | {"snr": ["9/10", "1"]}).enclosure(64)
    assert low > 0
    for snr in ("9/10", "19/20", "1"):
        inner = gain(3, snr)
        assert low <= inner[0] <= inner[1] <= high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("snr", "says"),
    [
        (["33/20", "7/4"], "may change its sign"),  # the gain begins between
        (["1", "1/2"], "on .lo, hi."),
        (["0", "1"], "on .lo, hi."),
        ("1", "on .lo, hi."),
    ],
)
def test_gains_that_are_refused(snr: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Enclosed(GAIN | {"snr": snr}).enclosure(64)


@pytest.mark.slow
def test_gains_on_the_whole_interval() -> None:
    """Some 4,000 intervals, in three quarters of a minute."""
    record = json.loads((PROOFS / "centre_to_edge_stays.json").read_text())
    assert "gain" in verify(record)


def test_tokens() -> None:
    for n in (3, 5):
        points = np.asarray(centre_to_edge(n).points)
        there = {tuple(row) for row in points.tolist()}
        grid = {tuple(row) for row in np.asarray(tk.FSQ((3,) * n).points).tolist()}
        assert len(there) == 3**n
        assert grid - there == {(0.0,) * n, (0.0,) + (1.0,) * (n - 1)}
        assert {row[1:] for row in there - grid} == {(1.0,) * (n - 1)}
        assert np.abs(points).max() == 1
    with pytest.raises(ValueError, match="at least 3; got 2"):
        centre_to_edge(2)
