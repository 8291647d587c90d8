"""D(e + v) < D(e) for every small motion v != 0 of an FSQ grid with equal levels in its box, and
D'(v) <= -(largest inward motion of a coordinate at a face) * L / ((L - 1) n K)
(docs/theory/optimality.md, O4)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import tokenkl as tk


def _mean(points: np.ndarray) -> float:
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return float(distances.min(axis=1).mean())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([(2, 1), (3, 1), (2, 2), (3, 2), (4, 2), (2, 4), (3, 3)]),
    st.integers(0, 2**32 - 1),
    st.floats(0.02, 1.0),
)
def test_falls(shape: tuple[int, int], seed: int, share: float) -> None:
    L, n = shape
    points, rng = np.asarray(tk.FSQ((L,) * n).points), np.random.default_rng(seed)
    motion = rng.uniform(-1, 1, points.shape) * (rng.random(points.shape) < share)
    motion[points == 1] = -np.abs(motion[points == 1])
    motion[points == -1] = np.abs(motion[points == -1])
    step = 1e-7
    slope = (_mean(points + step * motion) - _mean(points)) / step
    inwards = np.abs(motion[np.abs(points) == 1]).max(initial=0)
    assert slope <= -inwards * L / ((L - 1) * n * L**n) + 1e-5
    if motion.any():
        assert slope < 0
