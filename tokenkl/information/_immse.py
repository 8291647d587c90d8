"""Mutual information at low SNR, where a difference of entropies would lose its digits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)

#: Share of the prior entropy below which a difference of entropies is not trusted.
SMALL_SHARE = 0.02
#: snr * diameter^2 up to which one panel is enough.
FIRST_PANEL = 0.1


def mutual_information(
    snr: Float[np.ndarray, " s"],
    prior_entropy: float,
    entropy: Float[np.ndarray, " s"],
    entropy_error: Float[np.ndarray, " s"],
    mmse: Callable[[Float[np.ndarray, " m"]], tuple[np.ndarray, np.ndarray]],
    diameter: float,
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """I(k; Y) and its numerical error at each SNR, with full relative precision.

    H(pi) - H(k|Y) where that keeps its digits; (1/2) int_0^snr mmse elsewhere, by Gauss-Legendre
    quadrature over panels that double from FIRST_PANEL / diameter^2 on. All its terms are positive,
    so its relative error is that of the MMSE however small the information. (Guo, Shamai, Verdu
    2005, "Mutual information and minimum mean-square error in Gaussian channels".)

    `mmse` maps SNRs to values and numerical errors.
    """
    value = prior_entropy - entropy
    error = entropy_error + 16 * np.finfo(float).eps * prior_entropy
    small = np.flatnonzero(value < SMALL_SHARE * prior_entropy)
    if small.size == 0:
        return value, error
    first = FIRST_PANEL / diameter**2
    nodes, weights, owner = [], [], []
    for index in small:
        high = snr[index]
        count = max(0, math.ceil(math.log2(high / first))) if high > first else 0
        edges = np.concatenate([[0.0], high * 2.0 ** np.arange(-count, 1)])
        half = np.diff(edges)[:, None] / 2
        nodes.append((edges[:-1, None] + half * (NODES + 1)).ravel())
        weights.append((half * WEIGHTS).ravel() / 2)
        owner.append(np.full(nodes[-1].size, index))
    values, errors = mmse(np.concatenate(nodes))
    weight, place = np.concatenate(weights), np.concatenate(owner)
    total = np.bincount(place, weight * values, minlength=snr.size)
    slack = np.bincount(
        place, weight * (errors + 64 * np.finfo(float).eps * values), minlength=snr.size
    )
    value[small], error[small] = total[small], slack[small]
    return value, error
