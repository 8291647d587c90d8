"""N steps cost at most (kappa n / 2) (1 + sum (snr_k - snr_{k-1}) / snr_k), whatever the tokens."""

import numpy as np
from hypothesis import given, settings

import tokenkl as tk
from tokenkl import bounds
from tokenkl.testing import exact_codebooks, snr_grids

SEVERAL = exact_codebooks().filter(lambda codebook: codebook.K > 1)


@settings(max_examples=40)
@given(SEVERAL, snr_grids(positive=True))
def test_above_the_exact_kl(codebook: tk.Codebook, grid: np.ndarray) -> None:
    found = tk.ancestral_kl(codebook, grid)
    bound = bounds.dimension_step_bound(codebook.n, grid)
    assert bound.value >= found.value - found.numerical_error


def test_dense_levels_come_within_a_small_factor() -> None:
    """Where the MMSE is 1 / snr nearly half of it is needed."""
    grid = np.geomspace(10.0, 1e3, 61)
    found = tk.ancestral_kl(tk.FSQ((65,)), grid)
    assert found.value < bounds.dimension_step_bound(1, grid).value < 3 * found.value
