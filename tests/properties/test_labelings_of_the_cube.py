"""Bits on a cube, a weak law: whatever the labeling, the linear part of messages is no larger than
where the law couples to the coordinates themselves (docs/theory/context.md, C8).

With g the features of a labeling, W_d their weight on parities of d bits: V = sum tau^d W_d,
R = r W_1 + sum_{d >= 2} tau^d W_d, M = sum (1 - tau^d) W_d.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tokenkl as tk
from tokenkl.sources import bilinear


def _tau(snr: float) -> float:
    return 1 - float(tk.mmse(tk.FSQ((2,)), snr))


def _matrices(features: np.ndarray, snr: float) -> dict[str, np.ndarray]:
    """M, V and R of features in rows by the labels of a cube, by Fourier transform."""
    n = round(np.log2(len(features)))
    cube, tau = tk.FSQ((2,) * n).points, _tau(snr)
    r, found = tau - snr / (1 + snr), {name: np.zeros((features.shape[1],) * 2) for name in "MVR"}
    for size in range(1, n + 1):
        for bits in itertools.combinations(range(n), size):
            weight = np.outer(*(cube[:, bits].prod(axis=1) @ features / len(cube),) * 2)
            found["M"] += (1 - tau**size) * weight
            found["V"] += tau**size * weight
            found["R"] += (r if size == 1 else tau**size) * weight
    return found


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]), st.floats(-3.0, 3.0))
def test_every_labeling(seed: int, n: int, log_snr: float) -> None:
    """M >= 1 - tau and R >= r as matrices; the share tr MR / tr MV is at least r / tau."""
    snr = float(np.exp(log_snr))
    rng, points = np.random.default_rng(seed), tk.FSQ((2,) * n).points
    features = points[rng.permutation(len(points))]
    matrix, tau = _matrices(features, snr), _tau(snr)
    r = tau - snr / (1 + snr)
    assert np.linalg.eigvalsh(matrix["M"]).min() >= 1 - tau - 1e-12
    assert np.linalg.eigvalsh(matrix["R"]).min() >= r - 1e-12
    A = rng.normal(size=(n, n))
    nonlinear, whole = (np.trace(A.T @ matrix["M"] @ A @ matrix[name]) for name in "RV")
    assert nonlinear >= r / tau * whole - 1e-12


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_matrices_are_those_of_one_token(seed: int) -> None:
    """V and R against draws: Cov E[g | Y], and what no affine function of Y explains of it."""
    rng, snr, cube = np.random.default_rng(seed), 2.0, tk.FSQ((2, 2))
    features = cube.points[rng.permutation(4)]
    seen = np.sqrt(snr) * cube.points[rng.integers(4, size=40_000)]
    seen += rng.standard_normal(seen.shape)
    logits = np.sqrt(snr) * seen @ cube.points.T
    posterior = np.exp(logits - logits.max(axis=1, keepdims=True))
    mean = posterior / posterior.sum(axis=1, keepdims=True) @ features
    rest = mean - seen @ np.linalg.lstsq(seen, mean, rcond=None)[0]
    matrix = _matrices(features, snr)
    assert abs(mean.T @ mean / len(seen) - matrix["V"]).max() < 0.03
    assert abs(rest.T @ rest / len(seen) - matrix["R"]).max() < 0.03


@pytest.mark.parametrize("snr", [0.5, 2.0])
def test_nonlinearity_is_their_trace(snr: float) -> None:
    """nu = (eps^2 / 2) tr A' M A R + O(eps^3) of the three labelings of a square, FSQ's least."""
    cube, A, eps = tk.FSQ((2, 2)), np.array([[0.9, -0.4], [0.3, 0.6]]), 0.1
    found = []
    for order in ([0, 1, 2, 3], [0, 1, 3, 2], [0, 3, 1, 2]):
        features = cube.points[order]
        law = bilinear(features, features, eps * A)
        value = float(tk.message_nonlinearity(cube, law, snr, position=0)) / eps**2
        matrix = _matrices(features, snr)
        expected = np.trace(A.T @ matrix["M"] @ A @ matrix["R"]) / 2
        assert abs(value - expected) <= 3 * eps * expected
        found.append(value)
    assert found[0] < min(found[1:])
