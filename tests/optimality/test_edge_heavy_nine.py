"""FSQ does not maximise Bayes accuracy in strong noise: nine points in the plane, exactly."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import integrate, special

import tokenkl as tk
from tokenkl.optimality.counterexamples import edge_heavy_nine


def gain(s: float) -> tuple[float, float]:
    """A(nine) - A(FSQ 3^2) and a bound on its numerical error."""
    nine, fsq = (
        tk.error_probability(cb, 1 / s**2, method=tk.Exact())
        for cb in (edge_heavy_nine(), tk.FSQ((3, 3)))
    )
    return float(fsq.value - nine.value), float(fsq.numerical_error + nine.numerical_error)


def test_nine_points_of_the_boundary() -> None:
    points = edge_heavy_nine().points
    assert np.unique(points, axis=0).shape == (9, 2)
    assert (np.abs(points).max(axis=1) == 1).all()


@pytest.mark.parametrize("s", [2.4, 3.0, 5.0, 30.0, 1000.0])
def test_beats_the_grid_in_strong_noise(s: float) -> None:
    value, error = gain(s)
    assert value > error


@pytest.mark.parametrize("s", [0.2, 1.0, 2.0, 2.35])
def test_loses_to_the_grid_in_weak_noise(s: float) -> None:
    value, error = gain(s)
    assert value < -error


def test_gain_at_s_3_by_integration() -> None:
    # K A = int max_k N(y; e_k, s^2 I) dy, split at the lines on which the largest one changes.
    def accuracy(points: np.ndarray, s: float) -> float:
        def column(y: float) -> float:
            # Along a horizontal line the upper envelope is that of Gaussians of one width.
            weight = np.exp(-((y - points[:, 1]) ** 2) / (2 * s**2))
            at = points[:, 0]
            cuts = [-np.inf, np.inf]
            for i in range(9):
                for j in range(i):
                    if at[i] != at[j]:
                        odds = s**2 * np.log(weight[j] / weight[i])
                        cuts.append((at[i] + at[j]) / 2 + odds / (at[i] - at[j]))
            total = 0.0
            for low, high in itertools.pairwise(sorted(cuts)):
                middle = np.clip((max(low, -1e3) + min(high, 1e3)) / 2, -1e3, 1e3)
                best = np.argmax(np.log(weight) - (middle - at) ** 2 / (2 * s**2))
                tails = special.ndtr((high - at[best]) / s) - special.ndtr((low - at[best]) / s)
                total += weight[best] * tails
            return total / (s * math.sqrt(2 * math.pi))

        pieces = [-40.0, -1.0, 0.0, 1.0, 40.0]
        parts = (
            integrate.quad(column, low, high, epsabs=1e-11, epsrel=1e-11, limit=400)[0]
            for low, high in itertools.pairwise(pieces)
        )
        return sum(parts) / 9

    by_integration = accuracy(edge_heavy_nine().points, 3.0) - accuracy(tk.FSQ((3, 3)).points, 3.0)
    assert gain(3.0)[0] == pytest.approx(by_integration, abs=2e-10)
    assert gain(3.0)[0] == pytest.approx(7.57e-6, abs=1e-8)


def test_limit_of_the_scaled_gain() -> None:
    limit = (8 / 27 - 1 / 4) / (18 * math.sqrt(2 * math.pi))
    # The next order is 1/s: halving 1/s halves the distance to the limit.
    near, far = (limit - s**3 * gain(s)[0] for s in (200.0, 400.0))
    assert 0 < far < near < 0.02 * limit
    assert near / far == pytest.approx(2, rel=0.02)
