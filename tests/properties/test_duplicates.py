"""A token given twice is one token with both priors, and the choice between the two on top."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl import bounds
from tokenkl.testing import point_codebooks, reference_profile, snrs


@settings(max_examples=30)
@given(point_codebooks(), snrs(), st.floats(0.05, 0.95))
def test_merged_prior(codebook: tk.PointCodebook, snr: float, share: float) -> None:
    """I and MMSE are as before; H grows by pi_0 h_b(share)."""
    prior = codebook.prior
    points = np.concatenate([codebook.points, codebook.points[:1]])
    split = np.concatenate([[prior[0] * share], prior[1:], [prior[0] * (1 - share)]])
    twice = tk.PointCodebook(points, split, allow_duplicates=True)
    before, after = reference_profile(codebook, snr), reference_profile(twice, snr)
    coin = -share * np.log(share) - (1 - share) * np.log1p(-share)
    for name, more in (
        ("mutual_information", 0.0),
        ("mmse", 0.0),
        ("conditional_entropy", prior[0] * coin),
    ):
        error = before[name].numerical_error + after[name].numerical_error
        assert abs(after[name].value - before[name].value - more) <= error, name


@settings(max_examples=20)
@given(point_codebooks(), snrs(-20, 40), st.floats(0.05, 0.95))
def test_sampled_error(codebook: tk.PointCodebook, snr: float, share: float) -> None:
    """Bounds by pairs merge equal points first, and stay below the truth."""
    prior = codebook.prior
    points = np.concatenate([codebook.points, codebook.points[:1]])
    split = np.concatenate([[prior[0] * share], prior[1:], [prior[0] * (1 - share)]])
    twice = tk.PointCodebook(points, split, allow_duplicates=True)
    error = float(reference_profile(twice, snr)["error_probability"])
    for bound in (bounds.pairwise_bound, bounds.bonferroni_bound, bounds.de_caen_bound):
        value = float(bound(twice, snr).value)
        assert value <= error + 1e-12
        assert value >= prior[0] * min(share, 1 - share) - 1e-12
    assert float(bounds.union_bound(twice, snr).value) >= error - 1e-12
