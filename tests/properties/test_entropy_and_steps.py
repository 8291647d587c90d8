"""N steps cost at most kappa I(snr_{N-1}), kappa the largest relative step; and kappa H(prior)."""

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
    information = tk.mutual_information(codebook, grid[-2])
    sharp = bounds.entropy_step_bound(information, grid)
    assert sharp.value >= found.value - found.numerical_error
    entropy = float(tk.conditional_entropy(codebook, 0.0))
    blunt = bounds.entropy_step_bound(entropy, grid)
    assert blunt.value * (1 + 1e-12) >= sharp.value - 4 * information.numerical_error * grid.max()


def test_dimension_does_not_enter() -> None:
    """A thousand tokens in a thousand dimensions, whatever their distance."""
    grid = np.geomspace(1e-4, 1e4, 33)
    bound = bounds.entropy_step_bound(np.log(1000), grid)
    for power in (0.01, 1.0, 100.0):
        assert tk.ancestral_kl(tk.scale_to(tk.OneHot(1000), power=power), grid).value < bound.value
