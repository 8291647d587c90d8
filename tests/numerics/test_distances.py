"""The largest distance, against all pairs by differences, at any size and far from the origin."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from tokenkl.numerics.distances import largest_distance

RNG = np.random.default_rng(5)


@pytest.mark.parametrize(
    "points",
    [
        RNG.standard_normal((300, 7)),
        RNG.standard_normal((60, 3)) + 1e9,
        RNG.standard_normal((60, 3)) * [1e-9, 1, 1e6],
        np.eye(40),
        RNG.integers(0, 3, (200, 4)).astype(float),
        np.full((5, 2), 0.1),
        np.zeros((1, 3)),
    ],
)
def test_largest_distance(points: np.ndarray) -> None:
    assert largest_distance(points) == cdist(points, points).max()


@pytest.mark.parametrize("scale", [-900, 900])
def test_largest_distance_of_any_size(scale: int) -> None:
    """No square leaves the range of floats."""
    points = RNG.standard_normal((60, 3))
    exact = np.ldexp(cdist(points, points).max(), scale)
    assert largest_distance(np.ldexp(points, scale)) == exact
