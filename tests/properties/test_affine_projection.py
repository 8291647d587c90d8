"""The best affine law q* has the moments E q*_k (1, Y) = E p_k (1, Y), and the largest entropy of
all that have; E KL(p || q) = nu + E KL(q* || q) for every affine q (docs/theory/context.md, C4)."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from noisy_pairs import NoisyPairs

import tokenkl as tk
from tokenkl.context.affine import Seat
from tokenkl.context.quadrature import least
from tokenkl.sources import Joint


@settings(max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]), st.floats(-2.0, 2.0))
def test_projection(seed: int, K: int, log_snr: float) -> None:
    rng, snr = np.random.default_rng(seed), float(np.exp(log_snr))
    points, law = rng.uniform(-1, 1, K), rng.dirichlet(np.ones(K * K)).reshape(K, K)
    points -= points.mean()
    seat = Seat.of(tk.PointCodebook(points[:, None]), Joint(law), 0, None)
    found = least(seat, snr, "affine", seat.gaussian(snr), 1e-10)
    pairs = NoisyPairs(points, law, snr)
    log_q = pairs.log_q(found.theta)
    p, q = np.exp(pairs.log_p), np.exp(log_q)

    slope = (pairs.weight[:, None] * (q - p)).T @ pairs.features
    assert abs(slope).max() < 1e-6

    other = pairs.log_q(found.theta + rng.normal(scale=0.3, size=found.theta.shape))
    total = found.value + pairs.kl(log_q, other)
    assert abs(pairs.kl(pairs.log_p, other) - total) < 1e-6 * total + 1e-8

    # Any mixture of p and q* has the moments, and entropies no larger than those of q*.
    entropies = [-pairs.expected((r * np.log(r)).sum(axis=1)) for r in (p, (p + q) / 2, q)]
    assert entropies[0] <= entropies[1] + 1e-9
    assert entropies[1] <= entropies[2] + 1e-9
    assert abs(entropies[2] - entropies[0] - found.value) < 1e-7
