"""Second derivatives of a grid's accuracy, against differences of accuracies found otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

import tokenkl as tk
from tokenkl.optimality import accuracy_curvature


def moved_accuracy(points: np.ndarray, snr: float) -> float:
    """Exact in the plane and on a line, for any points."""
    return float(tk.accuracy(tk.PointCodebook(points), snr).value)


@pytest.mark.parametrize(
    ("levels", "snr"), [((3, 3), 4.0), ((3, 3), 0.5), ((4, 3), 2.0), ((4, 4), 3.0), ((5,), 6.0)]
)
def test_against_differences_in_the_plane(levels: tuple[int, ...], snr: float) -> None:
    grid = tk.FSQ(levels)
    points = np.asarray(grid.points)
    found = accuracy_curvature(grid, snr)
    step = 1e-4
    for k, c in np.ndindex(points.shape):
        unit = np.zeros(points.shape)
        unit[k, c] = step
        slope = moved_accuracy(points + unit, snr) - moved_accuracy(points - unit, snr)
        assert slope / (2 * step) == pytest.approx(found.gradient[k, c], abs=1e-9)
    seconds = []
    for step in (2e-3, 1e-3):
        around = [moved_accuracy(points + t * found.direction, snr) for t in (-step, 0, step)]
        seconds.append((around[0] - 2 * around[1] + around[2]) / step**2)
    assert extrapolated(seconds) == pytest.approx(found.eigenvalues[-1], rel=1e-3, abs=1e-7)


def extrapolated(seconds: list[float]) -> float:
    """From a step and half of it: where cells meet in fours the next term is |step|^3."""
    return 2 * seconds[1] - seconds[0]


def quadrature(points: np.ndarray, s: float, size: int) -> float:
    """K A in three dimensions: one exactly, by an upper envelope, two by the midpoint rule.

    In a turned frame, in which no face is parallel to an axis, so that the integrand is smooth.
    """
    turn = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))[0]
    points = points @ turn
    reach = math.sqrt(3) + 6 * s
    x = (np.arange(size) + 0.5) / size * 2 * reach - reach
    y, z = (part.ravel() for part in np.meshgrid(x, x))
    squares = (y[:, None] - points[:, 1]) ** 2 + (z[:, None] - points[:, 2]) ** 2
    weight = -squares / (2 * s**2) - math.log(2 * math.pi * s**2)
    total = 0.0
    for k, own in enumerate(points[:, 0]):
        low, high = np.full(y.size, -np.inf), np.full(y.size, np.inf)
        for j, other in enumerate(points[:, 0]):
            if j != k:
                gap = other - own
                cross = (other + own) / 2 - s * s * (weight[:, j] - weight[:, k]) / gap
                low, high = (low, np.minimum(high, cross)) if gap > 0 else (
                    np.maximum(low, cross), high
                )  # fmt: skip
        inside = np.maximum(ndtr((high - own) / s) - ndtr((low - own) / s), 0)
        total += float((np.exp(weight[:, k]) * inside).sum())
    return total * (x[1] - x[0]) ** 2


def test_against_quadrature_in_three_dimensions() -> None:
    """Along the motion with the largest eigenvalue, which involves all kinds of terms."""
    grid, s = tk.FSQ((2, 3, 3)), 0.7
    points, found = np.asarray(grid.points), accuracy_curvature(grid, 1 / s**2)
    exact = float(tk.accuracy(grid, 1 / s**2).value) * grid.K
    assert quadrature(points, s, 120) == pytest.approx(exact, rel=1e-6)
    seconds = []
    for step in (0.1, 0.05):
        moved = [quadrature(points + t * found.direction, s, 120) for t in (-step, 0, step)]
        seconds.append((moved[0] - 2 * moved[1] + moved[2]) / step**2 / grid.K)
    assert extrapolated(seconds) == pytest.approx(found.eigenvalues[-1], rel=0.02)


def test_two_levels_are_strict_at_every_level_of_noise() -> None:
    """No coordinate is inside; the multiplier is phi(h) h Phi(h)^(n-1) / ... in closed form."""
    for snr in (0.01, 1.0, 30.0):
        found, h = accuracy_curvature(tk.FSQ((2,) * 4), snr), math.sqrt(snr)
        phi = math.exp(-snr / 2) / math.sqrt(2 * math.pi)
        assert (found.verdict, found.eigenvalues.size) == ("strict", 0)
        assert found.smallest_multiplier * 16 == pytest.approx(h * phi * ndtr(h) ** 3, rel=1e-12)


@pytest.mark.parametrize(
    ("levels", "threshold"),
    [((3,) * 4, 0.29626659), ((4, 4), 0.40131036), ((4,) * 3, 0.13381785), ((5, 5), 0.10778104)],
)
def test_thresholds_of_noise(levels: tuple[int, ...], threshold: float) -> None:
    """Up to this noise s FSQ is a local maximum of the accuracy, and above it is not."""
    for factor, verdict in ((1 - 1e-6, "strict"), (1 + 1e-6, "not a maximum")):
        snr = 1 / (threshold * factor) ** 2
        assert accuracy_curvature(tk.FSQ(levels), snr).verdict == verdict


def test_order_of_the_ids_does_not_matter() -> None:
    c_order, f_order = (
        accuracy_curvature(tk.FSQ((4, 3), order=order), 2.0) for order in ("C", "F")
    )
    assert c_order.eigenvalues == pytest.approx(f_order.eigenvalues)
    first, second = (np.asarray(tk.FSQ((4, 3), order=order).points) for order in ("C", "F"))
    same = [int(np.flatnonzero((second == row).all(axis=1))[0]) for row in first]
    assert c_order.gradient == pytest.approx(f_order.gradient[same])


@pytest.mark.parametrize("snr", [1e-300, 1e-151, 1e151, 1e300])
@pytest.mark.parametrize("levels", [(3,), (4, 3)])
def test_an_snr_whose_square_is_no_number_is_refused(levels: tuple[int, ...], snr: float) -> None:
    with pytest.raises(ValueError, match="snr must be from 1e-150 to 1e\\+150"):
        accuracy_curvature(tk.FSQ(levels), snr)


@pytest.mark.parametrize("snr", [1e-150, 1e150])
def test_all_other_snrs_are_numbers(snr: float) -> None:
    found = accuracy_curvature(tk.FSQ((4, 3)), snr)
    assert np.isfinite(found.gradient).all()
    assert np.isfinite(found.eigenvalues).all()


@pytest.mark.parametrize("levels", [[[1.0, 1.0, 1.0]], [[0.0, 1.0], [2.0, 2.0]]])
def test_equal_levels_are_refused(levels: list[list[float]]) -> None:
    grid = tk.ProductCodebook(levels, allow_duplicates=True)
    with pytest.raises(ValueError, match="must be different and equally spaced"):
        accuracy_curvature(grid, 1.0)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="grid"):
        accuracy_curvature(tk.OneHot(5), 1.0)
    with pytest.raises(ValueError, match="spaced"):
        accuracy_curvature(tk.ProductCodebook([[0.0, 1.0, 3.0]]), 1.0)
    with pytest.raises(ValueError, match="at most"):
        accuracy_curvature(tk.FSQ((3,) * 8), 1.0)
    with pytest.raises(ValueError, match="snr"):
        accuracy_curvature(tk.FSQ((3, 3)), 0.0)
