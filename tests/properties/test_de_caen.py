"""de Caen: P(union of events) >= sum_j P(A_j)^2 / sum_i P(A_i and A_j)."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy import special

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    bound = bounds.de_caen_bound(codebook, snr)
    assert_bound(bound, reference_profile(codebook, snr)["error_probability"])
    assert bound.value >= bounds.pairwise_bound(codebook, snr).value * (1 - 1e-10)


@settings(max_examples=25)
@given(exact_codebooks(), snrs())
def test_deep_tails(codebook: tk.Codebook, snr: float) -> None:
    error = tk.error_probability(codebook, snr)
    limit = float(bounds.de_caen_bound(codebook, snr).value)
    assert limit <= float(error.value) * (1 + 1e-9) + float(error.numerical_error)


def test_square_by_hand() -> None:
    """Two independent neighbours; the far corner has correlation 1/sqrt(2) with both."""
    h = 2.0
    q, far = special.ndtr(-h), special.ndtr(-h * 2**0.5)
    with_far = bounds.bivariate_tail(h, h * 2**0.5, 0.5**0.5)
    two = 2 * q**2 / (q + q**2)
    three = 2 * q**2 / (q + q**2 + with_far) + far**2 / (far + 2 * with_far)
    bound = bounds.de_caen_bound(tk.FSQ((2, 2)), h**2).value
    assert bound == pytest.approx(max(q, two, three), rel=1e-12)


def test_one_hot_is_the_general_formula() -> None:
    """One-hot tokens as points: the same bound where all rivals are looked at."""
    snr = np.array([0.0, 1.0, 30.0, 1000.0])
    for prior in (None, [0.4, 0.3, 0.2, 0.1]):
        fast, slow = tk.OneHot(4, prior, 0.7), tk.PointCodebook(0.7 * np.eye(4), prior)
        for bound in (bounds.de_caen_bound, bounds.bonferroni_bound, bounds.pairwise_bound):
            np.testing.assert_allclose(bound(fast, snr).value, bound(slow, snr).value, rtol=1e-10)
