"""Sums over pairs of tokens, and intersections of half-spaces, held against 25 digits."""

import mpmath as mp
import numpy as np
import pytest
from scipy import special
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl.halfspaces import overlaps, pair_sums
from tokenkl.information.rare.profile import STATISTICS


def _upper_tail(r: float) -> mp.mpf:
    return mp.erfc(mp.mpf(r) / mp.sqrt(2)) / 2


def test_tail() -> None:
    with mp.workdps(30):
        for r in np.linspace(-5, 36, 200):
            assert abs(pair_sums.tail(float(r)) / _upper_tail(float(r)) - 1) < 1e-13, r
    assert pair_sums.tail(0.0) == pytest.approx(0.5, rel=1e-15)


def _expected_kappa(a: float, odds: float) -> np.ndarray:
    """exp(-a^2/8) E kappa(a x + l) for entropy and variance, by another rule."""
    with mp.workdps(25):

        def integrand(x: mp.mpf, which: int) -> mp.mpf:
            v = abs(a * x + odds)
            w = mp.exp(-v)
            kappa = ((1 + w) * mp.log1p(w) / w + v) if which == 0 else 1 / (1 + w)
            return mp.npdf(x) * mp.exp(-v / 2 - mp.mpf(a) ** 2 / 8) * kappa

        kink = -odds / a
        places = sorted({*np.linspace(-12, 12, 9), kink, kink - 4 / a, kink + 4 / a})
        places = [-20 - a, *places, 20 + a]
        return np.array([float(mp.quad(lambda x, m=m: integrand(x, m), places)) for m in (0, 1)])


@pytest.mark.parametrize(
    ("a", "odds"),
    [(0.05, 0.0), (0.5, 1.0), (2.0, 0.0), (2.0, 1.9), (3.0, 20.0), (7.0, -3.0), (12.0, 0.0)],
)
def test_pair_integrals(a: float, odds: float) -> None:
    expected = _expected_kappa(a, odds)
    np.testing.assert_allclose(
        pair_sums.pair_integrals(a, odds), expected, rtol=pair_sums.QUADRATURE
    )
    if a >= pair_sums.REGULAR and abs(odds) <= a * a / 2:
        out = [np.empty(1) for _ in range(5)]
        known = np.array([a]), np.array([odds]), np.empty((2, 1))
        pair_sums._lattice(*known, *out, 1, odds == 0)
        np.testing.assert_allclose([out[3][0], out[4][0]], expected, rtol=pair_sums.QUADRATURE)


def _codebook(equal: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(700, 5))
    prior = np.full(700, 1 / 700) if equal else rng.dirichlet(np.ones(700))
    return points, np.log(prior)


def _sums(equal: bool, h: np.ndarray, edges: np.ndarray) -> pair_sums.PairSums:
    points, log_prior = _codebook(equal)
    return pair_sums.pair_sums(points, log_prior, np.arange(700), equal, h, edges, True)


@pytest.mark.parametrize("equal", [True, False])
def test_sums(equal: bool) -> None:
    points, log_prior = _codebook(equal)
    h = np.array([3.0, 1.0, 6.0])
    found = _sums(equal, h, np.full(3, 1e300))
    distance = cdist(points, points)
    off = ~np.eye(700, dtype=bool)
    odds = np.subtract.outer(log_prior, log_prior)
    for level, root in enumerate(h):
        reach = np.where(off, root * distance, 1.0)
        terms = np.exp(log_prior)[:, None] * special.ndtr(-(reach / 2 + odds / reach)) * off
        np.testing.assert_allclose(found.rows[level], terms.sum(axis=1), rtol=1e-12)
        np.testing.assert_allclose(found.most[level], terms.max(axis=1), rtol=1e-12)
        np.testing.assert_allclose(found.totals[level, 0], terms.sum(), rtol=1e-12)
    assert (found.dropped == 0).all()
    # A few tokens, where all pairs can be integrated one by one.
    few = pair_sums.pair_sums(
        points[:30], log_prior[:30], np.arange(30), False, h, h * 0 + 1e300, True
    )
    expected = np.zeros((3, 3))
    for i in range(30):
        for j in range(i):
            root = np.exp((log_prior[i] + log_prior[j]) / 2)
            for level, one in enumerate(h):
                pair = pair_sums.pair_integrals(one * distance[i, j], log_prior[i] - log_prior[j])
                terms = pair[0], pair[1] * distance[i, j] ** 2, 2 * pair[1]
                expected[level] += root * np.array(terms)
    np.testing.assert_allclose(few.totals[:, 1:], expected, rtol=pair_sums.QUADRATURE)


@pytest.mark.parametrize("equal", [True, False])
def test_dropped_pairs(equal: bool) -> None:
    """What is left out is bounded, and the bound is near."""
    h = np.array([3.0, 1.0, 6.0])
    known = pair_sums.class_edges()
    edges = known[np.searchsorted(known, [4.0, 9.0, 2.0])]
    full, part = _sums(equal, h, np.full(3, 1e300)), _sums(equal, h, edges)
    missing = full.totals - part.totals
    assert (missing > 0).all()
    assert (part.dropped >= missing).all()
    assert (part.dropped <= 1.2 * missing).all()


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for count in ("1", "3"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", count)
        results.append(_sums(False, np.array([2.0, 4.0]), np.array([16.0, 8.0])))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pairs_bound_all_four() -> None:
    grid = tk.FSQ((3, 3), priors=[[0.5, 0.3, 0.2]] * 2)
    snr = np.array([0.5, 4.0, 20.0])
    exact = tk.profile(grid, snr, STATISTICS)
    log_prior = np.asarray(grid.log_prior)
    found = pair_sums.pair_sums(
        grid.points, log_prior, np.arange(9), False, np.sqrt(snr), np.full(3, 1e300), True
    )
    for index, name in enumerate(STATISTICS):
        assert (found.totals[:, index] >= exact[name].value).all()
        assert found.totals[-1, index] < 1.1 * exact[name].value[-1]


@pytest.mark.parametrize(
    ("r", "s", "c"),
    [
        (1.0, 2.0, 0.3),
        (6.0, 6.0, 0.5),
        (6.0, 12.0, -0.5),
        (3.0, 3.1, 0.99),
        (0.1, 0.2, 0.5),
        (2.0, 2.0, -0.9),
        (-1.0, 2.0, 0.3),
        (-1.0, -2.0, -0.4),
        (2.0, -3.0, 0.7),
        (20.0, 21.0, 0.6),
    ],
)
def test_wedge(r: float, s: float, c: float) -> None:
    """P(X > r, Y > s) with full relative precision, down to 1e-118."""
    with mp.workdps(25):
        root = mp.sqrt(1 - mp.mpf(c) ** 2)
        places = sorted({r, *(r + x for x in (0.05, 0.2, 0.5, 1, 2, 4, 7, 11, 16)), max(s / c, r)})
        exact = mp.quad(lambda t: mp.npdf(t) * _upper_tail((s - c * t) / root), places)
    assert sum(overlaps.wedge(r, s, c)) == pytest.approx(float(exact), rel=1e-9)
    assert sum(overlaps.wedge(s, r, c)) == pytest.approx(float(exact), rel=1e-9)


def test_wedge_where_normals_agree_or_oppose() -> None:
    assert sum(overlaps.wedge(2.0, 3.0, 1.0)) == pytest.approx(special.ndtr(-3.0), rel=1e-12)
    assert sum(overlaps.wedge(2.0, 2.0, 1.0)) == pytest.approx(special.ndtr(-2.0), rel=1e-12)
    assert sum(overlaps.wedge(2.0, 3.0, -1.0)) == 0
    assert sum(overlaps.wedge(-np.inf, 3.0, 0.0)) == pytest.approx(special.ndtr(-3.0), rel=1e-12)
    assert sum(overlaps.wedge(np.inf, 3.0, 0.0)) == 0
