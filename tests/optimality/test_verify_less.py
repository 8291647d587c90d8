"""The verifier of inequalities: what it accepts by itself, what it refuses, and its enclosures."""

from __future__ import annotations

import copy
import functools
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

import mpmath
import numpy as np
import pytest

import tokenkl as tk
from tokenkl.optimality import verify_less
from tokenkl.optimality.counterexamples import centre_for_vertex, edge_heavy_nine
from tokenkl.optimality.enclosed import E8_CUT, Enclosed, Law, Parameter
from tokenkl.optimality.nn_bounds import PROOFS
from tokenkl.optimality.proved import PROVED
from tokenkl.optimality.verify_less import verify

NINE = json.loads((PROOFS / "nine_overtake.json").read_text())
E8 = json.loads((PROOFS / "e8_overtakes.json").read_text())
TWO = json.loads((PROOFS / "two_points_reach_the_capacity.json").read_text())
#: Files that have a verifier of their own.
OTHERS = {name for name in PROVED if "to_edge" in name} | {"e8_bracketed", "e8_between"}
mpmath.mp.dps = 30


@pytest.mark.slow
def test_by_itself(tmp_path: Path) -> None:
    """Without tokenkl on the path, and with -O: every certificate of the package but those of
    verify_moved.py and verify_cut.py."""
    alone = tmp_path / "verify.py"
    alone.write_text(Path(verify_less.__file__).read_text())
    words = [sys.executable, "-I", "-O", str(alone)]
    files = [str(PROOFS / f"{name}.json") for name in PROVED if name not in OTHERS]
    done = subprocess.run([*words, *files], capture_output=True, text=True, check=True)
    assert done.stdout.count("is proved: ") == len(files)
    tampered = copy.deepcopy(NINE)
    tampered["inequalities"][0]["less"]["quantity"]["snr"] = "1/5"
    (tmp_path / "wrong.json").write_text(json.dumps(tampered))
    done = subprocess.run([*words, str(tmp_path / "wrong.json")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "an enclosure is not what is found" in done.stderr


def test_it_is_short_and_imports_nothing_of_ours() -> None:
    text = Path(verify_less.__file__).read_text()
    assert len(text.splitlines()) <= 200
    assert not re.search(r"^\s*(assert\b|from tokenkl|import tokenkl)", text, re.MULTILINE)


def test_every_certificate_of_the_package_is_listed() -> None:
    there = {path.stem for path in PROOFS.glob("*.json")} - {"patterns_3_8"}
    assert there == set(PROVED)


def _swap(record: Any) -> None:
    claim = record["inequalities"][0]
    claim["less"], claim["than"] = claim["than"], claim["less"]


def _quantity(record: Any, **changes: Any) -> None:
    record["inequalities"][0]["less"]["quantity"].update(changes)


def _codebook(record: Any, **changes: Any) -> None:
    record["inequalities"][0]["than"]["quantity"]["codebook"].update(changes)


@pytest.mark.parametrize(
    ("record", "change", "says"),
    [
        (NINE, lambda r: r.update(format="another"), "must be tokenkl inequalities"),
        (NINE, lambda r: r.update(inequalities=[]), "must be tokenkl inequalities"),
        (NINE, lambda r: r.update(inequalities=7), "damaged"),
        (NINE, lambda r: r["inequalities"][0].pop("than"), "damaged"),
        (NINE, _swap, "not apart"),
        (NINE, lambda r: _quantity(r, snr=0.2), "must be a whole number"),
        (NINE, lambda r: _quantity(r, snr="-1"), "not enclosed"),
        (NINE, lambda r: _quantity(r, snr=["1/5", "1/6"]), r"an interval must be \[lo, hi\]"),
        (NINE, lambda r: _quantity(r, what="power"), "damaged"),
        (NINE, lambda r: _quantity(r, what="mmse"), "an enclosure is not what is found"),
        (NINE, lambda r: _codebook(r, kind="another"), "damaged"),
        (NINE, lambda r: _codebook(r, points=[[0, 0], [0, 0]]), "must be different"),
        (NINE, lambda r: _codebook(r, points=[[0, 0], [0, 1]]), "an enclosure is not what"),
        (E8, lambda r: _codebook(r, parts=[*E8_CUT["parts"], E8_CUT["parts"][0]]), "different"),
        (E8, lambda r: _quantity(r, codebook={"kind": "product", "levels": [[1, 0]]}), "increase"),
        (E8, lambda r: _quantity(r, codebook={"kind": "product", "levels": [[]]}), "increase"),
        (TWO, lambda r: _quantity(r, law=[[-1, 1], [1, -1]]), "above 0"),
        (TWO, lambda r: _quantity(r, law=[[-1, 1], [1, 2]]), "an enclosure is not what is found"),
        (TWO, lambda r: _quantity(r, what="power"), "power must be a known quantity"),
        (TWO, lambda r: _quantity(r, at="1/0"), "damaged"),
        (TWO, lambda r: r["inequalities"][1]["less"].update(enclosure=["0", "1"]), "not apart"),
    ],
)
def test_refused(record: Any, change: Callable[[Any], Any], says: str) -> None:
    changed = copy.deepcopy(record)
    change(changed)
    with pytest.raises(ValueError, match=says):
        verify(changed)


# ---- Enclosures against independent values ------------------------------------------------------


def holds(quantity: Enclosed, value: Any, width: float = 1e-25, slack: float = 0.0) -> None:
    """A narrow enclosure, with the value inside, up to what is known of the value."""
    low, high = quantity.enclosure()
    assert high - low <= width
    near = mpmath.mpf(value)
    assert mpmath.mpf(low.numerator) / low.denominator - slack - 1e-25 <= near
    assert near <= mpmath.mpf(high.numerator) / high.denominator + slack + 1e-25


def mean(f: Callable[[Any], Any]) -> Any:
    """E f(Z) by mpmath."""
    return mpmath.quad(lambda z: f(z) * mpmath.npdf(z), [-15, -5, 0, 5, 15])


def posterior(law: list[tuple[Any, Any]], y: Any, h: Any) -> list[Any]:
    weights = [w * mpmath.npdf(y - h * s) for s, w in law]
    return [w / sum(weights) for w in weights]


WEIGHTS = {-1: Fraction(1), 0: Fraction(1, 2), 1: Fraction(3)}
LAW: Law = list(WEIGHTS.items())


@pytest.mark.slow
@pytest.mark.parametrize(("snr", "at"), [("1/4", "1/3"), ("7/2", -1)])
def test_laws_against_mpmath(snr: str, at: Any) -> None:
    h = mpmath.sqrt(mpmath.mpf(Fraction(snr).numerator) / Fraction(snr).denominator)
    x = mpmath.mpf(Fraction(at).numerator) / Fraction(at).denominator
    law = [(mpmath.mpf(s), mpmath.mpf(w.numerator) / w.denominator) for s, w in WEIGHTS.items()]
    total = sum(w for _, w in law)

    def moments(z: Any) -> tuple[Any, Any]:
        chances = posterior(law, h * x + z, h)
        first = sum(p * s for p, (s, _) in zip(chances, law, strict=True))
        return first, sum(p * s * s for p, (s, _) in zip(chances, law, strict=True)) - first**2

    def log_ratio(z: Any) -> Any:
        under = sum(w * mpmath.npdf(z + h * (x - s)) for s, w in law) / total
        return mpmath.log(mpmath.npdf(z) / under)

    holds(Enclosed.density(LAW, at, snr), mean(log_ratio))
    holds(Enclosed.risk(LAW, at, snr), mean(lambda z: (x - moments(z)[0]) ** 2))
    holds(Enclosed.variance(LAW, at, snr), mean(lambda z: moments(z)[1]))


def test_lines_against_exact_formulas() -> None:
    """Of the package: double precision."""
    grid, snr = tk.ProductCodebook([[-1.0, -1 / 3, 1.0], [0.0, 0.5]]), Fraction(9, 4)
    for name, of in (
        ("accuracy", tk.accuracy),
        ("entropy", tk.conditional_entropy),
        ("information", tk.mutual_information),
        ("mmse", tk.mmse),
    ):
        holds(getattr(Enclosed, name)(grid, snr), float(of(grid, float(snr))), slack=1e-13)
    steps: list[Parameter] = [0, "1/2", "9/4"]
    known = tk.ancestral_kl(grid, [0.0, 0.5, 2.25])
    holds(Enclosed.ancestral_kl(grid, steps), float(known), slack=1e-13)


def test_one_hot_against_mpmath() -> None:
    for K, snr in ((2, 4), (1000, 20)):
        h = mpmath.sqrt(snr)
        value = mean(functools.partial(_largest, h=h, others=K - 1))
        holds(Enclosed.accuracy(tk.OneHot(K), snr), value)
    # Two tokens at the distance sqrt 2.
    holds(Enclosed.accuracy(tk.OneHot(2), 4), mpmath.ncdf(mpmath.sqrt(2)))


def _largest(z: Any, h: Any, others: int) -> Any:
    return mpmath.ncdf(z + h) ** others


def test_points_of_the_plane() -> None:
    """A grid as points, against the product of its lines; others against the planar formula."""
    grid = tk.ProductCodebook([[-1.0, -0.5, 1.0], [-1.0, 1.0]])
    points = tk.PointCodebook(np.asarray(grid.points))
    low, high = Enclosed.accuracy(grid, "5/3").enclosure()
    other = Enclosed.accuracy(points, "5/3").enclosure()
    assert max(low, other[0]) <= min(high, other[1])
    ring = [[1, 0], [0, 1], [-1, 0], [0, -1], [0.5, 0.25], [2, -3], [-0.125, 0.75]]
    for codebook in (edge_heavy_nine(), tk.PointCodebook(ring)):
        known = float(tk.accuracy(codebook, 2.25, method=tk.Exact()))
        holds(Enclosed.accuracy(codebook, "9/4"), known, slack=1e-13)
    line = tk.PointCodebook([[-1, -1], [0, 0], [2, 2]])  # no corner anywhere
    value = 1 - 2 * (mpmath.ncdf(-mpmath.sqrt(2)) + mpmath.ncdf(-2 * mpmath.sqrt(2))) / 3
    holds(Enclosed.accuracy(line, 4), value)


def moved(n: int, snr: Any) -> tuple[Fraction, Fraction]:
    return Enclosed(
        {"what": "accuracy", "codebook": {"kind": "vertex to centre", "n": n}, "snr": snr}
    ).enclosure()


@pytest.mark.parametrize("snr", ["1/2", "3", "30"])
def test_moved_vertex_where_all_is_known(snr: str) -> None:
    """One dimension is a line, two are points of the plane."""
    line = Enclosed.accuracy(tk.ProductCodebook([[0.0, 1.0]]), snr).enclosure()
    plane = tk.PointCodebook([[0, 0], [1, 1], [1, -1], [-1, 1]])
    flat = Enclosed(
        {
            "what": "accuracy",
            "codebook": {"kind": "points", "points": np.asarray(plane.points).astype(int).tolist()},
            "snr": snr,
        }
    ).enclosure()
    for n, (low, high) in ((1, line), (2, flat)):
        bracket = moved(n, snr)
        assert bracket[0] <= low <= high <= bracket[1]
        assert bracket[1] - bracket[0] <= Fraction(1, 4**n)


@pytest.mark.parametrize("n", [5, 8])
def test_moved_vertex_against_sampling(n: int) -> None:
    codebook = centre_for_vertex(n)
    for snr in (3, 8):
        found = tk.accuracy(codebook, float(snr), key=0, method=tk.MonteCarlo(2**16))
        error = 5 * float(found.standard_error)
        low, high = Enclosed.accuracy(codebook, snr).enclosure()
        assert low - error <= float(found.value) <= high + error


def test_parity_classes() -> None:
    """The table of E8 has the tokens of `e8_codebook`, and their union bound."""
    tokens = set()
    for part in E8_CUT["parts"]:
        levels = [[float(Fraction(x)) for x in line] for line in part["levels"]]
        for index in itertools.product(range(3), repeat=8):
            if sum(index) % 2 == part["parity"]:
                tokens.add(tuple(round(levels[c][i] * 5) for c, i in enumerate(index)))
    codebook = tk.e8_codebook()
    assert tokens == {tuple(row) for row in np.rint(np.asarray(codebook.points) * 5).astype(int)}
    low, high = Enclosed.accuracy(E8_CUT, 60).enclosure()
    known = float(tk.bounds.union_bound(codebook, 60.0).value)
    assert float(1 - low) == pytest.approx(known, rel=1e-12)
    assert high >= 1


def test_intervals_hold_what_is_between() -> None:
    low, high = Enclosed.accuracy(tk.FSQ((3,)), ("1/2", "3/5")).enclosure()
    for snr in ("1/2", "11/20", "3/5"):
        inner = Enclosed.accuracy(tk.FSQ((3,)), snr).enclosure()
        assert low <= inner[0] <= inner[1] <= high


def test_tails_are_in_the_balls() -> None:
    """What lies beyond the ends of a quadrature is counted, also where nothing lies inside."""
    from flint import acb, ctx

    before = ctx.prec
    try:
        ctx.prec = 64
        found = verify_less.expectation(lambda z, _: acb(0) * z, 3)
    finally:
        ctx.prec = before
    ends = math.isqrt(128) + 2
    assert 3 * math.exp(-(ends**2) / 2) <= float(found.rad()) < 4 * math.exp(-(ends**2) / 2)
