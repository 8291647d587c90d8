"""dS/dsnr = -E sum_k p(k|Y)^2 |e_k - E[e|Y]|^2, so S falls, and by at most the MMSE."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.testing import exact_codebooks, snrs


@given(exact_codebooks(), snrs(), st.floats(0.05, 0.95))
def test_between_no_fall_and_the_mmse(codebook: tk.Codebook, snr: float, share: float) -> None:
    """0 <= S(a) - S(b) <= (b - a) mmse(a) for a < b, since p^2 <= p and the MMSE falls."""
    level = np.array([snr * share, snr])
    found = tk.profile(codebook, level, ("sampling_error", "mmse"))
    value, error = found["sampling_error"].value, found["sampling_error"].numerical_error
    fall, slack = value[0] - value[1], error.sum() + 1e-15 * value[0]
    assert fall >= -slack
    assert fall <= (level[1] - level[0]) * found["mmse"].value[0] * (1 + 1e-9) + slack
