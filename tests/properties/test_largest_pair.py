"""P_e >= sum_k pi_k max_j Q(r_kj): a union is at least as probable as its largest event."""

from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    assert_bound(
        bounds.pairwise_bound(codebook, snr), reference_profile(codebook, snr)["error_probability"]
    )


@settings(max_examples=25)
@given(exact_codebooks(), snrs())
def test_deep_tails(codebook: tk.Codebook, snr: float) -> None:
    error = tk.error_probability(codebook, snr)
    limit = float(bounds.pairwise_bound(codebook, snr).value)
    assert limit <= float(error.value) * (1 + 1e-9) + float(error.numerical_error)


def test_two_tokens_have_one_pair() -> None:
    for prior in (None, [0.9, 0.1], [1e-9, 1 - 1e-9]):
        pair = tk.PointCodebook([[0.0, 0.0], [1.0, 2.0]], prior)
        for snr in (0.0, 0.01, 1.0, 100.0):
            exact = float(tk.error_probability(pair, snr))
            assert (
                abs(float(bounds.pairwise_bound(pair, snr).value) - exact) <= 1e-9 * exact + 1e-16
            )
