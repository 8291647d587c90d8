"""Any points of the unit square have a closed tour whose squared steps sum to at most 4, hence
D <= 4/sqrt(K) in [-1, 1]^2 (docs/theory/optimality.md, O10). The tour is that of the proof.
"""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from tokenkl.optimality.nn_bounds import newman_bound


def path(a: np.ndarray, b: np.ndarray, corner: np.ndarray, inside: list[np.ndarray]) -> list:
    """An order of points in the right triangle with hypotenuse ab, from a to b."""
    if len(inside) < 2:
        return inside
    foot = a + (b - a) * ((corner - a) @ (b - a)) / ((b - a) @ (b - a))
    left = [p for p in inside if (p - foot) @ (b - a) <= 0]
    right = [p for p in inside if (p - foot) @ (b - a) > 0]
    return path(a, corner, foot, left) + path(corner, b, foot, right)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.5, 0.05]))
def test_tour_and_bound(K: int, seed: int, grid: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.random((K, 2))
    if grid < 1:  # also points on walls, and on the diagonal
        points = np.unique(np.round(points / grid) * grid, axis=0)
    K = len(points)
    if K < 2:
        return
    low, high = np.zeros(2), np.ones(2)
    below = [p for p in points if p[1] <= p[0]]
    above = [p for p in points if p[1] > p[0]]
    tour = path(low, high, np.array([1.0, 0.0]), below)
    tour += path(high, low, np.array([0.0, 1.0]), above)
    steps = np.array(tour) - np.roll(np.array(tour), -1, axis=0)
    assert len(tour) == K
    assert np.square(steps).sum() <= 4 + 1e-12
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    assert np.square(nearest).sum() <= np.square(steps).sum() + 1e-12
    assert 2 * nearest.mean() <= newman_bound(K).value + 1e-12
