"""Eight points of [0, 1]^3 have sum r^2 <= 8, hence D <= 2 in [-1, 1]^3, which FSQ 2^3 attains
(docs/theory/optimality.md, O12)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import tokenkl as tk


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.01, 0.2, 1.0]), st.booleans())
def test_no_points_have_more(seed: int, far: float, corners: bool) -> None:
    """Random points, corners, and the cube with its vertices moved."""
    rng = np.random.default_rng(seed)
    points = np.asarray(tk.FSQ((2, 2, 2)).points) / 2 + 0.5
    if corners:
        points = rng.choice([0.0, 0.5, 1.0], (8, 3))
    points = np.clip(points + far * rng.normal(size=(8, 3)), 0, 1)
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    assert np.square(distances.min(axis=1)).sum() <= 8 * (1 + 1e-12)
