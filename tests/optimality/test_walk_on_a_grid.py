"""Starts that walk on a fine grid: sums kept along the way, and what may be asked for."""

from __future__ import annotations

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality.search.kernels import walk_on_grid
from tokenkl.optimality.search.starts import code_subset, walked


@pytest.mark.parametrize(("n", "K", "top"), [(2, 7, 5), (5, 32, 8), (3, 12, 1)])
def test_the_sum_is_that_of_the_distances(n: int, K: int, top: int) -> None:
    """After thousands of moves that change it: against all distances anew."""
    rng = np.random.default_rng(K)
    points = rng.integers(0, top + 1, (K, n))
    best, roots = points.copy(), np.sqrt(np.arange(n * top**2 + 1.0))
    total = -1.0
    for heat in (1.0, 0.1):
        draws = rng.random((5000, 6))
        after = walk_on_grid(points, top, heat, heat / 2, draws, roots, best, total)
        assert after >= total
        total = after
        assert total == pytest.approx(nearest_distances(best.astype(float)).sum(), rel=1e-12)
        assert points.min() >= 0
        assert points.max() <= top


def test_it_rises_above_fsq() -> None:
    """32 points in five dimensions, where FSQ's 2 is a strict local maximum."""
    rng = np.random.default_rng(0)
    found, what = walked(*code_subset(5, 32, 0, rng), rng, tries=100_000)
    assert nearest_distances(found).mean() > 2.01
    assert "walk on a grid of 8 steps" in what
    assert np.array_equal(found * 4, np.rint(found * 4))


def test_the_same_key_gives_the_same_points() -> None:
    one, other = (
        tk.search(2, 5, kinds=("walk",), starts=1, hops=1, key=3).codebook.points for _ in range(2)
    )
    assert np.array_equal(one, other)


def test_refused() -> None:
    with pytest.raises(ValueError, match="kinds must be left out unless distances"):
        tk.search(2, 5, kinds=("walk",), constraint="ball")
    with pytest.raises(ValueError, match="kinds must be left out unless distances"):
        tk.search(2, 5, "accuracy", snr=1.0, kinds=("walk",))
