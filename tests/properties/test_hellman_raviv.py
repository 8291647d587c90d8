"""Hellman and Raviv: P_e <= H / (2 log 2)."""

import math

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
    assert_bound(bounds.hellman_raviv_error(entropy), error)
    assert_bound(bounds.hellman_raviv_entropy(error), entropy)


@settings(max_examples=25)
@given(exact_codebooks(), snrs())
def test_deep_tails(codebook: tk.Codebook, snr: float) -> None:
    found = tk.profile(codebook, snr)
    error, entropy = found["error_probability"], found["conditional_entropy"]
    assert float(error.value) <= float(bounds.hellman_raviv_error(entropy).value) * (1 + 1e-9)


def test_equality_for_a_fair_coin() -> None:
    assert bounds.hellman_raviv_error(math.log(2)).value == pytest.approx(0.5, rel=1e-15)
    assert bounds.hellman_raviv_entropy(0.5).value == pytest.approx(math.log(2), rel=1e-15)
