"""Sums over pairs of tokens, and intersections of half-spaces, held against 25 digits."""

import itertools
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl.halfspaces import overlaps, pair_sums, wedges
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


# ---- How two half-spaces are drawn --------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=300)
@given(
    r=st.floats(-3, 10),
    further=st.floats(0, 8),
    c=st.floats(-1, 1),
)
def test_about(r: float, further: float, c: float) -> None:
    """What is drawn with is nowhere much less than the truth, so that no weight is large."""
    found, exact = overlaps.about(r, r + further, c), sum(overlaps.wedge(r, r + further, c))
    if found == 0:
        near = max(r, 0.0)
        assert exact <= np.exp(-overlaps.FAINT / 2 - near**2 / 2)
    else:
        assert exact <= 1.25 * found
    if c >= 0 and r > 0 and found > 0:
        assert exact >= 0.9 * found


def _small(rng: np.random.Generator) -> tuple[Any, ...]:
    """A codebook for the kernels, with unequal priors and two tokens at one place."""
    points = rng.normal(size=(30, 3))
    points[7] = points[20]
    log_prior = rng.normal(size=30)
    log_prior -= special.logsumexp(log_prior)
    return pair_sums.in_tiles(points), points, log_prior, np.arange(30), False


@pytest.mark.slow
def test_weights_of_both_ways_make_up_the_second_bonferroni_sum() -> None:
    """P over the probability of the choice has the mean sum of P over all pairs."""
    rng, h, size = np.random.default_rng(4), 2.0, 20_000
    codebook = _small(rng)
    _, points, log_prior, ids, _ = codebook
    for k in (3, 7, 20):
        distance = np.linalg.norm(points - points[k], axis=1)
        odds = log_prior[k] - log_prior
        with np.errstate(divide="ignore", invalid="ignore"):
            r = h * distance / 2 + odds / (h * distance)
        same = (distance == 0) & (ids != k)
        r[same] = np.where(odds[same] > 0, np.inf, -np.inf)
        away = (points - points[k]) / np.where(distance > 0, distance, 1)[:, None]
        others = np.flatnonzero((ids != k) & (r < np.inf))
        exact = sum(
            sum(overlaps.wedge(float(r[i]), float(r[j]), float(np.clip(away[i] @ away[j], -1, 1))))
            for i, j in itertools.combinations(others, 2)
        )
        for by_list in (False, True):
            out = np.zeros((size, len(overlaps.WEDGE)))
            overlaps.choose(
                codebook, h, np.inf, np.full(size, k), np.full(size, by_list),
                rng.random((size, 2)), out,
            )  # fmt: skip
            found = out[:, 9] if by_list else out[:, 7] * out[:, 8]
            error = found.std() / np.sqrt(size)
            assert error < 0.02 * exact
            assert abs(found.mean() - exact) < 4.3 * error + 1e-9 * exact
            assert found.max() < 20 * exact


def test_where_two_can_be_chosen_alone_the_weight_is_their_probability() -> None:
    """However far the chance is from the truth, as it is where they are opposite."""
    rng, furthest = np.random.default_rng(5), 0.0
    for _ in range(40):
        points = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.1]]) * rng.uniform(0.5, 2, (3, 1))
        log_prior = special.log_softmax(rng.normal(size=3))
        codebook = (pair_sums.in_tiles(points), points, log_prior, np.arange(3), False)
        size = np.linalg.norm(points[1:], axis=1)
        r = size + (log_prior[0] - log_prior[1:]) / (2 * size)  # h is 2
        c = float(points[1] @ points[2] / size.prod())
        true = sum(overlaps.wedge(float(r[0]), float(r[1]), c))
        for by_list in (False, True):
            out = np.zeros((1, len(overlaps.WEDGE)))
            arguments = np.zeros(1, int), np.array([by_list]), rng.random((1, 2)), out
            overlaps.choose(codebook, 2.0, np.inf, *arguments)
            if out[0, 5] + out[0, 6] > 0:  # else nothing could be chosen
                likely = overlaps.about(float(r.min()), float(r.max()), c)
                limit, least = overlaps._limit(float(r.min()), 3, likely)
                mass = np.where(r <= limit, special.ndtr(-r), least)  # the nearer is drawn by it
                row = true * mass.sum() / mass[r.argmin()]
                assert out[0, 7] * out[0, 8] == pytest.approx(row, rel=1e-9)
                assert out[0, 9] == pytest.approx(true, rel=1e-9)
                furthest = max(furthest, abs(np.log(likely / true)))
    assert furthest > 0.5


def test_what_is_beyond_the_limit_is_drawn_alike() -> None:
    r = np.array([1.0, 9.0, np.inf, 8.0, 2.0, 8.0, 9.5, -np.inf])
    squared = np.array([1.0, 9.0, 1.0, 8.0, 2.0, 8.0, 100.0, 0.0])
    parts = (np.arange(12) + 0.5) / 12
    drawn = [overlaps._beyond(r, squared, np.inf, 5.0, -1, part) for part in parts]
    assert drawn == [(4, i) for i in (1, 3, 5, 6) for _ in range(3)]
    assert {overlaps._beyond(r, squared, 50.0, 5.0, -1, part) for part in parts} == {
        (3, i) for i in (1, 3, 5)
    }
    # Farther than that of the token 3: a tie counts for the one with the larger number.
    assert {overlaps._beyond(r, squared, np.inf, 5.0, 3, part) for part in parts} == {
        (3, i) for i in (1, 5, 6)
    }
    assert overlaps._beyond(r, squared, np.inf, 10.0, -1, 0.3) == (0, -1)


def test_drawn_with_the_chances_that_are_given() -> None:
    chance = np.array([0.0, 0.5, 0.0, 0.25, 0.0])
    uniform = (np.arange(1000) + 0.5) / 1000
    found = [overlaps._drawn(chance, 5, 0.25, u) for u in uniform]
    assert {total for _, total in found} == {1.0}
    index = np.array([one for one, _ in found])
    assert [(index == i).mean() for i in (1, 3)] == [0.5, 0.25]
    part = (index[index >= 5] - 5) / 2**30
    assert np.abs(part - (np.arange(250) + 0.5) / 250).max() < 1e-8
    assert overlaps._drawn(np.zeros(3), 3, 0.0, 0.5) == (-1, 0.0)


def test_the_limit_leaves_next_to_nothing_beyond() -> None:
    for nearest in (-1.0, 0.5, 3.0, 20.0):
        overlap = special.ndtr(-nearest) / 50
        limit, least = overlaps._limit(nearest, 65536, overlap)
        assert least == pytest.approx(special.ndtr(-limit), rel=1e-12)
        # Of lists of 48, at 65536 x 16: with 1e-3 draws are lost there, standard errors grow.
        assert 65536 * least <= 1e-4 * overlap
        assert limit**2 - max(nearest, 0) ** 2 < 60


@pytest.mark.parametrize(
    ("outer", "inner", "c"),
    [
        (1.0, -0.5, -0.2),
        (3.0, -2.9, -0.99999),  # opposite, and the wedge is thin
        (2.0, -1.0, -0.9999999),  # they all but exclude each other
        (0.5, 0.0, 0.3),
        (-0.5, -0.6, -0.7),
        (-0.1, -0.2, -1.0),
        (-1e-9, -1e-9, -1.0),
        (-np.inf, -np.inf, 0.0),
        (1.0, -np.inf, 0.5),
    ],
)
def test_draws_where_a_half_plane_holds_the_origin(outer: float, inner: float, c: float) -> None:
    """x has the density phi(x) Q(t(x)) beyond `outer`, and y the normal law beyond t(x)."""
    size, root = 4000, np.sqrt(max(1 - c * c, 1e-30))
    given = np.repeat([[outer], [inner], [c], [root]], size, axis=1)
    x, y = wedges._rejected(given[0], given[1], given[2], given[3], np.random.default_rng(3))
    start, inner = max(outer, -40.0), max(inner, -40.0)
    t = (inner - c * start - c * (x - start)) / root
    assert (x >= start).all()
    assert (y >= t - 1e-6 * np.abs(t)).all()

    def log_weight(u: np.ndarray) -> np.ndarray:
        left = special.log_ndtr(-(inner - c * start - c * u) / root)
        return np.asarray(left - start * u - u**2 / 2)

    u = np.unique(np.concatenate([[0.0], np.geomspace(1e-17, 60, 40_000)]))
    density = np.exp(log_weight(u) - log_weight(u).max())
    parts = np.diff(u) * (density[1:] + density[:-1]) / 2
    law = np.concatenate([[0.0], np.cumsum(parts)]) / parts.sum()
    if c > -1 + 1e-9:  # else what x has more than the start is lost in it
        assert stats.kstest(np.interp(x - start, u, law), "uniform").pvalue > 2e-5
        left = np.exp(special.log_ndtr(-y) - special.log_ndtr(-t))
        assert stats.kstest(left, "uniform").pvalue > 2e-5
