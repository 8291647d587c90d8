"""Step grids: the named ones by hand, the optimal one against all others."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
from scipy import integrate, special

import tokenkl as tk
from tokenkl.divergence import ancestral_kl, ancestral_kl_curve, optimal_steps
from tokenkl.divergence.mmse_table import tabulate
from tokenkl.divergence.search import candidates
from tokenkl.numerics.paths import cheapest_paths
from tokenkl.samplers.grids import STEP_GRIDS, edm_steps, log_snr_steps, uniform_time_steps

CODEBOOK = tk.FSQ((3, 2))


@pytest.mark.parametrize("name", STEP_GRIDS)
def test_named_grids_have_their_ends(name: str) -> None:
    grid = tk.step_grid(name, 9, 1e-3, 50.0)
    assert grid.shape == (10,)
    assert grid[0] == 1e-3
    assert grid[-1] == 50.0
    assert (np.diff(grid) > 0).all()


def test_named_grids_by_hand() -> None:
    # LinearVP: alpha = 1 - t, snr = alpha^2 / (1 - alpha^2); snr 1/3 at 1/2, 1/15 at 3/4.
    grid = uniform_time_steps(2, 0.0, (9 / 16) / (7 / 16))  # t = 1, 5/8, 1/4
    assert grid[1] == pytest.approx((3 / 8) ** 2 / (1 - (3 / 8) ** 2), rel=1e-13)
    assert log_snr_steps(2, 0.1, 10.0)[1] == pytest.approx(1.0, rel=1e-13)
    # Karras: sigma^(1/7) equidistant.
    sigma = edm_steps(4, 0.01, 100.0) ** -0.5
    assert np.ptp(np.diff(sigma ** (1 / 7))) < 1e-12
    flow = uniform_time_steps(2, 0.0, 9.0, tk.FlowMatching())  # t = 1, 5/8, 1/4
    assert flow[1] == pytest.approx((3 / 5) ** 2, rel=1e-13)


def test_cheapest_paths_against_enumeration() -> None:
    cost = np.random.default_rng(0).random((7, 7)) ** 3
    cost[np.tril_indices(7)] = np.inf
    for steps, (value, path) in enumerate(cheapest_paths(cost, 7), start=1):
        paths = [(0, *inner, 6) for inner in itertools.combinations(range(1, 6), steps - 1)]
        totals = [sum(cost[a, b] for a, b in itertools.pairwise(one)) for one in paths]
        if steps == 7:
            assert value == np.inf
            assert path is None
        else:
            assert path is not None
            assert value == pytest.approx(min(totals), rel=1e-15)
            assert tuple(path) == paths[int(np.argmin(totals))]


@pytest.mark.parametrize("N", [2, 3, 10, 100])
def test_optimum_is_stationary(N: int) -> None:
    """mmse'(g_k)(g_(k+1) - g_k) = mmse(g_k) - mmse(g_(k-1)), with mmse' by central differences."""
    found = optimal_steps(CODEBOOK, N, 0.0, 60.0)
    g = found.snr
    inner = g[1:-1]
    slope = tk.mmse(CODEBOOK, inner * 1.0001).value - tk.mmse(CODEBOOK, inner * 0.9999).value
    slope = slope / (0.0002 * inner)
    mmse = tk.mmse(CODEBOOK, g).value
    left, right = slope * (g[2:] - inner), mmse[1:-1] - mmse[:-2]
    assert np.allclose(left, right, rtol=2e-4, atol=0)
    assert found.N == N
    assert found.kl.value == ancestral_kl(CODEBOOK, g).value


@pytest.mark.parametrize("N", [1, 2, 5, 16])
def test_no_grid_is_better(N: int) -> None:
    """Not the named ones, not random changes, not the best of all grids among 600 SNRs."""
    best = optimal_steps(CODEBOOK, N, 1e-3, 60.0)
    others = [make(N, 1e-3, 60.0) for make in STEP_GRIDS.values()]
    rng = np.random.default_rng(N)
    for size in (1e-4, 1e-2, 0.3):
        moved = best.snr.copy()
        moved[1:-1] *= np.exp(size * rng.standard_normal(N - 1))
        others.append(np.sort(moved))
    values = ancestral_kl_curve(CODEBOOK, others).value
    assert (values >= best.kl.value * (1 - 1e-6)).all()
    levels = np.geomspace(1e-3, 60.0, 600)
    mmse = tk.mmse(CODEBOOK, levels).value
    nats = tk.mutual_information(CODEBOOK, levels).value
    table = 0.5 * mmse[:, None] * np.subtract.outer(-levels, -levels)
    table -= np.subtract.outer(-nats, -nats)
    table[np.tril_indices(600)] = np.inf
    search = cheapest_paths(table, N)[-1][0]
    assert best.kl.value <= search * (1 + 1e-9)
    assert best.kl.value > 0.98 * search


def test_two_scales_need_a_global_search() -> None:
    """Two resolutions a factor 10^4 apart in SNR: two steps leave one of them to the other."""
    codebook = tk.ProductCodebook([[-1.0, 1.0], [-0.01, 0.01]])
    best = optimal_steps(codebook, 2, 0.0, 1e5)
    middles = np.geomspace(1e-2, 9e4, 800)
    values = ancestral_kl_curve(codebook, [[0.0, g, 1e5] for g in middles]).value
    assert best.kl.value <= values.min() * (1 + 1e-6)


def best_of(codebook: tk.Codebook, levels: np.ndarray, N: int) -> float:
    """Cost of the best grid of N steps among some SNRs, each step by the definition."""
    here = tk.profile(codebook, levels, ("mmse", "conditional_entropy"))
    mmse, entropy = here["mmse"].value, here["conditional_entropy"].value
    cost = mmse[:, None] * (levels - levels[:, None]) / 2 - (entropy[:, None] - entropy)
    cost[np.tril_indices(levels.size)] = np.inf
    path = cheapest_paths(cost, N)[-1][1]
    return float(ancestral_kl(codebook, levels[path]))


HARD = [
    tk.ProductCodebook([[0, 1.0]], [[1e-4, 1 - 1e-4]]),
    tk.ProductCodebook([[0, 1.0]], [[1e-10, 1 - 1e-10]]),
    tk.ProductCodebook([[0, 1.0], [0, 1.0]], [[1e-3, 1 - 1e-3], [1e-9, 1 - 1e-9]]),
    tk.ProductCodebook([[-1, 1.0], [-30, 30.0], [-0.03, 0.03]]),
    tk.ProductCodebook([[0, 0.05, 1, 1.1]], [[0.001, 0.4, 0.5, 0.099]]),
]


@pytest.mark.parametrize("codebook", HARD, ids=repr)
@pytest.mark.parametrize("N", [2, 4, 7])
def test_no_grid_is_better_where_the_mmse_falls_late(codebook: tk.Codebook, N: int) -> None:
    """Not among SNRs even in the power, in the logarithm, or those that the search looked at."""
    low, high = 1e-2, 3e3
    best = optimal_steps(codebook, N, low, high)
    power = tk.average_power(codebook)
    even = np.expm1(np.linspace(np.log1p(power * low), np.log1p(power * high), 400)) / power
    table = tabulate(codebook, low, high, None, None)
    own = table.nodes.snr_of(candidates(table, N))
    for levels in (even, np.geomspace(low, high, 400), own):
        levels[[0, -1]] = low, high
        least = best_of(codebook, levels, N)
        assert best.kl.value <= least * (1 + 1e-9) + best.kl.numerical_error
    assert best.kl.value > 0.97 * least


@pytest.mark.parametrize("rare", [0.5, 1e-2, 1e-6, 1e-12, 1e-100])
def test_asymptotic_kl_by_quadrature(rare: float) -> None:
    """-d mmse / d snr = E Var(e|y)^2, for two tokens the rare prior times E p q^2 under its law."""
    low, high = 1e-2, 4e3
    x = np.linspace(np.log(low), np.log(high), 4001)
    z = np.linspace(-40, 40, 2**12 + 1)
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    odds = np.log(rare) - np.log1p(-rare)
    roots = []
    for snr in np.exp(x):
        mine = odds + snr / 2 + np.sqrt(snr) * z
        roots.append(np.sqrt(special.expit(mine) * special.expit(-mine) ** 2 @ weight))
    exact = rare * integrate.simpson(np.array(roots) * np.exp(x), x=x) ** 2 / 4
    found = optimal_steps(tk.ProductCodebook([[0, 1.0]], [[rare, 1 - rare]]), 5, low, high)
    assert abs(5 * found.asymptotic_kl - exact) <= 5 * found.asymptotic_error
    assert found.asymptotic_kl == pytest.approx(exact / 5, rel=1e-5)
    assert found.asymptotic_error < 0.02 * found.asymptotic_kl
    # What Cauchy and Schwarz leave between the nodes of the table is a bound from above.
    assert found.asymptotic_kl + found.asymptotic_error > exact / 5


def test_asymptotic_law() -> None:
    found = [optimal_steps(CODEBOOK, N, 0.0, 60.0) for N in (50, 200)]
    ratios = [one.kl.value / one.asymptotic_kl for one in found]
    assert 1 < ratios[1] < ratios[0] < 1.05
    assert found[0].asymptotic_kl == pytest.approx(4 * found[1].asymptotic_kl, rel=1e-12)


@pytest.mark.parametrize("codebook", [tk.FSQ((3, 3)), tk.PointCodebook([[0.0], [1.0], [1.7]])])
def test_rivals_are_valued_beside_the_optimum(codebook: tk.Codebook) -> None:
    """As by themselves, and where they are sampled from the same samples as the optimum."""
    how: dict[str, Any] = {"method": tk.MonteCarlo(2048) if codebook.n == 1 else None, "key": 3}
    rivals = [make(5, 0.01, 30.0) for make in STEP_GRIDS.values()]
    found = optimal_steps(codebook, 5, 0.01, 30.0, beside=[*rivals], **how)
    alone = optimal_steps(codebook, 5, 0.01, 30.0, **how)
    again = optimal_steps(codebook, 5, 0.01, 30.0, beside=[found.snr], **how)
    assert found.beside is not None
    assert again.beside is not None
    assert alone.beside is None
    assert found.snr.tolist() == alone.snr.tolist()
    assert float(again.beside[0]) == pytest.approx(float(again.kl), rel=1e-12)
    assert float(found.kl) == pytest.approx(float(alone.kl), rel=1e-12)
    exact = ancestral_kl_curve(codebook, rivals)
    off = np.abs(found.beside.value - exact.value)
    assert (off <= 4.7 * found.beside.standard_error + found.beside.numerical_error + 1e-12).all()
    assert (found.beside.value >= found.kl.value - 4.7 * found.kl.standard_error).all()


def test_sampled_codebook_is_valued_on_fresh_samples() -> None:
    points = tk.PointCodebook(CODEBOOK.points)
    method = tk.MonteCarlo(n_samples=2048)
    found = optimal_steps(points, 6, 0.0, 60.0, method=method, key=4)
    exact = ancestral_kl(CODEBOOK, found.snr).value
    assert abs(found.kl.value - exact) < 4.4 * found.kl.standard_error + found.kl.numerical_error
    # The noise of the slope moves the grid, which costs its square.
    assert exact < 1.01 * optimal_steps(CODEBOOK, 6, 0.0, 60.0).kl.value
    assert found.kl.seed == 4
    limit = optimal_steps(CODEBOOK, 6, 0.0, 60.0).asymptotic_kl
    assert abs(found.asymptotic_kl - limit) <= found.asymptotic_error < limit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cosine", 0, 0.0, 1.0), "N must be a whole number"),
        (("cosine", 2, 1.0, 1.0), "snr_max must be above snr_min"),
        (("log-snr", 2, 0.0, 1.0), "snr_min must be above 0"),
        (("edm", 2, 0.0, 1.0), "snr_min must be above 0"),
        (("linear", 2, 0.0, 1.0), "name must be one of"),
        (("cosine", 2, -1.0, 1.0), "snr_min must be at least 0"),
        (("cosine", 2, [0.0], 1.0), "snr_min must be one concrete number"),
    ],
)
def test_bad_arguments(words: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tk.step_grid(*words)
    with pytest.raises(ValueError, match="schedule must be"):
        uniform_time_steps(2, 0.0, 1.0, cast(Any, "cosine"))
    with pytest.raises(ValueError, match="N must be"):
        optimal_steps(CODEBOOK, 0, 0.0, 1.0)
