"""Where coordinates are independent processes, nu is the sum over coordinates
(docs/theory/context.md, C13)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.sources import Joint


@settings(max_examples=3)
@given(st.integers(0, 2**32 - 1), st.floats(-1.0, 1.5))
def test_two_coordinates(seed: int, log_snr: float) -> None:
    rng, snr = np.random.default_rng(seed), float(np.exp(log_snr))
    laws = [rng.dirichlet(np.ones(4)).reshape(2, 2) for _ in range(2)]
    both = np.einsum("ab,cd->acbd", *laws).reshape(4, 4)
    square, line = tk.FSQ((2, 2)), tk.FSQ((2,))
    whole = tk.message_nonlinearity(square, Joint(both), snr, position=0)
    parts = [tk.message_nonlinearity(line, Joint(law), snr, position=0) for law in laws]
    slack = float(whole.numerical_error + sum(part.numerical_error for part in parts))
    assert abs(whole.value - sum(part.value for part in parts)) <= slack
    assert slack < 1e-5 * whole.value + 1e-12
