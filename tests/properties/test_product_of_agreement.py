"""1 - S = E sum_k p(k|Y)^2 multiplies over independent coordinates, as the accuracy does."""

import numpy as np
from hypothesis import given

import tokenkl as tk
from tokenkl.testing import grids, snrs


@given(grids(), snrs())
def test_agreement_multiplies(codebook: tk.ProductCodebook, snr: float) -> None:
    axes = range(codebook.n)
    lines = [
        tk.ProductCodebook([codebook.levels[i]], [np.exp(codebook.coordinate_log_prior(i))])
        for i in axes
    ]
    found = tk.sampling_error(codebook, snr)
    each = np.array([float(tk.sampling_error(line, snr)) for line in lines])
    answer = -np.expm1(np.log1p(-each).sum())
    assert abs(float(found) - answer) <= 1e-11 * answer + 1e-290
