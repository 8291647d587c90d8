"""nu = (snr^2 / 4) sum_k pi_k |Cov(X' | k) - E Cov(X' | k)|^2 + O(snr^3)
(docs/theory/context.md, C6)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.sources import Joint


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]))
def test_limit(seed: int, length: int) -> None:
    """The error of nu / snr^2 is halved with the SNR."""
    rng = np.random.default_rng(seed)
    codebook = tk.PointCodebook(rng.uniform(-1, 1, (2, 1)))
    law = Joint(rng.dirichlet(np.ones(2**length)).reshape((2,) * length))
    snr = np.array([0.01, 0.005]) / codebook.average_power()
    limit = tk.low_snr_nonlinearity(codebook, law, position=0)
    found = tk.message_nonlinearity(codebook, law, snr, position=0)
    away, slack = found.value / snr**2 - limit, found.numerical_error / snr**2
    assert abs(away[1] - away[0] / 2) < 0.1 * abs(away[0]) + 5e-3 * limit + 2 * slack.sum()
