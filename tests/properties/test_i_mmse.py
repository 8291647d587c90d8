"""I-MMSE (docs/theory/index.md, 4): dI/dsnr = mmse / 2, and int_0^inf mmse dsnr = 2 H(pi)."""

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from tokenkl.testing import exact_codebooks, snrs


@pytest.mark.slow
@given(exact_codebooks(), snrs(-50, 25))
def test_derivative(codebook: tk.Codebook, snr: float) -> None:
    """I(b) - I(a) = (1/2) int_a^b mmse, by Gauss-Legendre over a tenth of an octave."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    low, high = snr, snr * 1.07
    grid = (low + high) / 2 + (high - low) / 2 * nodes
    area = (high - low) / 4 * (weights @ tk.mmse(codebook, grid).value)
    information = tk.mutual_information(codebook, np.array([low, high]))
    change = information.value[1] - information.value[0]
    slack = 2 * information.numerical_error.max() + 1e-12 * information.value[1]
    assert abs(change - area) <= slack + 1e-11 * area


@pytest.mark.slow
@settings(max_examples=8)
@given(exact_codebooks())
def test_integral(codebook: tk.Codebook) -> None:
    """In log snr the integrand is smooth and decays at both ends: trapezoid rule."""
    step = 0.125  # the strip of analyticity narrows where a prior is nearly certain
    snr = np.exp(np.arange(-27, 19, step))
    area = step * np.sum(snr * tk.mmse(codebook, snr).value)
    np.testing.assert_allclose(area, 2 * float(codebook.prior_entropy()), rtol=1e-8, atol=1e-12)
