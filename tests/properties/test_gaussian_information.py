"""I <= (1/2) log det(I + snr Sigma) <= sum_i (1/2) log(1 + snr b_i^2), and I <= H(prior)."""

import math

from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, exact_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    information = reference_profile(codebook, snr)["mutual_information"]
    gaussian = bounds.gaussian_information_bound(codebook, snr)
    box = bounds.box_information_bound(codebook, snr)
    assert_bound(gaussian, information)
    assert_bound(box, information)
    assert_bound(bounds.prior_information_bound(codebook), information)
    assert gaussian.value <= box.value * (1 + 1e-9) + 1e-300


@given(exact_codebooks(), snrs())
def test_relative_precision(codebook: tk.Codebook, snr: float) -> None:
    """Informations of 1e-9 and less: the bounds keep their digits where they are tight."""
    found = tk.mutual_information(codebook, snr)
    for bound in (bounds.gaussian_information_bound, bounds.box_information_bound):
        assert float(found.value) <= float(bound(codebook, snr).value) * (1 + 1e-6) + 1e-300


def test_in_the_box() -> None:
    assert abs(bounds.box_information_bound(tk.FSQ((3,) * 8), 3.0).value - 4 * math.log(4)) < 1e-14
    low = tk.mutual_information(tk.FSQ((2,)), 1e-6).value
    assert abs(bounds.box_information_bound(tk.FSQ((2,)), 1e-6).value / low - 1) < 1e-6
