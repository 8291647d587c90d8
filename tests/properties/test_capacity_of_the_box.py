"""I <= sum_i C(h b_i), Smith's capacity; base 2 attains it up to h = 1.6659 (statement 16)."""

import math

import numpy as np
import pytest
from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    bound = bounds.capacity_bound(codebook, snr)
    assert_bound(bound, reference_profile(codebook, snr)["mutual_information"])
    assert bound.value <= bounds.box_information_bound(codebook, snr).value * (1 + 1e-9) + 1e-300


@settings(max_examples=30)
@given(codebooks(), snrs(-30, 4.43))
def test_base_two_has_the_smallest_entropy(codebook: tk.Codebook, snr: float) -> None:
    """With h <= 1.6659 no 2^n equally probable tokens in the box are told apart better."""
    half = np.ptp(np.asarray(codebook.points), axis=0) / 2
    if not codebook.has_equal_priors or half.max() == 0 or codebook.K < 2:
        return
    in_box = snr * half.max() ** 2  # the same channel as the codebook scaled into the box
    if in_box > bounds.capacity_threshold() ** 2:
        return
    cube = math.log(2) - float(tk.conditional_entropy(tk.FSQ((2,)), in_box).value)
    room = math.log(codebook.K) - codebook.n * cube
    entropy = reference_profile(codebook, snr)["conditional_entropy"]
    assert room <= float(entropy.value) + entropy.numerical_error + 1e-12


@pytest.mark.parametrize("n", [1, 3, 8])
def test_base_two_attains_it_below_the_threshold_only(n: int) -> None:
    cube = tk.FSQ((2,) * n)
    for h in (1e-3, 0.5, 1.0, 1.66, 1.6659):
        found = bounds.smallest_box_entropy(2**n, n, h**2).value
        assert abs(found - float(tk.conditional_entropy(cube, h**2))) < 1e-12 * n
    for h in (1.68, 2.0, 3.0):
        found = bounds.smallest_box_entropy(2**n, n, h**2).value
        assert found < float(tk.conditional_entropy(cube, h**2)) - 1e-7
