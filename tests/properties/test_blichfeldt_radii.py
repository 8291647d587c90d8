"""sum_k (1 - 2 |x - e_k|^2 / r_k^2)_+ <= 1 at every x, for nearest-neighbour distances r_k; hence
the bound of D that integrates it (docs/theory/optimality.md, O11)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from tokenkl.optimality.nn_bounds import blichfeldt_bound


@settings(max_examples=200, deadline=None)
@given(
    st.integers(2, 12),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
    st.floats(0.1, 3.0),
)
def test_weights_sum_to_one_at_most(K: int, n: int, seed: int, stretch: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(K, n)) * stretch ** rng.normal(size=(K, 1))
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    radii = distances.min(axis=1)
    mix = rng.dirichlet(np.full(K, 0.3), 64)  # between the points, where balls overlap
    places = np.concatenate([mix @ points, rng.normal(size=(16, n)) * np.ptp(points)])
    weights = 1 - 2 * np.square(cdist(places, points)) / np.square(radii)
    assert np.maximum(weights, 0).sum(axis=1).max() <= 1 + 1e-9


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(4, 2), (9, 2), (8, 3), (27, 3), (16, 4)]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_no_points_have_more(shape: tuple[int, int], seed: int, corners: bool) -> None:
    K, n = shape
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (K, n))
    if corners:
        points = np.clip(2 * points, -1, 1)
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    assert distances.min(axis=1).mean() <= blichfeldt_bound(n, K).value
