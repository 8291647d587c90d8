"""Quantities depend on time and schedule through the SNR alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl import channel
from tokenkl.testing import exact_codebooks, point_codebooks, snrs

SCHEDULES = [
    tk.LinearVP(),
    tk.CosineVP(),
    tk.BetaVP(),
    tk.SubVP(),
    tk.VE(),
    tk.EDM(),
    tk.FlowMatching(),
]


@settings(max_examples=12)
@given(exact_codebooks(), snrs(-20, 20))
def test_same_snr_same_numbers(codebook: tk.Codebook, snr: float) -> None:
    """The time at which each schedule reaches an SNR gives back the same profile."""
    expected = tk.profile(codebook, snr)
    for schedule in SCHEDULES:
        found = tk.profile(codebook, float(schedule.snr(schedule.t_from_snr(snr))))
        for name in ("conditional_entropy", "mmse", "accuracy"):
            value = float(expected[name].value)
            # Rounding of t amounts to a relative error of the SNR, amplified by log-slopes.
            assert abs(float(found[name].value) - value) <= 1e-7 * abs(value) + 1e-12


@settings(max_examples=30)
@given(point_codebooks(), st.floats(0.1, 0.9), st.integers(0, 10**6))
def test_posterior_of_the_diffused_token(codebook: tk.PointCodebook, t: float, key: int) -> None:
    """p(k | X_t) from the Gaussian density with alpha and sigma is that of the channel at snr."""
    noise = np.random.default_rng(key).standard_normal(2)
    for schedule in SCHEDULES:
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        x = alpha * codebook.points[0] + sigma * noise
        squared = ((x - alpha * codebook.points) ** 2).sum(axis=1)
        logits = np.log(codebook.prior) - squared / (2 * sigma**2)
        expected = np.exp(logits - logits.max())
        expected /= expected.sum()
        found = np.exp(channel.log_posterior(codebook, x / sigma, (alpha / sigma) ** 2))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
