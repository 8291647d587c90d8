"""Not knowing the cluster adds sum_c (1 - q_c) sum_{k in c} p_k^2 / q_c to 1 - sum p^2.

That is at most what all pairs of tokens of different clusters would add, and at most twice the
mean number of tokens of other clusters that are ahead of the true one (docs/theory, S8).
"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def posteriors(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    K = draw(st.integers(2, 9))
    logits = np.array(draw(st.lists(st.floats(-30, 0), min_size=K, max_size=K)))
    labels = np.array(draw(st.lists(st.integers(0, 3), min_size=K, max_size=K)))
    p = np.exp(logits)
    return p / p.sum(), labels


@given(posteriors())
def test_decomposition_and_both_bounds(given: tuple[np.ndarray, np.ndarray]) -> None:
    p, labels = given
    q = np.array([p[labels == label].sum() for label in labels])
    within = ((p / q) * (q - p)).sum()  # sum_c q_c (1 - sum (p_k / q_c)^2)
    other = labels[:, None] != labels
    rest = (p * other).sum(axis=1)  # 1 - q_c, without a difference
    between = (p**2 / q * rest).sum()
    whole = (p * (p.sum() - p)).sum()
    assert abs(within + between - whole) <= 1e-13
    i, j = np.nonzero(np.triu(other))
    pairs = (2 * p[i] * p[j] / (p[i] + p[j])).sum()
    assert between <= pairs * (1 + 1e-12)
    ahead = (other & (p[None, :] >= p[:, None])).sum(axis=1)
    assert between <= 2 * (p @ ahead) * (1 + 1e-12)
