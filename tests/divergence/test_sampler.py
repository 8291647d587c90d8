"""Path KL of the ancestral sampler: against its other forms, quadrature and simulation.

Every statistical test may fail by chance with probability 2e-5 at most; keys are fixed.
"""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import pytest
from scipy import integrate, special, stats

import tokenkl as tk
from problems import assert_honest, zipf
from tokenkl.divergence import ancestral_kl, ancestral_kl_curve, prior_mismatch
from tokenkl.divergence.mmse_table import (
    Nodes,
    exact_table,
    sample_functionals,
    sampled_nodes,
    sampled_table,
    tabulate,
    unseen_variance,
)
from tokenkl.information.problem import Problem

Z = special.ndtri(1 - 1e-5)
GRID = np.concatenate([[0.0], np.geomspace(0.02, 40, 12)])
SKEWED = tk.ProductCodebook([[-1.0, 0.3, 1.0], [0.0, 1.5]], [[0.7, 0.2, 0.1], None])
POINTS = tk.PointCodebook(
    np.random.default_rng(5).standard_normal((12, 3)), np.arange(1, 13) / 78.0
)


def within(estimate: tk.Estimate, value: float) -> bool:
    half = Z * estimate.standard_error + estimate.numerical_error
    return bool(abs(estimate.value - value) <= half)


def scalar_loss(codebook: tk.ProductCodebook, gamma: float) -> float:
    """E Var(u|y)^2 of a one-coordinate codebook, -d mmse / d snr, by Simpson's rule over y."""
    u, prior = np.asarray(codebook.levels[0]), np.exp(codebook.coordinate_log_prior(0))
    h = np.sqrt(gamma)
    y = np.linspace(h * u.min() - 10, h * u.max() + 10, 4001)
    density = prior * np.exp(-((y[:, None] - h * u) ** 2) / 2) / np.sqrt(2 * np.pi)
    p = density / density.sum(axis=1, keepdims=True)
    variance = p @ u**2 - (p @ u) ** 2
    return float(integrate.simpson(density.sum(axis=1) * variance**2, x=y))


def two_tokens(rare: float, snr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """MMSE and entropy of two tokens at distance 1, one of them with this prior.

    By the trapezoid rule over the noise, in the log-odds of the rare token: the MMSE is its prior
    times E[p(other | y)] under its own law.
    """
    z = np.linspace(-40, 40, 2**14 + 1)
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    prior_odds = np.log(rare) - np.log1p(-rare)
    moved = np.sqrt(snr)[:, None] * z
    mine, other = (prior_odds + sign * snr[:, None] / 2 + moved for sign in (1, -1))
    mmse = rare * special.expit(-mine) @ weight
    lost = rare * np.logaddexp(0, -mine) + (1 - rare) * np.logaddexp(0, other)
    return mmse, lost @ weight


def by_definition(rare: float, grid: np.ndarray) -> float:
    mmse, entropy = two_tokens(rare, grid)
    return float(mmse[:-1] @ np.diff(grid) / 2 - (entropy[0] - entropy[-1]))


PRIORS = [1e-2, 1e-4, 1e-6, 1e-9, 1e-12, 1e-100]


@pytest.mark.parametrize("rare", PRIORS)
@pytest.mark.parametrize("points", [4, 9, 400])
def test_rare_tokens(rare: float, points: int) -> None:
    """The MMSE falls where snr is twice the log-odds, wherever tr Cov snr is: no node misses it.

    The few points are found one by one, the 400 from the table.
    """
    grid = np.array([1e-2, 20, 40, 5e4]) if points == 4 else np.geomspace(1e-2, 4e3, points)
    expected = by_definition(rare, grid)
    prior = np.array([rare, 1 - rare])
    for codebook, scale in ((tk.ProductCodebook([[0, 1.0]], [prior]), 1), (tk.OneHot(2, prior), 2)):
        if scale == 2 and (points == 400 or rare < 1e-12):
            continue  # the same table, a second slower; one-hot integrals are less exact there
        found = ancestral_kl_curve(codebook, [grid / scale])[0]
        assert_honest(found, expected)
        assert found.numerical_error < 1e-9 * expected


CONCENTRATED = [
    tk.ProductCodebook([[0, 1.0], [0, 1.0]], [[1e-3, 1 - 1e-3], [1e-9, 1 - 1e-9]]),
    tk.ProductCodebook([[-1, 1.0], [-1e-3, 1e-3], [-1e3, 0, 1e3]]),
    tk.ProductCodebook([[0, 1e-2, 1, 1.02]], [[1e-3, 0.4, 0.5, 0.099]]),
    tk.ProductCodebook([[-1, 0, 0.3, 1]], [[1e-12, 1e-7, 1 - 1e-12 - 1e-7 - 0.2, 0.2]]),
    tk.ProductCodebook([[-1e100, 3e100]], [[1e-40, 1 - 1e-40]]),
]


@pytest.mark.parametrize("codebook", CONCENTRATED, ids=repr)
@pytest.mark.parametrize("ends", [(0.0, 3e2), (1e-5, 1e6), (40.0, 90.0)])
def test_the_table_is_honest(codebook: tk.ProductCodebook, ends: tuple[float, float]) -> None:
    """Interpolated costs, MMSEs and areas against values found one by one, over many decades."""
    low, high = ends
    if codebook.levels[0][0] == -1e100:
        low, high = low * 1e-200, high * 1e-200
    table = exact_table(codebook, low, high)
    rng = np.random.default_rng(0)
    where = table.nodes.snr_of(rng.uniform(0, table.nodes.edges[-1], 200))
    here = tk.mmse(codebook, where)
    off = np.abs(table.mmse(where) - here.value)
    assert (off <= table.mmse_slack(where) + here.numerical_error).all()
    ends_of = table.nodes.snr_of(table.nodes.edges)
    entropy = tk.conditional_entropy(codebook, ends_of)
    lost = 2 * (entropy.value[0] - entropy.value)
    slack = 2 * (entropy.numerical_error[0] + entropy.numerical_error) + table.area_slack
    assert (np.abs(table.area(ends_of) - lost) <= slack).all()
    assert table.area_slack < 1e-10 * lost[-1]
    grids = [np.unique([low, *rng.choice(where, size), high]) for size in (1, 6, 40)]
    even = table.nodes.snr_of(np.linspace(0, table.nodes.edges[-1], 300))  # too many one by one
    curve = ancestral_kl_curve(codebook, [*grids, np.concatenate([[low], even[1:-1], [high]])])
    assert str(curve.method) == "exact, interpolated"
    for interpolated, grid in zip((curve[0], curve[1], curve[2]), grids, strict=True):
        one = ancestral_kl(codebook, grid)
        slack = one.numerical_error + interpolated.numerical_error
        assert abs(one.value - interpolated.value) <= slack


@pytest.mark.slow
def test_one_hot_with_unequal_priors() -> None:
    """Zipf and one near-certain token: the table against values found one by one."""
    for prior in (zipf(20), np.array([1e-8, 1e-3, 1 - 1e-8 - 1e-3])):
        codebook = tk.OneHot(prior.size, prior, scale=1.3)
        grid = np.geomspace(1.0, 40, 6)
        one = ancestral_kl(codebook, grid)
        value, error = exact_table(codebook, grid[0], grid[-1]).path_kl(grid)
        assert abs(one.value - value) <= one.numerical_error + error
        assert max(one.numerical_error, error) < 1e-10 * value


def test_a_plateau_and_rounding_take_few_pieces() -> None:
    """Two scales 10^9 apart: pieces are short where the MMSE falls, and nowhere else."""
    wide = exact_table(tk.ProductCodebook([[-1, 1.0], [-1e-9, 1e-9]]), 0.0, 1e22)
    assert wide.slack.size < 120
    assert wide.area(1e22) == pytest.approx(4 * np.log(2), rel=1e-12)


@pytest.mark.parametrize("codebook", [tk.FSQ((2,)), tk.FSQ((3,) * 8), SKEWED], ids=repr)
def test_the_two_forms_agree(codebook: tk.Codebook) -> None:
    """Rectangles minus entropy lost, as in the definition."""
    mmse = tk.mmse(codebook, GRID).value
    entropy = tk.conditional_entropy(codebook, GRID).value
    direct = 0.5 * mmse[:-1] @ np.diff(GRID) - (entropy[0] - entropy[-1])
    estimate = ancestral_kl(codebook, GRID)
    assert abs(estimate.value - direct) <= estimate.numerical_error + 1e-13 * entropy[0]
    assert estimate.numerical_error < 1e-11 * estimate.value


@pytest.mark.parametrize("width", [1e-6, 1e-3])
def test_a_short_step_keeps_its_digits(width: float) -> None:
    """KL = (1/2) int (b - g) E Var^2 dg: 5 digits where the rectangle form would lose all."""
    codebook = tk.FSQ((3,))
    low, high = 2.0, 2.0 * (1 + width)
    expected = 0.5 * scalar_loss(codebook, 2.0) * (high - low) ** 2 / 2
    estimate = ancestral_kl(codebook, [low, high])
    assert estimate.value == pytest.approx(expected, rel=2 * width + 1e-5)
    assert abs(estimate.value - expected) <= estimate.numerical_error + 2 * width * expected


def test_fsq_is_n_times_the_scalar() -> None:
    one = ancestral_kl(tk.FSQ((3,)), GRID).value
    for n in (2, 5, 8):
        assert ancestral_kl(tk.FSQ((3,) * n), GRID).value == pytest.approx(n * one, rel=1e-13)


def test_curve_is_honest_and_accurate() -> None:
    """Interpolated values against step by step quadrature, over N and over kinds of grids."""
    codebook = tk.FSQ((3, 5))
    grids = [
        tk.step_grid(name, N, 1e-4, 300.0)
        for name in ("log-snr", "edm", "uniform")
        for N in (1, 7, 60)
    ]
    curve = ancestral_kl_curve(codebook, grids)
    direct = np.array([ancestral_kl(codebook, grid).value for grid in grids])
    assert (np.abs(curve.value - direct) <= curve.numerical_error).all()
    assert (curve.numerical_error < 1e-4 * direct).all()


def test_one_hot() -> None:
    codebook = tk.OneHot(50)
    mmse = tk.mmse(codebook, GRID).value
    entropy = tk.conditional_entropy(codebook, GRID).value
    direct = 0.5 * mmse[:-1] @ np.diff(GRID) - (entropy[0] - entropy[-1])
    estimate = ancestral_kl(codebook, GRID)
    assert_honest(estimate, direct)
    assert 0 < estimate.numerical_error < 1e-11
    assert estimate.standard_error == 0


def test_sampled_interval_covers() -> None:
    """A grid made to look unstructured: its exact value is known."""
    grid = tk.FSQ((3, 3, 2))
    points = tk.PointCodebook(grid.points)
    exact = [ancestral_kl(grid, one).value for one in (GRID, GRID[::3], GRID[-2:])]
    errors = []
    for key in range(40):
        found = ancestral_kl_curve(
            points, [GRID, GRID[::3], GRID[-2:]], method=tk.MonteCarlo(n_samples=512), key=key
        )
        for index, value in enumerate(exact):
            assert within(found[index], value)
        errors.append((found.value - exact) / found.standard_error)
    # 40 standardised errors of three correlated estimates; chi-squared bounds at 1e-5.
    spread = np.square(np.array(errors)[:, 0]).sum()
    assert stats.chi2.ppf(3e-6, 40) < spread < stats.chi2.ppf(1 - 3e-6, 40)


def rotated(grid: tk.ProductCodebook) -> tk.PointCodebook:
    """The same codebook without its structure."""
    turn, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((grid.n, grid.n)))
    return tk.PointCodebook(grid.points @ turn, grid.prior)


@pytest.mark.parametrize(
    ("codebook", "grid"),
    [
        (tk.ProductCodebook([[-0.5, 0.5], 3e-2 * np.arange(8), [0.0]]), [60.0, 74.0, 80.0]),
        (tk.ProductCodebook([[0, 1.0], [0, 0.7]], [[1e-3, 0.999], [2e-3, 0.998]]), [1, 9.0, 40.0]),
    ],
)
def test_rare_mistakes_take_the_support(codebook: tk.ProductCodebook, grid: list) -> None:
    """Clusters, and rare tokens: what carries the variance is hardly seen."""
    points, exact = rotated(codebook), ancestral_kl(codebook, grid).value
    for key in range(3):
        found = ancestral_kl(points, grid, method=tk.MonteCarlo(n_samples=2048), key=key)
        paths = tk.simulate_ancestral_kl(points, grid, key=key, n_paths=2048)
        for one in (found, paths):
            assert not one.interval_supported
            assert "too few informative" in one.note
            low, high, _ = one.confidence_interval(0.95)
            assert low < exact < high < np.inf


@pytest.mark.parametrize(
    ("levels", "prior", "grid"),
    [
        ([-0.333, 1.559, 1.569], [6e-4, 0.7, 0.3], [0.0156, 152.8]),
        ([-29.0, 0.37, 1.03], [4.5e-7, 0.54, 0.46], [0.0036, 0.155]),
        ([0.0, 0.1, 10.0], [0.5, 5e-4, 0.4995], [1.0, 1e5]),  # not the farthest from the mean
    ],
)
def test_rare_tokens_take_the_support(levels: list, prior: list, grid: list) -> None:
    """Nobody draws them, and what they add shows at the end of a step, not at its start."""
    law = np.array(prior) / np.sum(prior)
    codebook = tk.ProductCodebook([levels], [law])
    exact = ancestral_kl(codebook, grid)
    for key in range(20):
        found = tk.simulate_ancestral_kl(codebook, grid, key=key, n_paths=512)
        low, high, _ = found.confidence_interval(1 - 1e-6)
        assert not found.interval_supported
        assert low < exact.value < high
    # Rare tokens that are all alike are seen.
    alike = tk.simulate_ancestral_kl(tk.FSQ((3,) * 4), [0.0, 50.0], key=0, n_paths=512)
    assert alike.interval_supported


def test_unseen_variance_of_two_tokens() -> None:
    """Against E Var(e|y)^2 by quadrature, where a sample sees few mistakes; else nothing."""
    codebook = tk.PointCodebook([[0.0, 0.0], [0.6, 0.8]])
    snr = np.array([36.0, 60.0])
    expected = [scalar_loss(tk.ProductCodebook([[0.0, 1.0]]), one) for one in snr]
    assert unseen_variance(Problem(codebook, snr), 1000) == pytest.approx(expected, rel=0.15)
    assert (unseen_variance(Problem(codebook, snr[:1]), 10**5) == 0).all()
    assert (unseen_variance(Problem(codebook, np.array([4.0])), 10) == 0).all()
    larger = tk.PointCodebook(8 * codebook.points)
    assert unseen_variance(Problem(larger, snr / 64), 1000) == pytest.approx(
        8**4 * unseen_variance(Problem(codebook, snr), 1000), rel=1e-12
    )


def test_sampled_polynomials_are_honest() -> None:
    """The same samples at nodes twice as close: within what the last coefficients say."""
    codebook = rotated(
        tk.ProductCodebook([[-1, 0, 1.0], [0, 0.2]], [[0.01, 0.9, 0.09], [0.5, 0.5]])
    )
    nodes = sampled_nodes(codebook, 0.1, 60.0)
    middle = (nodes.edges[1:] + nodes.edges[:-1]) / 2
    finer = Nodes(nodes.low, nodes.scale, np.sort(np.concatenate([nodes.edges, middle])), 10)
    grid = np.geomspace(0.1, 60.0, 30)
    tables, values = [], []
    for one in (nodes, finer):
        weights = one.functionals([grid])
        sampled = sample_functionals(codebook, one, weights, tk.MonteCarlo(n_samples=256), 3)
        tables.append(sampled_table(one, sampled.mmse, sampled.mmse_error))
        values.append(sampled.moments.mean[0])
    coarse, fine = tables
    where = np.geomspace(0.1, 60.0, 500)
    off = np.abs(coarse.mmse(where) - fine.mmse(where))
    assert (off <= coarse.mmse_slack(where) + fine.mmse_slack(where)).all()
    assert off.max() > 1e-12
    assert abs(values[0] - values[1]) <= coarse.path_kl(grid)[1] + fine.path_kl(grid)[1]
    assert values[0] == pytest.approx(coarse.path_kl(grid)[0], rel=1e-10)
    found = ancestral_kl(codebook, grid, method=tk.MonteCarlo(n_samples=256), key=3)
    assert found.numerical_error == coarse.path_kl(grid)[1] > 0
    again = tabulate(codebook, 0.1, 60.0, tk.MonteCarlo(n_samples=256), 3)
    assert (again.mmse(where) == coarse.mmse(where)).all()


def test_common_noise_makes_a_small_kl_relatively_precise() -> None:
    """With N steps the KL falls like 1/N, and so does its standard error."""
    codebook = tk.PointCodebook(tk.FSQ((3, 3)).points)
    grids = [tk.step_grid("log-snr", N, 1e-3, 40.0) for N in (8, 512)]
    found = ancestral_kl_curve(codebook, grids, method=tk.MonteCarlo(n_samples=1024), key=3)
    ratio = found.standard_error / found.value
    assert found.value[1] < found.value[0] / 30
    assert ratio[1] < 2 * ratio[0] < 0.1


@pytest.mark.parametrize("codebook", [tk.FSQ((3, 2)), POINTS, tk.OneHot(4)], ids=repr)
def test_simulation_agrees(codebook: tk.Codebook) -> None:
    grid = np.array([0.0, 0.3, 1.0, 3.0, 8.0])
    simulated = tk.simulate_ancestral_kl(codebook, grid, key=11, n_paths=20_000)
    exact = ancestral_kl(codebook, grid, key=12)
    error = np.hypot(simulated.standard_error, exact.standard_error)
    assert abs(simulated.value - exact.value) < Z * error + exact.numerical_error
    assert error < 0.03 * exact.value


def test_target_precision_is_reached() -> None:
    found = ancestral_kl(POINTS, GRID, method=tk.MonteCarlo(rtol=0.01), key=0)
    assert found.standard_error <= 0.01 * found.value
    assert found.n_samples > 2048


def test_law_of_many_steps() -> None:
    """N KL tends to (1/4)(int sqrt|mmse'|)^2 on grids of that density, and is above elsewhere."""
    codebook = tk.FSQ((3,))
    x = np.linspace(np.log(1e-4), np.log(40.0), 401)
    density = np.sqrt([scalar_loss(codebook, g) for g in np.exp(x)]) * np.exp(x)
    total = integrate.cumulative_simpson(density, x=x, initial=0.0)
    limit = total[-1] ** 2 / 4
    N = 1000
    best = np.exp(np.interp(np.linspace(0, total[-1], N + 1), total, x))
    assert N * ancestral_kl(codebook, best).value == pytest.approx(limit, rel=5e-3)
    other = tk.step_grid("log-snr", N, 1e-4, 40.0)
    assert N * ancestral_kl(codebook, other).value > 1.5 * limit


@pytest.mark.parametrize("scale", [1.0, 2 / 3, 1.4])
@pytest.mark.parametrize("snr", [0.0, 1e-3, 0.7])
def test_prior_mismatch_by_quadrature(snr: float, scale: float) -> None:
    codebook = tk.ProductCodebook([[-1.0, 0.5, 2.0]], [[0.2, 0.5, 0.3]])
    u, prior = np.array([-1.0, 0.5, 2.0]), np.array([0.2, 0.5, 0.3])
    y = np.linspace(-14, 16, 40_001)
    p = (prior * stats.norm.pdf(y[:, None] - np.sqrt(snr) * u)).sum(axis=1)
    expected = integrate.simpson(special.rel_entr(p, stats.norm.pdf(y, scale=scale)), x=y)
    assert prior_mismatch(codebook, snr, start=scale).value == pytest.approx(
        expected, rel=1e-8, abs=1e-13
    )


def test_prior_mismatch_is_second_order_for_centred_codebooks() -> None:
    """snr^2 |Cov|_F^2 / 4: far below what a difference of its two terms could resolve."""
    codebook = tk.FSQ((2,) * 4)
    found = prior_mismatch(codebook, 1e-8)
    assert found.value == pytest.approx(1e-16 * 4 / 4, rel=1e-6)
    assert found.numerical_error < 1e-4 * found.value


def test_thousand_curves_take_a_second() -> None:
    """The promise is one second on two cores; three leave room for a busy machine."""
    grids = [tk.step_grid("log-snr", N, 1e-3, 60.0) for N in range(1, 1001)]
    started = time.process_time()
    found = ancestral_kl_curve(tk.FSQ((3,) * 8), grids)
    assert time.process_time() - started < 3
    assert (np.diff(found.value) < 0).all()


@pytest.mark.slow
def test_thousand_curves_of_a_perturbed_grid_take_a_minute() -> None:
    codebook = tk.perturb(tk.FSQ((3,) * 8), 0.1, key=0)
    grids = [tk.step_grid("log-snr", N, 1e-3, 60.0) for N in range(1, 1001)]
    started = time.process_time()
    found = ancestral_kl_curve(codebook, grids, method=tk.MonteCarlo(rtol=0.01), key=0)
    assert time.process_time() - started < 60
    assert (found.standard_error <= 0.01 * found.value).all()
    assert (found.numerical_error < 0.005 * found.value).all()


def test_nodes_hold_any_range() -> None:
    nodes = sampled_nodes(tk.FSQ((3,)), 0.0, 1e-9)
    assert nodes.x.size == 17
    assert nodes.snr[[0, -1]] == pytest.approx([0.0, 1e-9], rel=1e-12)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ([1.0], "grid must be at least two SNRs"),
        ([1.0, 1.0], "grid must be strictly increasing"),
        ([-1.0, 1.0], "grid must be at least 0"),
        ([0.0, np.inf], "grid must be finite"),
        ([[0.0, 1.0]], "grid must be an array with 1 axes"),
    ],
)
def test_bad_grids(grid: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ancestral_kl(tk.FSQ((2,)), grid)


def test_other_bad_arguments() -> None:
    with pytest.raises(ValueError, match="key must be"):
        ancestral_kl(POINTS, GRID)
    with pytest.raises(ValueError, match="method must be MonteCarlo"):
        ancestral_kl(POINTS, GRID, method=tk.Exact())
    with pytest.raises(ValueError, match="method must be Exact"):
        ancestral_kl(POINTS, GRID, method=cast(Any, "exact"))
    with pytest.raises(ValueError, match="codebook must be a tokenkl codebook"):
        ancestral_kl(cast(Any, np.eye(3)), GRID)
    with pytest.raises(ValueError, match="grids must be at least one"):
        ancestral_kl_curve(tk.FSQ((2,)), [])
    with pytest.raises(ValueError, match="at least two distinct tokens"):
        ancestral_kl_curve(tk.FSQ((1,)), [GRID])
    with pytest.raises(ValueError, match="start must be above 0"):
        prior_mismatch(tk.FSQ((2,)), 1.0, start=0.0)
    with pytest.raises(ValueError, match="snr must be one concrete number"):
        prior_mismatch(tk.FSQ((2,)), cast(Any, [1.0, 2.0]))
    with pytest.raises(ValueError, match="n_paths must be a whole number"):
        tk.simulate_ancestral_kl(tk.FSQ((2,)), GRID, key=0, n_paths=1)


@pytest.mark.parametrize("top", [1e6, 1e20, 1e30, 1e50])
def test_sampled_kl_up_to_any_snr(top: float) -> None:
    """The step is a rectangle of the prior's variance, 4/9, less the entropy."""
    codebook = tk.PointCodebook([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = tk.ancestral_kl(codebook, [0.0, top], key=0)
    low, high, _ = found.confidence_interval(1 - 1e-6)
    assert low <= top * 2 / 9 - np.log(3) <= high
    assert found.value == pytest.approx(top * 2 / 9, rel=1e-5)


def test_small_snrs_do_not_depend_on_the_largest() -> None:
    """Levels count as evenly spaced, whose weights are carried over, by their own size."""
    codebook = tk.PointCodebook([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    snr, method = np.array([0.1, 0.3, 0.7, 1.3, 2.9]), tk.MonteCarlo(n_samples=256)
    alone = tk.mmse(codebook, snr, method=method, key=0)
    beside = tk.mmse(codebook, np.append(snr, 1e30), method=method, key=0)
    assert beside.value[:-1] == pytest.approx(alone.value, rel=1e-12)
