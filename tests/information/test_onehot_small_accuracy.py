"""Accuracies of many one-hot tokens to all their digits, where errors are nearly certain."""

import math

import numpy as np
import pytest
from scipy import special

import tokenkl as tk


def by_quadrature(priors: np.ndarray, counts: np.ndarray, snr: float) -> float:
    """sum_k pi_k P(k wins): its own observation h + z beats all others, by log-priors / h."""
    h = math.sqrt(snr)
    z = np.linspace(-12, 14, 40001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    total = 0.0
    for prior, count in zip(priors, counts, strict=True):
        logs = np.zeros_like(z)
        for other, number in zip(priors, counts, strict=True):
            beaten = number - (other == prior)
            logs += beaten * special.log_ndtr(z + h + math.log(prior / other) / h)
        total += count * prior * float((density * np.exp(logs)).sum() * (z[1] - z[0]))
    return total


@pytest.mark.parametrize("snr", [1e-2, 1.0, 4.0])
@pytest.mark.parametrize("ratio", [1.0, 1.3, 20.0])
def test_many_tokens_of_two_priors(snr: float, ratio: float) -> None:
    counts = np.array([999_000, 1_000])
    priors = np.array([1.0, ratio]) / (counts @ [1.0, ratio])
    codebook = tk.OneHot(int(counts.sum()), np.repeat(priors, counts))
    if ratio == 1.0:
        priors, counts = priors[:1], counts.sum(keepdims=True)
    found = tk.accuracy(codebook, snr)
    expected = by_quadrature(priors, counts, snr)
    assert expected < 2e-2
    difference = abs(float(found) - expected)
    assert difference <= 1e-11 * expected
    assert difference <= found.numerical_error
