"""Cover and Hart: P_e <= S <= 2 P_e - K/(K-1) P_e^2, and solved for P_e."""

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_cover_hart(codebook: tk.Codebook, snr: float) -> None:
    found, K = reference_profile(codebook, snr), codebook.K
    share, error = found["sampling_error"], found["error_probability"]
    assert_bound(bounds.cover_hart_sampling_error(error, K), share)
    assert_bound(bounds.cover_hart_error(share, K), error)


@pytest.mark.parametrize("K", [2, 3, 10])
def test_equality_where_the_rest_is_even(K: int) -> None:
    """One token has a prior of 1 - P and the others share P evenly, at snr = 0."""
    for P in (1e-200, 1e-9, 0.1, (K - 1) / K):
        share = P * (1 + (1 - P)) - P**2 / (K - 1)  # 1 - (1 - P)^2 - P^2 / (K - 1)
        assert bounds.cover_hart_sampling_error(P, K).value == pytest.approx(share, rel=1e-12)
        # The inverse has an infinite slope at the far end.
        assert bounds.cover_hart_error(share, K).value == pytest.approx(P, rel=1e-7)


def test_without_noise_and_with_one_token() -> None:
    assert bounds.cover_hart_error(0.0, 5).value == 0
    assert bounds.cover_hart_error(np.zeros(2), 1).value.tolist() == [0, 0]
    assert bounds.cover_hart_sampling_error(0.0, 1).value == 0
