"""S = E[1 - sum p^2] by every estimator: against mpmath, exact grids, and single posteriors."""

from __future__ import annotations

import jax
import mpmath
import mpmath as mp
import numpy as np
import pytest
from intervals import Intervals
from scipy import special

import tokenkl as tk
from benchmarks.coverage import rotated
from problems import Problem, assert_honest, onehot_problems, product_problems
from tokenkl.halfspaces import overlaps, pair_sums, tokens
from tokenkl.information import exact_quantities
from tokenkl.information.sampling import kernel, xla

BUDGET = 2e-5


def by_mpmath(levels: np.ndarray, prior: np.ndarray, snr: float) -> mp.mpf:
    """E[1 - p(k | Y)] over the noise x of every true level, a form of its own, to 18 digits.

    With odds R against the true level the integrand is phi(x) R / (1 + R).
    """
    with mp.workdps(30):
        u, h = [mp.mpf(float(x)) for x in levels], mp.sqrt(mp.mpf(float(snr)))
        weights = [mp.mpf(float(x)) for x in prior]
        total = mp.mpf(0)
        for k, own in enumerate(u):
            others = [
                (h * (v - own), mp.log(weights[j] / weights[k])) for j, v in enumerate(u) if j != k
            ]

            def integrand(x: mp.mpf, others: list = others) -> mp.mpf:
                odds = mp.fsum(mp.exp(d * x - d * d / 2 + log) for d, log in others)
                return mp.npdf(x) * odds / (1 + odds)

            kinks = [float((d * d / 2 - log) / d) for d, log in others]
            ends = sorted([x for x in kinks if abs(x) < 60] + [0.0])
            width = mp.mpf(min(0.2, 0.45 / max(1e-9, *(abs(float(d)) for d, _ in others), 1.0)))
            low, high = ends[0] - 10, ends[-1] + 10
            count = int((high - low) / width) + 1
            part = mp.fsum(integrand(low + width * i) for i in range(count)) * width
            total += weights[k] * part
        return total / mp.fsum(weights)


HARD = {
    "near-certain prior": ([0.0, 1.0, 2.5], [1 - 2e-9, 1e-9, 1e-9], 3.0),
    "errors of 1e-280": ([-1.0, 1.0], [0.5, 0.5], 1283.0),
    "resolved, uneven": ([0.0, 1.0, 2.1], [0.4, 0.1, 0.5], 180.0),
    "not quite resolved": ([0.0, 1.0, 2.1], [0.4, 0.1, 0.5], 60.0),
    "a gap of 1e-7": ([0.0, 1e-7, 1.0], [0.3, 0.3, 0.4], 30.0),
    "no signal": ([0.0, 1.0, 2.0], [0.2, 0.3, 0.5], 1e-12),
    "offset": ([1e6, 1e6 + 0.5, 1e6 + 1.25], [0.5, 0.25, 0.25], 9.0),
    "scale 1e150": ([0.0, 1e150, 2.1e150], [0.5, 0.25, 0.25], 9e-300),
    "scale 1e-150": ([0.0, 1e-150, 2.1e-150], [0.5, 0.25, 0.25], 9e300),
}


@pytest.mark.parametrize("name", HARD)
def test_lines_against_mpmath(name: str) -> None:
    levels, prior, snr = HARD[name]
    found = tk.sampling_error(tk.ProductCodebook([levels], [prior]), snr)
    scale = max(abs(np.diff(levels)).max(), 0.0)
    answer = by_mpmath(
        (np.array(levels) - levels[0]) / scale, np.array(prior), float(snr * scale * scale)
    )
    assert str(found.method) == "exact, by coordinate"
    # The quotients of the reference are rounded, by a few 1e-16.
    assert abs(found.value - float(answer)) <= found.numerical_error + 1e-13 * float(answer)
    np.testing.assert_allclose(float(found), float(answer), rtol=1e-11)


def test_windows_over_a_long_line() -> None:
    """Four levels in reach of each other again and again: each period adds the same."""
    period = np.array([0.0, 0.5, 1.125, 2.0])  # no rounding beside the others
    far = 1024.0
    one = tk.ProductCodebook([period])
    many = tk.ProductCodebook([(far * np.arange(50)[:, None] + period).ravel()])
    snr = np.array([4.0, 30.0, 100.0])
    found, answer = tk.sampling_error(many, snr), tk.sampling_error(one, snr)
    np.testing.assert_allclose(found.value, answer.value, rtol=1e-11)
    assert (np.abs(found.value - answer.value) <= found.numerical_error + 1e-15).all()


@pytest.mark.parametrize(
    "problem",
    [p for p in product_problems() if p.codebook.K == 2],
    ids=lambda problem: problem.label,
)  # fmt: skip
def test_two_levels_have_the_mmse_of_the_references(problem: Problem) -> None:
    """Of two tokens at a distance d the MMSE is d^2 E p q, and S = 2 E p q."""
    d = problem.codebook.diameter()
    answer = 2 * problem.answers["mmse"] / d**2
    found = tk.sampling_error(problem.codebook, problem.snr)
    np.testing.assert_allclose(float(found), answer, rtol=1e-11)
    assert_honest(found, answer)


@pytest.mark.parametrize("problem", onehot_problems(), ids=lambda problem: problem.label)
def test_one_hot_tokens_have_that_of_the_references(problem: Problem) -> None:
    """E |e_k - E[e | Y]|^2 = 1 - E sum p^2 for unit vectors, whatever the prior."""
    if "mmse" in problem.answers:
        found = tk.sampling_error(problem.codebook, problem.snr)
        np.testing.assert_allclose(float(found), problem.answers["mmse"], rtol=1e-11)
        assert_honest(found, problem.answers["mmse"])


def _posteriors(
    points: np.ndarray, log_prior: np.ndarray, ids: np.ndarray, noise: np.ndarray, root: float
) -> np.ndarray:
    """Of every sample, from differences to the true token."""
    step = points[None] - points[ids][:, None]
    logits = root * np.einsum("skn,sn->sk", step, noise) - root**2 * (step**2).sum(axis=2) / 2
    return special.softmax(logits + log_prior, axis=1)


@pytest.mark.parametrize("equal", [True, False])
def test_single_samples(equal: bool) -> None:
    """The kernels' column is 1 - sum p^2; digits are lost only where another token wins."""
    rng = np.random.default_rng(11)
    points = rng.standard_normal((700, 3))
    log_prior = np.log(np.full(700, 1 / 700) if equal else rng.dirichlet(np.ones(700)))
    ids, noise = rng.integers(700, size=60), rng.standard_normal((60, 3))
    h = np.array([1e-3, 0.7, 4.0, 60.0])
    table = kernel.lay_out(points, log_prior)
    found = kernel.block_statistics(table, ids, noise, h, False, False, True)
    four = kernel.block_statistics(table, ids, noise, h, False)
    assert found.shape[1] == 5
    np.testing.assert_array_equal(found[:, :4], four)
    single = kernel.block_statistics(table, ids, noise, h, False, True, True)
    on_gpu = xla.block_statistics(points, log_prior, ids, noise, h, False, True)
    for level, root in enumerate(h):
        p = _posteriors(points, log_prior, ids, noise, root)
        own = p[np.arange(60), ids]
        rest = p.copy()
        rest[np.arange(60), ids] = 0.0
        others = rest.sum(axis=1)
        answer = 2 * own * others + (others**2 - (rest**2).sum(axis=1))
        np.testing.assert_allclose(found[level, 4], answer, rtol=1e-11, atol=1e-15)
        np.testing.assert_allclose(single[level, 4], answer, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(on_gpu[level, 4], answer, rtol=1e-3, atol=1e-5)


def _excess(p: np.ndarray) -> float:
    """What the sums over pairs of one posterior have beyond 1 - sum p^2, over M_2."""
    p = np.sort(p)[::-1]
    i, j = np.triu_indices(p.size, 1)
    others = np.array([np.delete(p, pair).sum() for pair in zip(i, j, strict=True)])
    terms = 2 * p[i] * p[j] / (p[i] + p[j]) * others
    rank = np.arange(p.size)
    return float(terms.sum() / (rank * (rank - 1) / 2 @ p))


def test_what_pairs_count_in_excess() -> None:
    rng = np.random.default_rng(12)
    points = rng.standard_normal((9, 3))
    made = tokens.make_tokens(tk.PointCodebook(points, rng.dirichlet(np.ones(9))), 0)
    k, noise = rng.integers(9, size=40), rng.standard_normal((40, 3))
    codebook = (
        pair_sums.in_tiles(made.points), made.points, made.log_prior, made.ids, made.equal
    )  # fmt: skip
    found = np.zeros((4, 40))
    overlaps.remainders(codebook, 1.5, k, noise, True, found)
    p = _posteriors(made.points, made.log_prior, k, noise, 1.5)
    np.testing.assert_allclose(
        found[3], [_excess(row) for row in p], rtol=9 * np.exp(-overlaps.MINOR)
    )


@pytest.mark.parametrize(
    "weights",
    [
        np.ones(7),
        np.exp(-np.linspace(0, 19, 60)),
        np.array([1.0, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17]),
        np.array([1.0, 1.0, 1e-9, 1e-9, 1e-9, 1e-10]),
        np.array([1e250, 1e249, 1e200, 1e140, 1.0, 1.0, 1e-3]) / 1e250,
    ],
    ids=["equal", "spread", "one of far more", "two alike", "beyond any product"],
)
def test_logarithms_in_excess(weights: np.ndarray) -> None:
    """sum_y log(1 + w_y / w_x) - log(1 + sum_y w_y / w_x) against many digits."""
    with mpmath.workdps(400):
        for x, own in enumerate(weights):
            ratios = [mpmath.mpf(w) / mpmath.mpf(own) for y, w in enumerate(weights) if y != x]
            logs = mpmath.fsum(mpmath.log(1 + one) for one in ratios)
            answer = float(logs - mpmath.log(1 + mpmath.fsum(ratios)))
            found = overlaps.excess(weights, weights.size, x)
            assert found == pytest.approx(answer, rel=1e-13, abs=0)


GRIDS = {
    "equal": tk.FSQ((3, 4, 2)),
    "unequal": tk.ProductCodebook([[0, 1, 1.7], [-1, 1], [0, 3, 4]], [[0.2, 0.3, 0.5], None, None]),
    "a prior of 1e-6": tk.ProductCodebook(
        [[0, 1, 2], [-1, 1], [0.0]], [[0.5, 0.5 - 1e-6, 1e-6], None, None]
    ),
    "clusters": tk.ProductCodebook([[0.0, 1.0], 1e-3 * np.arange(6), [0.0]]),
    "clusters, unequal": tk.ProductCodebook(
        [[-1.0, 0.1, 1.3], [0.0, 1e-3, 0.2], [0.0]], [[0.2, 0.3, 0.5], [0.6, 0.1, 0.3], None]
    ),
}
METHODS = {
    "unasked": None,
    "few": tk.MonteCarlo(n_samples=2000),
    "target": tk.MonteCarlo(rtol=0.01, atol=1e-4),
    "rare": tk.RareEvents(),
    "single": tk.MonteCarlo(n_samples=5000, precision="single"),
}


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("name", GRIDS)
def test_sampled_intervals_hold_exact_answers(name: str, how: str) -> None:
    grid, snr = GRIDS[name], np.array([0.02, 1.0, 8.0, 40.0, 150.0])
    answer = tk.sampling_error(grid, snr).value
    found = tk.sampling_error(rotated(grid, seed=1), snr, method=METHODS[how], key=5)
    level = 1 - BUDGET / snr.size
    low, high, _ = found.confidence_interval(level)
    rounding = 1e-10 * answer  # of rotated coordinates
    assert (low <= answer + rounding).all()
    assert (answer <= high + rounding).all()
    assert (found.standard_error[:2] < 0.05 * answer[:2]).all()
    if how in ("unasked", "rare"):
        # One or two of the draws that were asked for at 40 are mistakes between clusters.
        assert found.interval_supported[
            snr != 40 if (how, name) == ("rare", "clusters") else ...
        ].all()
        assert (found.standard_error < 0.05 * answer).all()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["unasked", "few", "target"])
def test_coverage(how: str) -> None:
    """Of 80 intervals at every level, sixteen of every grid."""
    snr, runs, intervals = np.array([0.3, 4.0, 25.0]), 16, Intervals(len(GRIDS))
    for number, grid in enumerate(GRIDS.values()):
        answer = tk.sampling_error(grid, snr).value
        points, supported = rotated(grid, seed=1), np.zeros(3)
        for key in range(runs * number, runs * (number + 1)):
            found = tk.sampling_error(points, snr, method=METHODS[how], key=key)
            intervals.add(number, found, answer)
            supported += found.interval_supported
        assert supported.min() > 0
    intervals.check()


@pytest.mark.parametrize("power", [-498, 498])
def test_extreme_scales(power: int) -> None:
    """Everything depends on sqrt(snr) times the points alone, bit for bit."""
    base, snr = np.random.default_rng(13).standard_normal((7, 3)), np.array([0.3, 3.0, 300.0])
    known = tk.sampling_error(tk.PointCodebook(base), snr, key=2)
    moved = tk.PointCodebook(np.ldexp(base, power))
    found = tk.sampling_error(moved, np.ldexp(snr, -2 * power), key=2)
    np.testing.assert_array_equal(found.value, known.value)
    np.testing.assert_array_equal(found.standard_error, known.standard_error)


@pytest.mark.parametrize("how", ["unasked", "few", "rare"])
def test_an_offset_and_duplicates(how: str) -> None:
    """Where every token is there twice, a drawn one is right half as often."""
    grid, snr = tk.FSQ((3, 3, 2)), np.array([0.5, 9.0])
    answer = 1 - (1 - tk.sampling_error(grid, snr).value) / 2
    points = 1e6 + np.repeat(rotated(grid, seed=2).points, 2, axis=0)
    twice = tk.PointCodebook(points, allow_duplicates=True)
    found = tk.sampling_error(twice, snr, method=METHODS[how], key=1)
    low, high, _ = found.confidence_interval(1 - BUDGET / 2)
    assert (low <= answer + 1e-8).all()
    assert (answer <= high + 1e-8).all()


def test_duplicates_on_a_line() -> None:
    line = tk.PointCodebook([[0.0], [0.0], [1.0]], [0.3, 0.3, 0.4], allow_duplicates=True)
    found = tk.sampling_error(line, [0.0, 0.5, 1e6])
    # E sum p^2 over the two places, where the first has 0.6 in halves.
    places = tk.ProductCodebook([[0.0, 1.0]], [[0.6, 0.4]])
    share = tk.sampling_error(places, 0.5).value / 2  # E p (1 - p) of either
    middle = 1 - (0.6 - share) / 2 - (0.4 - share)
    np.testing.assert_allclose(found.value, [1 - 0.34, middle, 0.3], rtol=1e-12)
    np.testing.assert_allclose(found.numerical_error, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    "codebook",
    [
        tk.ProductCodebook([[0.0, 1.0, 3.0]], [[0.5, 0.2, 0.3]]),
        tk.PointCodebook(np.eye(4)[:, :3], [0.4, 0.3, 0.2, 0.1]),
    ],
    ids=repr,
)
def test_the_slope_without_signal(codebook: tk.Codebook) -> None:
    """dS/dsnr = -sum pi^2 |e - mean|^2 at snr = 0, where samples of it would have none."""
    prior, points = np.asarray(codebook.prior), np.asarray(codebook.points)
    expected = -(prior**2 @ ((points - prior @ points) ** 2).sum(axis=1))
    with jax.enable_x64(True):
        method = None if codebook.factors else tk.MonteCarlo(n_samples=16)
        slope = jax.jit(
            jax.grad(lambda snr: tk.sampling_error(codebook, snr, method=method, key=0).value)
        )(0.0)
    assert float(slope) == pytest.approx(expected, rel=1e-9)


def test_it_is_found_where_it_is_named() -> None:
    grid = tk.FSQ((3, 3))
    assert "sampling_error" not in tk.profile(grid, 1.0).estimates
    assert "sampling_error" not in tk.Gaussian(grid).profile(1.0).estimates
    assert "sampling_error" in exact_quantities(grid)
    for found in (
        tk.profile(grid, 1.0, ("sampling_error",)),
        tk.Gaussian(grid).profile(1.0, ("sampling_error",)),
    ):
        assert found["sampling_error"].quantity == "sampling_error"
        assert float(found["sampling_error"]) == float(tk.sampling_error(grid, 1.0))
    with pytest.raises(ValueError, match="'error_probability', 'sampling_error', "):
        tk.plan(grid, 1.0, ("loss",))


def test_a_lattice_that_cannot_be_listed_is_refused() -> None:
    with pytest.raises(ValueError, match="a posterior needs all tokens"):
        tk.sampling_error(tk.d_codebook(24, 4), 100.0, key=0)


def nearly_one_distance() -> tuple[tk.Codebook, np.ndarray]:
    """Two clusters whose tokens lie at distances that differ in the seventh digit only."""
    points = np.array([[0.0, 0.0], [5e-7, 0.0], [0.0, 0.05], [5e-7, 0.05]])
    return tk.PointCodebook(rotated(tk.PointCodebook(points), seed=1).points), np.array([1e4])


@pytest.mark.parametrize(
    ("codebook", "snr"),
    [
        nearly_one_distance(),
        (tk.PointCodebook(np.random.default_rng(4).standard_normal((9, 3))), np.array([1.0, 50.0])),
    ],
    ids=["clusters", "points"],
)
@pytest.mark.parametrize("method", [None, tk.MonteCarlo(n_samples=1500), tk.RareEvents()], ids=repr)
def test_other_quantities_are_found_as_without_it(
    codebook: tk.PointCodebook, snr: np.ndarray, method: tk.MonteCarlo | tk.RareEvents | None
) -> None:
    """To rounding: what is asked beside a quantity is no business of its own."""
    snr = snr[-1:] if isinstance(method, tk.RareEvents) else snr
    alone = tk.profile(codebook, snr, method=method, key=3)
    beside = tk.profile(codebook, snr, (*tk.QUANTITIES, "sampling_error"), method=method, key=3)
    for name in tk.QUANTITIES:
        for field in ("value", "standard_error", "numerical_error"):
            found = getattr(beside[name], field)
            np.testing.assert_allclose(found, getattr(alone[name], field), rtol=1e-9, atol=1e-300)
    low, high, _ = beside["sampling_error"].confidence_interval(1 - 1e-7)
    error = beside["error_probability"].value
    assert (low <= 2 * error + 1e-9).all()  # P_e <= S <= 2 P_e
    assert (high >= error - 1e-9).all()
