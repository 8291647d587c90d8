"""Odd index sums over the finest axes shifted by d along a coarser axis, inwards at its ends: every
nearest-neighbour distance g becomes sqrt(g^2 + d^2) (docs/theory/optimality.md, O5)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

import tokenkl as tk


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(3, 2), (4, 3), (8, 5), (6, 6, 4), (5, 3, 2), (8, 6, 5)]),
    st.floats(1e-3, 1.0),
)
def test_every_distance_grows(levels: tuple[int, ...], share: float) -> None:
    points = np.array(tk.FSQ(levels).points)
    gaps = [2 / (count - 1) for count in levels]
    finest = [c for c, count in enumerate(levels) if count == max(levels)]
    coarse = levels.index(min(levels))
    g, other = min(gaps), min(gap for gap in gaps if gap > min(gaps))
    # As long as tokens of the coarser axes stay further away than that.
    shift = share * min((gaps[coarse] - g) / 3, (other**2 - g**2) ** 0.5 / 2)
    place = np.stack(
        [np.rint((column + 1) / gap) for column, gap in zip(points.T, gaps, strict=True)], axis=1
    )
    odd = place[:, finest].sum(axis=1) % 2 == 1
    upper = place[:, coarse] == levels[coarse] - 1
    points[:, coarse] += np.where(odd, np.where(upper, -shift, shift), 0.0)
    assert np.abs(points).max() <= 1
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_allclose(distances.min(axis=1), np.hypot(g, shift), rtol=1e-12)
