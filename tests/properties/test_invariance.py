"""Information ignores isometries and the names of tokens; scale acts through snr."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.quantities import QUANTITIES
from tokenkl.testing import grids, onehots, point_codebooks, snrs


@given(grids(), snrs(), st.floats(0.1, 10.0), st.floats(-5, 5))
def test_shift_scale_and_reflection(
    codebook: tk.ProductCodebook, snr: float, scale: float, shift: float
) -> None:
    """e -> scale e + shift at snr / scale^2 is the same channel, MMSE times scale^2."""
    moved = tk.ProductCodebook(
        [shift - scale * levels for levels in codebook.levels], codebook.priors
    )
    names = tuple(QUANTITIES)
    before = tk.profile(codebook, snr, names)
    after = tk.profile(moved, snr / scale**2, names)
    for name in QUANTITIES:
        factor = scale**2 if name == "mmse" else 1.0
        a, b = factor * float(before[name]), float(after[name])
        # Shifting rounds the gaps: a relative error of 1e-13 in a gap is amplified by its exponent.
        assert abs(a - b) <= 1e-9 * abs(a) + 1e-250, name


@pytest.mark.slow
@given(onehots(), snrs(), st.floats(0.2, 5.0))
def test_onehot_scale(codebook: tk.OneHot, snr: float, factor: float) -> None:
    scaled = tk.OneHot(codebook.K, codebook.given_prior, codebook.scale * factor)
    names = tuple(QUANTITIES)
    before = tk.profile(codebook, snr, names)
    after = tk.profile(scaled, snr / factor**2, names)
    for name in QUANTITIES:
        unit = factor**2 if name == "mmse" else 1.0
        np.testing.assert_allclose(
            float(after[name]), unit * float(before[name]), rtol=1e-10, atol=1e-290
        )


@given(point_codebooks(), snrs(-20, 25), st.floats(0, 6.3), st.randoms(use_true_random=False))
def test_rotation_and_relabelling(
    codebook: tk.PointCodebook, snr: float, angle: float, random: Random
) -> None:
    """Planar accuracy is exact, so both must leave it alone to rounding."""
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    order = list(range(codebook.K))
    random.shuffle(order)
    moved = tk.PointCodebook((codebook.points @ rotation)[order], codebook.prior[order])
    a, b = tk.error_probability(codebook, snr), tk.error_probability(moved, snr)
    assert abs(float(a) - float(b)) <= 1e-9 * float(a) + 1e-12
