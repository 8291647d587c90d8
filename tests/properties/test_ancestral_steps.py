"""N-step KL (statement 10): at least 0, and falling when the grid of SNRs is refined."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.testing import exact_codebooks, point_codebooks, reference_profile, snr_grids


def step_kl(codebook: tk.Codebook, grid: np.ndarray) -> tuple[float, float]:
    """The identity of docs/theory/sampler.md, statement 10, and its numerical error."""
    if isinstance(codebook, tk.PointCodebook):
        found = [reference_profile(codebook, float(one)) for one in grid]
        mmse, entropy = (
            tk.Estimate(
                np.array([one[name].value for one in found]),
                numerical_error=np.array([one[name].numerical_error for one in found]),
            )
            for name in ("mmse", "conditional_entropy")
        )
    else:
        profile = tk.profile(codebook, grid)
        mmse, entropy = profile["mmse"], profile["conditional_entropy"]
    steps = np.diff(grid)
    value = (mmse.value[:-1] @ steps) / 2 - (entropy.value[0] - entropy.value[-1])
    error = (mmse.numerical_error[:-1] @ steps) / 2 + entropy.numerical_error[[0, -1]].sum()
    return float(value), float(error) + 1e-13 * (1 + float(mmse.value[:-1] @ steps))


@pytest.mark.slow
@settings(max_examples=20)
@given(exact_codebooks(), snr_grids(-60, 60), st.integers(0, 4), st.floats(0.1, 0.9))
def test_exact_codebooks(codebook: tk.Codebook, grid: np.ndarray, where: int, share: float) -> None:
    coarse, error = step_kl(codebook, grid)
    assert coarse >= -error
    cut = where % (grid.size - 1)
    point = grid[cut] + share * (grid[cut + 1] - grid[cut])
    fine, more = step_kl(codebook, np.insert(grid, cut + 1, point))
    assert fine <= coarse + error + more
    assert fine >= -more


@settings(max_examples=6)
@given(point_codebooks(), snr_grids(-60, 60))
def test_points_in_the_plane(codebook: tk.PointCodebook, grid: np.ndarray) -> None:
    coarse, error = step_kl(codebook, grid)
    assert coarse >= -error
    middle = (grid[:-1] + grid[1:]) / 2
    fine, more = step_kl(codebook, np.sort(np.concatenate([grid, middle])))
    assert fine <= coarse + error + more


def test_falls_as_one_over_the_steps() -> None:
    """N KL -> (1/4) (g_N - g_0) (mmse(g_0) - mmse(g_N)) on uniform grids."""
    cube, low, high = tk.FSQ((3, 2)), 0.0, 9.0
    ends = tk.mmse(cube, [low, high]).value
    expected = (high - low) * (ends[0] - ends[1]) / 4
    value, _ = step_kl(cube, np.linspace(low, high, 2001))
    assert abs(2000 * value / expected - 1) < 5e-3
