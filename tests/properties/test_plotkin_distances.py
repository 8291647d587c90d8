"""mean r^2 <= 8 n floor(K^2/4) / (K (K - 1)) <= 2 n K / (K - 1) for K points of [-1, 1]^n
(docs/theory/optimality.md, O9)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from tokenkl.optimality.nn_bounds import plotkin_bound


def nearest(points: np.ndarray) -> np.ndarray:
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1))


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 2**32 - 1), st.booleans())
def test_no_points_have_more(K: int, n: int, seed: int, corners: bool) -> None:
    rng = np.random.default_rng(seed)
    points = rng.choice([-1.0, 1.0], (K, n)) if corners else rng.uniform(-1, 1, (K, n))
    found = np.square(nearest(points)).mean()
    assert found <= plotkin_bound(n, K).value ** 2 * (1 + 1e-12)
    assert plotkin_bound(n, K).value ** 2 <= 2 * n * K / (K - 1) * (1 + 1e-12)


@pytest.mark.parametrize("n", [3, 7])
def test_simplices_of_corners_attain_it(n: int) -> None:
    """Rows of a Hadamard matrix without its first column: n + 1 corners, all equally far apart."""
    corners = np.array([[1.0]])
    while len(corners) <= n:
        corners = np.block([[corners, corners], [corners, -corners]])
    points = corners[:, 1:]
    assert points.shape == (n + 1, n)
    assert nearest(points).mean() == pytest.approx(plotkin_bound(n, n + 1).value, rel=1e-14)
