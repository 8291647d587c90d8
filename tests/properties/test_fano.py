"""Fano: H <= h_b(P_e) + P_e log(K - 1), and the smallest P_e that it allows."""

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
    found, K = reference_profile(codebook, snr), codebook.K
    error, entropy = found["error_probability"], found["conditional_entropy"]
    assert_bound(bounds.fano_entropy(error, K), entropy)
    assert_bound(bounds.fano_error(entropy, K), error)


@settings(max_examples=25)
@given(exact_codebooks(), snrs())
def test_deep_tails(codebook: tk.Codebook, snr: float) -> None:
    found, K = tk.profile(codebook, snr), codebook.K
    error, entropy = found["error_probability"], found["conditional_entropy"]
    assert float(entropy.value) <= float(bounds.fano_entropy(error, K).value) * (1 + 1e-9) + 1e-300
    assert float(bounds.fano_error(entropy, K).value) <= float(error.value) * (1 + 1e-9)


@pytest.mark.parametrize("K", [2, 3, 10])
def test_equality_where_the_rest_is_even(K: int) -> None:
    """One token has a prior of 1 - P, the others share P: nothing is lost at snr = 0."""
    for P in (1e-200, 1e-9, 0.1, 0.99 * (K - 1) / K):
        entropy = -P * math.log(P / (K - 1)) - (1 - P) * math.log1p(-P)
        assert bounds.fano_entropy(P, K).value == pytest.approx(entropy, rel=1e-12)
        assert bounds.fano_error(entropy, K).value == pytest.approx(P, rel=1e-9)
    assert bounds.fano_entropy((K - 1) / K, K).value == pytest.approx(math.log(K), rel=1e-14)


def test_ends() -> None:
    assert bounds.fano_error(0.0, 4).value == 0
    assert bounds.fano_error(5.0, 1).value == 0
    assert bounds.fano_entropy(0.3, 1).value == 0
    np.testing.assert_allclose(bounds.fano_error(np.array([9.0]), 4).value, 0.75, rtol=1e-6)
