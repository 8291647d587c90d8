"""Bonferroni: P(union of events) >= sum of probabilities - sum of joint probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    bound = bounds.bonferroni_bound(codebook, snr)
    assert_bound(bound, reference_profile(codebook, snr)["error_probability"])
    assert bound.value >= bounds.pairwise_bound(codebook, snr).value * (1 - 1e-10)


@settings(max_examples=25)
@given(exact_codebooks(), snrs())
def test_deep_tails(codebook: tk.Codebook, snr: float) -> None:
    error = tk.error_probability(codebook, snr)
    limit = float(bounds.bonferroni_bound(codebook, snr).value)
    assert limit <= float(error.value) * (1 + 1e-9) + float(error.numerical_error)


def test_three_tokens_by_inclusion_and_exclusion() -> None:
    """With two rivals each there is nothing beyond the second order: the bound is exact."""
    points = np.array([[0.0, 0.0], [1.0, 0.1], [-0.2, 0.9]])
    for prior in (None, [0.5, 0.3, 0.2]):
        triangle = tk.PointCodebook(points, prior)
        snr = np.array([1.0, 10.0, 100.0, 1000.0])
        exact = tk.error_probability(triangle, snr).value
        np.testing.assert_allclose(
            bounds.bonferroni_bound(triangle, snr).value, exact, rtol=1e-8, atol=1e-15
        )


def test_square_at_low_noise() -> None:
    # Two perpendicular neighbours and the opposite corner, which adds nothing: 2 Q - Q^2.
    q = special.ndtr(-5.0)
    bound = bounds.bonferroni_bound(tk.FSQ((2, 2)), 25.0).value
    assert bound == pytest.approx(2 * q - q**2, rel=1e-9)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.floats(4, 14))
def test_equal_points_of_a_nearly_certain_token(places: list[int], digits: float) -> None:
    """What the other tokens add up to is the error where nothing is told, and no more."""
    prior = np.append(1.0, 10**-digits * np.arange(1, len(places)))
    codebook = tk.PointCodebook(
        np.array(places, float)[:, None], prior / prior.sum(), allow_duplicates=True
    )
    error = float(np.asarray(codebook.prior)[1:].sum())
    for bound in (bounds.bonferroni_bound, bounds.de_caen_bound):
        assert float(bound(codebook, 0.0).value) <= error * (1 + 1e-12)
