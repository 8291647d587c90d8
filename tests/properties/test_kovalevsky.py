"""Kovalevsky: H is above the polygon through (1 - 1/i, log i), the best bound from P_e alone."""

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
    found = reference_profile(codebook, snr)
    error, entropy = found["error_probability"], found["conditional_entropy"]
    assert_bound(bounds.kovalevsky_error(entropy), error)
    assert_bound(bounds.kovalevsky_entropy(error), entropy)


def test_corners_and_what_it_improves() -> None:
    for i in (1, 2, 3, 7, 100):
        corner = 1 - 1 / i
        assert bounds.kovalevsky_entropy(corner).value == pytest.approx(math.log(i), rel=1e-12)
        assert bounds.kovalevsky_error(math.log(i)).value == pytest.approx(corner, rel=1e-12)
    error = np.linspace(0, 0.99, 300)
    polygon = bounds.kovalevsky_entropy(error).value
    assert (polygon >= bounds.jensen_entropy(error).value - 1e-14).all()
    assert (polygon >= bounds.hellman_raviv_entropy(error).value - 1e-14).all()
    np.testing.assert_allclose(bounds.kovalevsky_error(polygon).value, error, atol=1e-13)
    assert (np.diff(polygon, 2) >= -1e-13).all()  # convex, which Jensen needs
