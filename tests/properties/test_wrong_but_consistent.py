"""Posteriors under any one law cost as much by whatever path (docs/theory/learned.md, 9h):
1/2 int_0^snr E|e - e_q|^2 + E[-log q(k|Y)] does not depend on snr."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp, xlogy

#: Of the noise, and of the integral over SNRs.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(160)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def wrong_posterior(
    points: np.ndarray, p: np.ndarray, q: np.ndarray, snr: float
) -> tuple[float, float]:
    """Squared error and cross-entropy of the exact posterior under q, of tokens drawn from p."""
    y = np.sqrt(snr) * points[:, None] + NODES
    logs = np.log(q) + np.sqrt(snr) * y[..., None] * points - snr / 2 * points**2
    logs -= logsumexp(logs, axis=-1, keepdims=True)
    error = (points[:, None] - np.exp(logs) @ points) ** 2
    own = logs[np.arange(points.size), :, np.arange(points.size)]
    return float(p @ error @ WEIGHTS), float(-p @ own @ WEIGHTS)


def laws(K: int) -> st.SearchStrategy[np.ndarray]:
    weights = st.lists(st.floats(0.02, 1), min_size=K, max_size=K)
    return weights.map(lambda w: np.array(w) / np.sum(w))


@settings(max_examples=40, deadline=None)
@given(st.data(), st.integers(2, 5), st.floats(0.1, 6.0))
def test_no_path_is_dearer(data: st.DataObject, K: int, end: float) -> None:
    points = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=K, max_size=K)))
    p, q = data.draw(laws(K)), data.draw(laws(K))
    nodes, weights = np.polynomial.legendre.leggauss(24)
    path = [wrong_posterior(points, p, q, end * (1 + x) / 2)[0] for x in nodes]
    spent = end / 2 * (weights @ path) / 2
    told = wrong_posterior(points, p, q, end)[1]
    assert abs(spent + told - -xlogy(p, q).sum()) < 1e-9


def test_posteriors_of_two_laws_have_a_price_of_their_own() -> None:
    """Of the better law the last word, of the worse one all that went before."""
    points, p = np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    worse = np.array([0.9, 0.1])
    nodes, weights = np.polynomial.legendre.leggauss(24)
    totals = []
    for end in (0.5, 1.0, 2.0):
        path = [wrong_posterior(points, p, worse, end * (1 + x) / 2)[0] for x in nodes]
        totals.append(end / 2 * (weights @ path) / 2 + wrong_posterior(points, p, p, end)[1])
    assert np.log(2) + 0.05 < totals[0] < totals[1] - 0.05 < totals[2] - 0.1
    assert totals[2] < -p @ np.log(worse)
