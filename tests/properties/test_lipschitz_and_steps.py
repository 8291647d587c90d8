"""N steps cost at most (1/4) sum (snr_{k+1} - snr_k)^2 C, C the largest |Cov(e | y)|_F^2."""

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from tokenkl import bounds
from tokenkl.testing import exact_codebooks, snr_grids

SEVERAL = exact_codebooks().filter(lambda codebook: codebook.K > 1)


@settings(max_examples=40)
@given(SEVERAL, snr_grids())
def test_above_the_exact_kl(codebook: tk.Codebook, grid: np.ndarray) -> None:
    found = tk.ancestral_kl(codebook, grid)
    bound = bounds.lipschitz_step_bound(codebook, grid)
    assert bound.value >= found.value - found.numerical_error


def test_exact_for_a_short_first_step_of_the_cube() -> None:
    """There Cov = I: nothing is given away."""
    grid = [0.0, 1e-6]
    found = tk.ancestral_kl(tk.FSQ((2,) * 5), grid)
    assert bounds.lipschitz_step_bound(tk.FSQ((2,) * 5), grid).value == pytest.approx(
        found.value, rel=1e-5
    )
