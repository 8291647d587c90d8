"""A motion that solves the linear programme of slopes raises D (or the smallest distance) by at
least what the programme says, in a box (docs/theory/optimality.md, O7)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from tokenkl.optimality.search.polish import polish
from tokenkl.optimality.search.spaces import Space


def objective(points: np.ndarray, minimum: bool) -> float:
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    return float(nearest.min() if minimum else nearest.mean())


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(5, 2), (8, 3), (12, 2)]),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from(["box", "ball", "power", "variance"]),
)
def test_rounds_never_fall(
    shape: tuple[int, int], seed: int, minimum: bool, constraint: str
) -> None:
    space = Space(*shape, constraint)
    points = space.inside(np.random.default_rng(seed).uniform(-1, 1, shape))
    before = objective(points, minimum)
    for rounds in (1, 3, 10):
        value, moved = polish(points, space, minimum, rounds)
        assert (
            value == objective(moved, minimum) or abs(value / objective(moved, minimum) - 1) < 1e-12
        )
        assert value >= before
        np.testing.assert_allclose(space.inside(moved), moved, atol=1e-12)
        before = value
