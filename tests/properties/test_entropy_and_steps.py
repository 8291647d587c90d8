"""N steps cost at most kappa I(snr_{N-1}), kappa the largest relative step; and kappa H(prior)."""

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from tokenkl import bounds
from tokenkl.testing import exact_codebooks, snr_grids

PRIORS = [np.arange(1, 10) / 45, np.array([0.9, 0.1])]
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


@pytest.mark.slow
def test_steps_equal_in_log_snr_cost_the_same_for_all() -> None:
    """N KL tends to log(range) / 4 [snr mmse at the ends + 2 information gained], whoever it is."""
    N, ends = 1000, np.array([1e-3, 1e4])
    grid = np.geomspace(ends[0], ends[1], N + 1)
    span = np.log(ends[1] / ends[0])
    for codebook in (tk.FSQ((2,)), tk.FSQ((3, 3)), tk.OneHot(50), tk.FSQ((9, 2), priors=PRIORS)):
        mmse = np.asarray(tk.mmse(codebook, ends).value)
        gained = np.diff(np.asarray(tk.mutual_information(codebook, ends).value))[0]
        limit = span / 4 * (ends[0] * mmse[0] - ends[1] * mmse[1] + 2 * gained)
        found = N * float(tk.ancestral_kl(codebook, grid))
        assert abs(found / limit - 1) < 2 * span / N
        entropy = float(codebook.prior_entropy())
        assert abs(found / (span * entropy / 2) - 1) < 2 * span / N
