"""With full support nu > 0 at every SNR unless the token is independent of the others
(docs/theory/context.md, C5); then nu = 0."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.sources import Joint


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.floats(-1.0, 2.0))
def test_dependence(seed: int, log_snr: float) -> None:
    rng, snr = np.random.default_rng(seed), float(np.exp(log_snr))
    codebook = tk.PointCodebook(np.sort(rng.uniform(-1, 1, 3))[:, None] * 2)
    first, second = rng.dirichlet(np.full(3, 5.0), 2)
    apart = np.outer(first, second)
    tilted = apart * (1 + 0.5 * np.outer([1, -1, 0] / first, [0, 1, -1] / second) * apart.min())
    nothing, some = (
        tk.message_nonlinearity(codebook, Joint(law), snr, position=0) for law in (apart, tilted)
    )
    assert abs(nothing.value) <= nothing.numerical_error
    assert some.value > some.numerical_error
