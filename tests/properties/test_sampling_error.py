"""sum p^2 <= max p <= sqrt(sum p^2): 1 - sqrt(1 - S) <= P_e <= S, S = 1 - E sum_k p(k|Y)^2."""

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_norms(codebook: tk.Codebook, snr: float) -> None:
    found = reference_profile(codebook, snr)
    share, error = found["sampling_error"], found["error_probability"]
    assert_bound(bounds.error_below_sampling_error(share), error)
    assert_bound(bounds.error_above_sampling_error(share), error)
    assert_bound(bounds.sampling_error_above_error(error), share)


def test_equality() -> None:
    """Without noise both sides meet at 0; a uniform posterior has S = P_e = 1 - 1/K."""
    for K in (2, 3, 10):
        flat = 1 - 1 / K
        assert bounds.error_below_sampling_error(flat).value == flat
        assert bounds.sampling_error_above_error(flat).value == flat
    assert bounds.error_above_sampling_error(0.75).value == pytest.approx(0.5, rel=1e-15)
    tiny = np.array([1e-200, 1e-20])
    np.testing.assert_allclose(bounds.error_above_sampling_error(tiny).value, tiny / 2, rtol=1e-14)
