"""A <= max_k pi_k prod_i (1 + sqrt(2/pi) h b_i) for any K tokens in the box."""

import math

import numpy as np
from hypothesis import given, settings

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, reference_profile, snrs


@settings(max_examples=60)
@given(codebooks(), snrs())
def test_any_codebook(codebook: tk.Codebook, snr: float) -> None:
    found = reference_profile(codebook, snr)
    assert_bound(bounds.universal_accuracy_bound(codebook, snr), found["accuracy"])
    assert_bound(bounds.prior_error_bound(codebook), found["error_probability"])


def test_many_levels_attain_it() -> None:
    """Dense levels come near to the maximum over the whole interval: its slope in h is right."""
    line = tk.FSQ((4001,))
    for h in (0.3, 3.0):
        bound = float(bounds.universal_accuracy_bound(line, h**2).value)
        assert 0.999 < float(tk.accuracy(line, h**2)) / bound <= 1
    square = tk.FSQ((301, 301))
    bound = float(bounds.universal_accuracy_bound(square, 4.0).value)
    assert 0.98 < float(tk.accuracy(square, 4.0)) / bound <= 1
    assert math.isclose(bound, (1 + math.sqrt(2 / math.pi) * 2) ** 2 / 301**2, rel_tol=1e-12)


def test_without_signal() -> None:
    prior = np.array([0.6, 0.3, 0.1])
    assert bounds.universal_accuracy(3, [1.0], 0.0, 0.6).value == 0.6
    points = tk.PointCodebook([[0.0], [1.0], [3.0]], prior)
    assert abs(bounds.universal_accuracy_bound(points, 0.0).value - 0.6) < 1e-15
    assert abs(bounds.prior_error_bound(points).value - 0.4) < 1e-15
