"""Exact planar accuracy: against grids, closed forms, quadrature and Monte-Carlo."""

import numpy as np
import pytest
from scipy import integrate, special

import tokenkl as tk
from tokenkl._random import generator

SNR = 10.0 ** np.linspace(-4, 3, 15)


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (4, 7), (30, 30)])
def test_grid_by_voronoi_edges(shape: tuple[int, int]) -> None:
    grid = tk.FSQ(shape)
    plane = tk.PointCodebook(grid.points)
    exact, ours = tk.error_probability(grid, SNR), tk.error_probability(plane, SNR)
    assert "Owen" in str(ours.method)
    np.testing.assert_allclose(ours.value, exact.value, rtol=1e-11)
    assert (np.abs(ours.value - exact.value) <= ours.numerical_error + exact.numerical_error).all()


@pytest.mark.parametrize("skew", [0.1, 1.0, 4.0])
def test_grid_with_unequal_priors(skew: float) -> None:
    """Tokens may lie outside their own region here."""
    first = np.exp(-skew * np.arange(3.0))
    second = np.exp(skew * np.arange(4.0) / 3)
    priors = [first / first.sum(), second / second.sum()]
    grid = tk.FSQ((3, 4), priors=priors)
    plane = tk.PointCodebook(grid.points, grid.prior)
    exact = tk.error_probability(grid, SNR)
    ours = tk.error_probability(plane, SNR)
    np.testing.assert_allclose(ours.value, exact.value, rtol=1e-10)
    np.testing.assert_allclose(tk.accuracy(plane, SNR).value, tk.accuracy(grid, SNR).value)


@pytest.mark.parametrize("K", [3, 5, 8])
def test_phase_shift_keying(K: int) -> None:
    """K points on a circle: Craig's integral (1991), (1/pi) int_0^(pi - pi/K) exp(...)."""
    angle = 2 * np.pi * np.arange(K) / K
    codebook = tk.PointCodebook(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    for snr in (0.1, 2.0, 30.0):

        def craig(theta: float, snr: float = snr) -> float:
            return np.exp(-(snr / 2) * np.sin(np.pi / K) ** 2 / np.sin(theta) ** 2) / np.pi

        expected = integrate.quad(craig, 0, np.pi - np.pi / K, epsabs=0, epsrel=1e-12)[0]
        np.testing.assert_allclose(float(tk.error_probability(codebook, snr)), expected, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("equal", [True, False])
def test_random_points_against_monte_carlo(equal: bool) -> None:
    rng = generator(11)
    points = rng.uniform(-1, 1, (13, 2))
    prior = None if equal else rng.dirichlet(np.full(13, 0.7)) * 0.9 + 0.1 / 13
    codebook = tk.PointCodebook(points, prior)
    snr = np.array([0.2, 3.0, 25.0, 100.0])
    exact = tk.error_probability(codebook, snr)
    sampled = tk.error_probability(codebook, snr, method=tk.MonteCarlo(200_000), key=3)
    z = (exact.value - sampled.value) / sampled.standard_error
    assert np.abs(z).max() < special.ndtri(1 - 1e-5 / 4), z


def test_collinear_and_tiny_sets() -> None:
    two = tk.PointCodebook([[0.0, 0.0], [0.6, 0.8]])
    np.testing.assert_allclose(
        float(tk.error_probability(two, 9.0)), special.ndtr(-1.5), rtol=1e-13
    )
    line = tk.PointCodebook([[0.0, 0], [1, 1], [2, 2], [4, 4], [5, 5]])
    grid = tk.ProductCodebook([np.sqrt(2) * np.array([0.0, 1, 2, 4, 5])])
    np.testing.assert_allclose(
        float(tk.error_probability(line, 4.0)), float(tk.error_probability(grid, 4.0)), rtol=1e-12
    )


def test_nothing_but_accuracy_is_planar() -> None:
    codebook = tk.PointCodebook([[0.0, 0], [1, 0], [0, 1.5]])
    with pytest.raises(ValueError, match="key must be"):
        tk.mmse(codebook, 1.0)
    profile = tk.profile(codebook, [1.0, 2.0], ("accuracy", "mmse"), key=0)
    assert "exact" in str(profile["accuracy"].method)
    assert "Monte-Carlo" in str(profile["mmse"].method)


def test_duplicates_have_no_edges_between_them() -> None:
    """Two equal tokens share a region: sampled, and equal to the merged prior's accuracy bound."""
    points = [[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]]
    codebook = tk.PointCodebook(points, allow_duplicates=True)
    with pytest.raises(ValueError, match="key must be"):
        tk.error_probability(codebook, 0.09)
    sampled = tk.error_probability(codebook, 0.09, key=1)
    # MAP decides between (1, 1) with prior 1/3 (one of the two) and (-1, -1) with prior 1/3.
    low, high, _ = sampled.confidence_interval(0.9999)
    correct = 2 / 3 * float(tk.accuracy(tk.PointCodebook(points[1:]), 0.09))
    assert low < 1 - correct < high


def test_far_from_the_origin() -> None:
    """More points than all pairs are affordable for, so that the triangulation must be had."""
    rng = np.random.default_rng(5)
    points = np.unique(rng.integers(0, 2**20, (300, 2)), axis=0).astype(float)
    near, far = tk.PointCodebook(points), tk.PointCodebook(points + 2.0**45)
    snr = np.array([1e-11, 1e-9])
    found, expected = (tk.error_probability(one, snr) for one in (far, near))
    assert str(found.method) == str(expected.method) == "exact, Owen's T over Voronoi edges"
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-12)


def test_too_many_points_to_be_listed_are_not_planar() -> None:
    """No more tokens than numbers may be listed, but twice as many coordinates."""
    stages = np.random.default_rng(0).normal(size=(6, 20, 2)) * 0.3 ** np.arange(6)[:, None, None]
    plan = tk.plan(tk.ResidualCodebook(list(stages)), 10.0, ("accuracy",))
    assert "Owen" not in str(plan)
