"""(d_min^2/2) S <= mmse <= (diam^2/2) S, and with P_e: (d_min^2/2) P_e <= mmse <= diam^2 P_e."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from problems import assert_bound
from tokenkl import bounds
from tokenkl.testing import codebooks, reference_profile, snrs


@settings(max_examples=40)
@given(codebooks(), snrs())
def test_sandwich(codebook: tk.Codebook, snr: float) -> None:
    found = reference_profile(codebook, snr)
    share, error, mmse = (found[name] for name in ("sampling_error", "error_probability", "mmse"))
    assert_bound(bounds.mmse_above_sampling_error(codebook, share), mmse)
    assert_bound(bounds.mmse_below_sampling_error(codebook, share), mmse)
    assert_bound(bounds.mmse_above_error(codebook, error), mmse)
    assert_bound(bounds.mmse_below_error(codebook, error), mmse)
    crude = bounds.diameter(codebook) ** 2 * float(error.value)
    assert bounds.mmse_below_error(codebook, error.value).value <= crude * (1 + 1e-14)


@given(snrs(-30, 30), st.floats(0.2, 3.0))
def test_equality_for_one_hot(snr: float, scale: float) -> None:
    """All distances are alike: both ends of the sandwich are the MMSE."""
    codebook = tk.OneHot(3, [0.5, 0.3, 0.2], scale)
    # The points, so that the sampling error comes from quadrature and not from the MMSE.
    share = reference_profile(tk.PointCodebook(codebook.points, codebook.prior), snr)
    mmse = float(tk.mmse(codebook, snr))
    for bound in (bounds.mmse_above_sampling_error, bounds.mmse_below_sampling_error):
        value = float(bound(codebook, share["sampling_error"].value).value)
        assert value == pytest.approx(mmse, rel=1e-9, abs=1e-10)


def test_diameter() -> None:
    points = np.random.default_rng(0).normal(size=(700, 3))
    cloud = tk.PointCodebook(points)
    expected = max(np.linalg.norm(points - one, axis=1).max() for one in points)
    assert bounds.diameter(cloud) == pytest.approx(expected, rel=1e-14)
    assert bounds.diameter(tk.FSQ((3, 5, 1))) == pytest.approx(8**0.5, rel=1e-15)
    assert bounds.diameter(tk.OneHot(7, scale=3.0)) == pytest.approx(18**0.5, rel=1e-15)
    assert bounds.diameter(tk.OneHot(1)) == 0
    many = np.random.default_rng(1).normal(size=(9000, 2))
    assert bounds.diameter(tk.PointCodebook(many)) >= np.linalg.norm(many - many[0], axis=1).max()
