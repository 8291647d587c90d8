"""Largest posterior covariance: closed forms, brute force, and bounds on both sides."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.channel import posterior_covariance


@pytest.mark.parametrize("snr", [0.0, 0.3, 5.0, 200.0])
def test_two_levels_reach_a_quarter_of_the_square(snr: float) -> None:
    codebook = tk.ProductCodebook([[-1.0, 1.0], [0.0, 0.5]], [[0.9, 0.1], [0.2, 0.8]])
    found = tk.score_lipschitz(codebook, snr)
    assert found.is_exact
    assert found.covariance.value == pytest.approx(1.0, abs=1e-12)
    assert found.score.value == pytest.approx(max(1.0, snr - 1), abs=1e-9)


@pytest.mark.parametrize("snr", [0.0, 0.8, 9.0])
@pytest.mark.parametrize("L", [3, 5])
def test_grid_by_brute_force(L: int, snr: float) -> None:
    """Nothing above the value among 40,000 observations, and something next to it."""
    codebook = tk.FSQ((L,), priors=[np.arange(1, L + 1) / (L * (L + 1) / 2)])
    # Posteriors at small snr reach their spread at far observations only.
    y = np.linspace(-40, 40, 40_001)[:, None] / max(np.sqrt(snr), 1e-3)
    brute = posterior_covariance(codebook, y, max(snr, 1e-12))[:, 0, 0].max()
    value = float(tk.score_lipschitz(codebook, snr).covariance.value)
    assert brute <= value * (1 + 1e-9)
    assert brute >= 0.999 * value or snr == 0


@pytest.mark.parametrize("gap", [1e-6, 1e-3, 0.05])
def test_clusters_by_the_law_of_their_sums(gap: float) -> None:
    """The hill between two clusters is as wide as one over their distance, where no pair ties."""
    rng = np.random.default_rng(7)
    for snr in (1e-4, 0.9, 400.0):
        levels = np.concatenate(
            [gap * np.arange(3), 1 + gap * np.arange(1), 3 + gap * np.arange(4)]
        )
        prior = rng.dirichlet(np.full(8, 0.3)) + 1e-9
        prior /= prior.sum()
        codebook = tk.ProductCodebook([levels], [prior])
        # Tilts on a fine grid wherever far levels tie; near ones reach gap^2 / 4 times 9 at most.
        logits = np.log(prior) - snr * levels**2 / 2
        tilt = np.linspace(-60, 60, 200_001) + 1.5 * snr
        weight = np.exp(
            tilt[:, None] * levels + logits - (tilt[:, None] * levels + logits).max(1)[:, None]
        )
        p = weight / weight.sum(axis=1, keepdims=True)
        brute = ((levels - (p @ levels)[:, None]) ** 2 * p).sum(axis=1).max()
        found = tk.score_lipschitz(codebook, snr).covariance
        assert isinstance(found, tk.Estimate)
        assert brute <= found.value + found.numerical_error
        if snr < 1:
            assert found.value <= brute * (1 + 1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_far_tilts_are_searched_as_finely(sign: float) -> None:
    """Three levels 1e-12 apart, and one far off: a hill of width one at tilts of 1e9."""
    levels = np.sort(sign * np.array([0.0, 2.0**-40, 2.0**-39, 1.0]))
    found = tk.score_lipschitz(tk.ProductCodebook([levels]), 1e10).covariance
    assert found.value == pytest.approx(0.25, rel=1e-10)


def test_fsq_does_not_depend_on_n() -> None:
    for L in (2, 3, 8):
        values = [tk.score_lipschitz(tk.FSQ((L,) * n), 3.0).covariance.value for n in (1, 4, 16)]
        assert np.ptp(values) == 0
        assert values[0] <= 1


def test_one_hot() -> None:
    assert tk.score_lipschitz(tk.OneHot(10, scale=2.0), 3.0).covariance.value == 2.0
    searched = tk.score_lipschitz(tk.PointCodebook(2 * np.eye(10)), 3.0, key=0)
    assert not searched.is_exact
    assert isinstance(searched.covariance, tk.Bound)
    assert searched.covariance.direction == "lower"
    assert 1.999 < searched.covariance.value <= 2 + 1e-12


@pytest.mark.parametrize("snr", [0.1, 2.0, 30.0])
def test_search_finds_what_is_known(snr: float) -> None:
    grid = tk.FSQ((3, 4))
    exact = tk.score_lipschitz(grid, snr).covariance.value
    found = tk.score_lipschitz(tk.PointCodebook(grid.points), snr, key=1).covariance.value
    assert 0.999 * exact < found <= exact * (1 + 1e-9)


def test_opposite_corners_reach_n() -> None:
    """Two tokens at opposite corners: the constant is n, not 1."""
    found = tk.score_lipschitz(
        tk.PointCodebook([[-1.0] * 6, [1.0] * 6, [1.0, -1, 1, -1, 1, 1]]), 4.0, key=0
    )
    assert found.covariance.value == pytest.approx(6.0, rel=1e-6)
    assert found.covariance.value <= found.ceiling.value * (1 + 1e-12)


def test_a_search_is_a_lower_bound() -> None:
    """No posterior covariance at drawn observations is above the ceiling."""
    codebook = tk.PointCodebook(np.random.default_rng(0).uniform(-1, 1, (40, 5)))
    found = tk.score_lipschitz(codebook, 2.0, key=0)
    assert found.covariance.value <= found.ceiling.value
    y = 4 * np.random.default_rng(1).standard_normal((2000, 5))
    seen = np.linalg.eigvalsh(posterior_covariance(codebook, y, 2.0))[:, -1].max()
    assert seen <= found.covariance.value


def test_errors() -> None:
    with pytest.raises(ValueError, match="key must be"):
        tk.score_lipschitz(tk.PointCodebook(np.eye(2)), 1.0)
    with pytest.raises(ValueError, match="snr must be at least 0"):
        tk.score_lipschitz(tk.FSQ((2,)), -1.0)
    with pytest.raises(ValueError, match="snr must be one concrete number"):
        tk.score_lipschitz(tk.FSQ((2,)), cast(Any, [1.0, 2.0]))
    with pytest.raises(ValueError, match="codebook must be"):
        tk.score_lipschitz(cast(Any, np.eye(2)), 1.0)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True),
    st.floats(0.1, 1.0),
    st.floats(1e6, 1e300),
)
def test_resolved_levels(places: list[int], rarest: float, snr: float) -> None:
    """Two neighbours at a time: a quarter of the square of the largest gap."""
    levels = 0.1 * np.sort(places)
    prior = np.linspace(rarest, 1.0, levels.size)
    codebook = tk.ProductCodebook([levels], [prior / prior.sum()])
    found = tk.score_lipschitz(codebook, snr).covariance
    assert isinstance(found, tk.Estimate)
    assert abs(found.value - np.diff(levels).max() ** 2 / 4) <= found.numerical_error


def test_equal_points() -> None:
    points = tk.PointCodebook(np.full((3, 2), 0.1), allow_duplicates=True)
    assert tk.score_lipschitz(points, 1.0, key=0).covariance.value == 0
