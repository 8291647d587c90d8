"""Mutual information at low SNR, where a difference of entropies would lose its digits."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

EPS = np.finfo(float).eps
TINY = np.finfo(float).tiny
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
#: Rows that take values at the nodes to their last two Legendre coefficients.
LAST = np.array(
    [(k + 0.5) * WEIGHTS * np.polynomial.legendre.legval(NODES, np.eye(12)[k]) for k in (10, 11)]
)

#: Share of the prior entropy below which a difference of entropies is not trusted.
SMALL_SHARE = 0.02
#: snr * diameter^2 up to which one panel is enough, and beyond which it is trusted after all.
FIRST_PANEL, LAST_PANEL = 0.1, 1e16
#: Most times that a panel is halved because its expansion does not fall off.
HALVINGS = 6


def mutual_information(
    snr: Float[np.ndarray, " s"],
    prior_entropy: tuple[float, float],
    entropy: tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]],
    mmse: Callable[[Float[np.ndarray, " m"]], tuple[np.ndarray, np.ndarray]],
    diameter: float,
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """I(k; Y) and its numerical error at each SNR, with full relative precision.

    H(pi) - H(k|Y) where that keeps its digits; (1/2) int_0^snr mmse elsewhere, by Gauss-Legendre
    quadrature over panels that double from FIRST_PANEL / diameter^2 on. All its terms are positive,
    so its relative error is that of the MMSE however small the information. (Guo, Shamai, Verdu
    2005, "Mutual information and minimum mean-square error in Gaussian channels".)

    The entropies come with their numerical errors; `mmse` maps SNRs to values and numerical errors.
    """
    value = prior_entropy[0] - entropy[0]
    error = prior_entropy[1] + entropy[1]
    is_small = value < SMALL_SHARE * prior_entropy[0]
    small = np.flatnonzero(is_small & (snr <= LAST_PANEL / diameter**2))
    if small.size == 0:
        return value, error
    first = FIRST_PANEL / diameter**2
    ends, owner = [], []
    for index in small:
        high = snr[index]
        count = max(0, math.ceil(math.log2(high / first))) if high > first else 0
        edges = np.concatenate([[0.0], high * 2.0 ** np.arange(-count, 1)])
        ends.append(np.stack([edges[:-1], edges[1:]]))
        owner.append(np.full(edges.size - 1, index))
    (low, high), place = np.concatenate(ends, axis=1), np.concatenate(owner)
    value[small], error[small] = 0.0, 0.0
    for turn in range(HALVINGS + 1):
        half = (high - low)[:, None] / 2
        found = mmse((low[:, None] + half * (NODES + 1)).ravel())
        values, errors = (part.reshape(half.size, -1) for part in found)
        parts = half[:, 0] / 2 * (values @ WEIGHTS)
        # The coefficients fall off geometrically: of degree 24, the first one that the rule does
        # not see, is about the square of that of degree 12.
        tail = np.abs(values @ LAST.T).sum(axis=1) / np.maximum(values @ WEIGHTS / 2, TINY)
        doubt = 4 * parts * tail**2
        whole = value + np.bincount(place, parts, minlength=snr.size)
        done = (doubt <= EPS * whole[place]) | (turn == HALVINGS)
        slack = half[:, 0] / 2 * ((errors + 64 * EPS * values) @ WEIGHTS) + doubt
        value += np.bincount(place[done], parts[done], minlength=snr.size)
        error += np.bincount(place[done], slack[done], minlength=snr.size)
        if done.all():
            break
        low, high, place = low[~done], high[~done], place[~done]
        middle = (low + high) / 2
        low, high = np.concatenate([low, middle]), np.concatenate([middle, high])
        place = np.tile(place, 2)
    return value, error
