"""Union bound: P_e <= sum_k pi_k sum_{j != k} Q(h d_kj / 2 + log(pi_k / pi_j) / (h d_kj))."""

from hypothesis import given, settings
from scipy import special

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    assert_bound(
        bounds.union_bound(codebook, snr), reference_profile(codebook, snr)["error_probability"]
    )


@settings(max_examples=25)
@given(exact_codebooks(), snrs())
def test_deep_tails(codebook: tk.Codebook, snr: float) -> None:
    error = tk.error_probability(codebook, snr)
    limit = float(bounds.union_bound(codebook, snr).value)
    assert float(error.value) <= limit * (1 + 1e-10) + float(error.numerical_error)


def test_asymptotically_exact() -> None:
    """Four corners: two neighbours at 2 each, P_e = 1 - Phi(h)^2 -> 2 Q(h)."""
    h = 8.0
    bound = float(bounds.union_bound(tk.FSQ((2, 2)), h**2).value)
    expected = 2 * special.ndtr(-h) + special.ndtr(-h * 2**0.5)
    assert abs(bound / expected - 1) < 1e-11


def test_two_tokens_have_no_union() -> None:
    """The bound is the error itself: any other threshold than the MAP one would be larger."""
    for prior in (None, [0.9, 0.1], [1e-6, 1 - 1e-6]):
        pair = tk.PointCodebook([[0.0, 0.0], [1.0, 2.0]], prior)
        for snr in (0.01, 1.0, 30.0):
            exact = float(tk.error_probability(pair, snr))
            assert abs(float(bounds.union_bound(pair, snr).value) / exact - 1) < 1e-9
