"""A >= E max p >= exp(-H): 1 - P_e >= exp(-H)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    found = reference_profile(codebook, snr)
    error, entropy = found["error_probability"], found["conditional_entropy"]
    assert_bound(bounds.jensen_error(entropy), error)
    assert_bound(bounds.jensen_entropy(error), entropy)


@settings(max_examples=25)
@given(exact_codebooks(), snrs())
def test_deep_tails(codebook: tk.Codebook, snr: float) -> None:
    """With relative precision, down to errors of 1e-280."""
    found = tk.profile(codebook, snr)
    error, entropy = found["error_probability"], found["conditional_entropy"]
    assert float(error.value) <= float(bounds.jensen_error(entropy).value) * (1 + 1e-9)
    assert float(bounds.jensen_entropy(error).value) <= float(entropy.value) * (1 + 1e-9)


def test_equality_for_uniform_posteriors() -> None:
    for K in (2, 3, 10):
        assert bounds.jensen_error(math.log(K)).value == pytest.approx(1 - 1 / K, rel=1e-14)
        assert bounds.jensen_entropy(1 - 1 / K).value == pytest.approx(math.log(K), rel=1e-14)
    np.testing.assert_allclose(bounds.jensen_error(1e-250).value, 1e-250, rtol=1e-12)
