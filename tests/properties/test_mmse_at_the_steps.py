"""N steps cost at most (1/2) sum (snr_{k+1} - snr_k) (mmse_k - mmse_{k+1})."""

import numpy as np
from hypothesis import given, settings

import tokenkl as tk
from tokenkl import bounds
from tokenkl.testing import exact_codebooks, snr_grids

SEVERAL = exact_codebooks().filter(lambda codebook: codebook.K > 1)


@settings(max_examples=40)
@given(SEVERAL, snr_grids())
def test_above_the_exact_kl(codebook: tk.Codebook, grid: np.ndarray) -> None:
    found = tk.ancestral_kl(codebook, grid)
    bound = bounds.mmse_step_bound(tk.mmse(codebook, grid), grid)
    assert bound.value >= found.value - found.numerical_error


def test_twice_the_exact_kl_where_steps_are_short() -> None:
    cube = tk.FSQ((3, 3))
    for N, most in ((64, 2.1), (1024, 2.01)):
        grid = np.geomspace(0.01, 50.0, N + 1)
        bound = bounds.mmse_step_bound(tk.mmse(cube, grid), grid)
        assert 1.5 < bound.value / tk.ancestral_kl(cube, grid).value < most
