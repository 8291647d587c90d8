"""N-step identity (docs/theory/sampler.md, 10): KL >= 0, smaller on a finer grid, and additive."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.testing import exact_codebooks, grids, snr_grids


@settings(max_examples=30)
@given(exact_codebooks().filter(lambda codebook: codebook.K > 1), snr_grids())
def test_never_negative(codebook: tk.Codebook, grid: np.ndarray) -> None:
    found = tk.ancestral_kl(codebook, grid)
    assert found.value >= -found.numerical_error
    # One step that knows nothing costs at most half the power per unit of SNR.
    assert found.value <= 0.5 * grid[-1] * tk.average_power(codebook) + found.numerical_error


@settings(max_examples=30)
@given(grids().filter(lambda codebook: codebook.K > 1), snr_grids(), st.floats(0.01, 0.99))
def test_refinement_helps(codebook: tk.Codebook, grid: np.ndarray, where: float) -> None:
    """A point more never costs: mmse decreases."""
    middle = grid[0] + where * (grid[1] - grid[0])
    finer = np.unique(np.insert(grid, 1, middle))
    coarse, fine = (tk.ancestral_kl(codebook, one) for one in (grid, finer))
    slack = coarse.numerical_error + fine.numerical_error
    assert fine.value <= coarse.value + slack
    # Steps add up.
    parts = [tk.ancestral_kl(codebook, finer[i : i + 2]) for i in range(finer.size - 1)]
    errors = sum(part.numerical_error for part in parts) + fine.numerical_error
    assert abs(sum(part.value for part in parts) - fine.value) <= errors
