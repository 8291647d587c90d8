"""Smith's capacity: certified from both sides, known limits, thresholds, and another method."""

import math

import numpy as np
import pytest
from scipy import optimize

import tokenkl as tk
from tokenkl.bounds import (
    amplitude_capacity,
    capacity_bound,
    capacity_input,
    capacity_threshold,
    mckellips_bound,
)
from tokenkl.bounds._capacity import CapacityInput


def information_density(x: np.ndarray, found: CapacityInput, h: float) -> np.ndarray:
    """i(x; F) by a finer and wider trapezoid rule, written independently of the library's."""
    y = np.arange(-h - 14, h + 14, 0.02)
    each = np.exp(-((y - h * found.points[:, None]) ** 2) / 2) / math.sqrt(2 * math.pi)
    f = found.weights @ each
    p = np.exp(-((y - h * x[:, None]) ** 2) / 2) / math.sqrt(2 * math.pi)
    with np.errstate(divide="ignore", invalid="ignore"):
        integrand = np.where(p > 0, p * (np.log(p) - np.log(f)), 0.0)
    return 0.02 * integrand.sum(axis=1)


@pytest.mark.parametrize("h", [0.3, 1.6, 1.7, 2.5, 3.3, 5.0, 7.7, 10.0])
def test_both_sides_of_the_certificate(h: float) -> None:
    """I(F) <= C <= max_x i(x; F): both ends within 1e-8, by an independent quadrature."""
    found = capacity_input(h)
    assert found.lower <= found.upper <= found.lower + 1e-10
    assert found.weights.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found.points, -found.points[::-1], atol=1e-12)
    density = information_density(np.linspace(-1, 1, 1501), found, h)
    assert density.max() <= found.upper + 1e-9
    at_points = information_density(found.points, found, h)
    np.testing.assert_allclose(at_points, found.lower, atol=1e-9)


def test_threshold() -> None:
    """Smith's 1.6659: i(0) = I for two equiprobable points, by another quadrature and solver."""

    def excess(h: float) -> float:
        two = capacity_input(1.0)  # the law on -1 and 1, whatever the noise
        density = information_density(np.array([0.0, 1.0]), two, h)
        return float(density[0] - density[1])

    root = optimize.brentq(excess, 1.2, 2.0, xtol=1e-10)
    assert capacity_threshold() == pytest.approx(root, abs=1e-7)
    assert round(capacity_threshold(), 4) == 1.6659
    assert 1 / capacity_threshold() == pytest.approx(0.600267, abs=1e-6)
    thresholds = [capacity_threshold(m) for m in range(2, 7)]
    assert (np.diff(thresholds) > 0.9).all()
    for m, h in zip(range(2, 7), thresholds, strict=True):
        assert capacity_input(h - 1e-3).points.size == m
        assert capacity_input(h + 1e-3).points.size == m + 1


def test_against_a_convex_programme() -> None:
    """Blahut and Arimoto's iteration on 201 input points: below C, and near to it."""
    for h in (2.2, 4.0):
        x = h * np.linspace(-1, 1, 201)
        y = np.arange(-h - 9, h + 9, 0.1)
        channel = 0.1 * np.exp(-((y - x[:, None]) ** 2) / 2) / math.sqrt(2 * math.pi)
        entropy = (channel * np.log(channel)).sum(axis=1)
        p = np.full(x.size, 1 / x.size)
        for _ in range(3000):
            density = entropy - channel @ np.log(p @ channel)
            p *= np.exp(density)
            p /= p.sum()
        density = entropy - channel @ np.log(p @ channel)
        low, high = float(p @ density), float(density.max())
        assert low - 1e-9 <= float(amplitude_capacity(h)) <= high + 1e-4
        assert high - low < 5e-3


def test_limits_and_shape() -> None:
    h = np.array([0.0, 1e-6, 1e-3, 0.5, 2.0])
    found = amplitude_capacity(h)
    assert found.value[0] == 0
    np.testing.assert_allclose(found.value[1:3], h[1:3] ** 2 / 2, rtol=1e-5)
    assert (found.value <= mckellips_bound(h).value * (1 + 1e-12)).all()
    assert (found.numerical_error <= 1e-8).all()
    assert found.unit == "nats"
    assert amplitude_capacity(np.ones((2, 3))).value.shape == (2, 3)


def test_bound_uses_every_coordinate_and_mckellips_beyond() -> None:
    grid = tk.ProductCodebook([[-1.0, 1.0], [0.0, 1.0]])
    expected = float(amplitude_capacity(3.0)) + float(amplitude_capacity(1.5))
    assert capacity_bound(grid, 9.0).value == pytest.approx(expected, rel=1e-9)
    far = capacity_bound(tk.FSQ((3,)), 1e4).value
    assert far == pytest.approx(float(mckellips_bound(100.0).value), rel=1e-12)
    assert mckellips_bound(10.0).value > float(amplitude_capacity(10.0))


def test_capacity_is_left_out_only_where_it_is_of_no_use() -> None:
    """Where the sum is said to be above a number, it is; elsewhere nothing changes."""
    points = np.random.default_rng(0).standard_normal((40, 3)) * [0.3, 1, 2]
    codebook, snr = tk.PointCodebook(points), np.geomspace(1e-3, 30, 12)
    plain = capacity_bound(codebook, snr).value
    found = capacity_bound(codebook, snr, unless_above=0.3 * plain).value
    assert (found >= plain).all()
    assert (found > plain).any()
    assert (capacity_bound(codebook, snr, unless_above=plain * (1 + 1e-12)).value == plain).all()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="h must be at most 10"):
        amplitude_capacity([1.0, 11.0])
    with pytest.raises(ValueError, match="h must be at least 0"):
        amplitude_capacity(-1.0)
    with pytest.raises(ValueError, match="h must be above 0"):
        capacity_input(0.0)
    with pytest.raises(ValueError, match="points must be a whole number"):
        capacity_threshold(1)
