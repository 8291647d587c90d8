"""Rank correlations are those of SciPy, and their intervals cover."""

import itertools
from typing import Any, Literal, cast

import numpy as np
import pytest
from scipy import stats

from experiments.ranks import kendall, permutation_p, rank_correlation, spearman
from tokenkl._random import generator

BUDGET = 2e-5


def test_rank_correlations_are_scipys() -> None:
    rng = generator(1)
    a, b = rng.integers(5, size=(20, 7)).astype(float), rng.standard_normal((20, 7))
    for i, j in itertools.product(range(3), range(3)):
        rho, tau = stats.spearmanr(a[i], b[j])[0], stats.kendalltau(a[i], b[j])[0]
        assert spearman(a[i], b[j]) == pytest.approx(rho, abs=1e-12)
        assert kendall(a[i], b[j]) == pytest.approx(tau, abs=1e-12)
    assert spearman(a, b).shape == (20,)
    assert kendall(np.ones((2, 7)), b[:2]).tolist() == [0, 0]


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_intervals_cover(noise: float) -> None:
    """Eight geometries, three replicates, and the exact value of the law."""
    rng, rho, runs = generator(2), 0.6, 150

    def draw(*shape: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal(shape)
        mean = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal(shape)
        return x, mean[..., None] + noise * rng.standard_normal((*shape, 3))

    # Spearman of a bivariate normal law (Pearson 1907).
    pearson = rho / np.sqrt(1 + noise**2 / 3)
    truth = 6 / np.pi * np.arcsin(pearson / 2)
    covered = 0
    for run in range(runs):
        low, high, _ = rank_correlation(*draw(8), run, resamples=500).interval
        covered += low < truth < high
    assert covered >= stats.binom.ppf(BUDGET, runs, 0.94)


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_a_perfect_ranking(kind: Literal["spearman", "kendall"]) -> None:
    x = np.arange(6.0)
    found = rank_correlation(x, np.stack([x**3, x**3], axis=1), 0, kind=kind)
    assert found.value == pytest.approx(1)
    assert found.replicates[:2] == pytest.approx((1, 1))
    assert found.leave_one_out == pytest.approx((1, 1))
    p = permutation_p(x, x**3, kind)
    assert p == pytest.approx(2 / 720)  # of 6! orders, two are as extreme


def test_noise_in_the_outcome_widens_the_interval_for_these_geometries() -> None:
    x = np.arange(8.0)
    y = x[:, None] + generator(3).standard_normal((8, 4))
    sharp = rank_correlation(x, x[:, None] + 0.01 * (y - x[:, None]), 0).replicates
    blurred = rank_correlation(x, x[:, None] + 3 * (y - x[:, None]), 0).replicates
    assert sharp.high - sharp.low == pytest.approx(0)
    assert blurred.high - blurred.low > 0.2


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"x, y must be of shapes \(G,\) and \(G, R\)"):
        rank_correlation([1.0, 2, 3], np.ones((3, 2)), 0)
    with pytest.raises(ValueError, match="kind must be one of 'spearman', 'kendall'"):
        rank_correlation(np.arange(4.0), np.ones((4, 2)), 0, kind=cast(Any, "pearson"))
    with pytest.raises(ValueError, match="x, y must be of one length"):
        permutation_p(np.arange(4.0), np.arange(3.0))
