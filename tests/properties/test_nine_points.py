"""Nine points of [0, 2]^2 have sum r <= 9, hence D <= 1 in [-1, 1]^2, which FSQ 3^2 attains
(docs/theory/optimality.md, O12)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import tokenkl as tk


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-3, 0.05, 0.2, 1.0]), st.booleans())
def test_no_points_have_more(seed: int, far: float, halves: bool) -> None:
    """Random points, points of a grid of halves, and FSQ with its points moved; only FSQ has 9."""
    rng = np.random.default_rng(seed)
    grid = np.asarray(tk.FSQ((3, 3)).points) + 1
    points = rng.choice([0.0, 0.5, 1.0, 1.5, 2.0], (9, 2)) if halves else grid
    points = np.clip(points + far * rng.normal(size=(9, 2)), 0, 2)
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    total = distances.min(axis=1).sum()
    assert total <= 9 * (1 + 1e-12)
    if cdist(points, grid).min(axis=0).max() > 1e-3:
        assert total < 9 - 1e-5
