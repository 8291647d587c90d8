"""Accuracy and information grow in snr, entropy and MMSE fall, and entropy is convex."""

import numpy as np
import pytest
from hypothesis import given

import tokenkl as tk
from tokenkl.testing import exact_codebooks, snrs


@pytest.mark.slow
@given(exact_codebooks(), snrs())
def test_monotone_and_convex(codebook: tk.Codebook, snr: float) -> None:
    grid = snr * np.array([1.0, 1.5, 2.0])
    profile = tk.profile(codebook, grid)
    for name, sign in {
        "accuracy": 1,
        "mutual_information": 1,
        "error_probability": -1,
        "conditional_entropy": -1,
        "mmse": -1,
    }.items():
        slack = 2 * profile[name].numerical_error.max()
        assert (sign * np.diff(profile[name].value) >= -slack).all(), name
    entropy = profile["conditional_entropy"]
    assert entropy.value[1] <= entropy.value[[0, 2]].mean() + 2 * entropy.numerical_error.max()
