"""Distances of all pairs of points, in blocks, counted where they repeat."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

#: Pairs looked at together (16 MiB for each array of that many numbers).
BLOCK_PAIRS = 2**21
#: Bits by which the significand of a squared distance is cut, so that equal distances count as one.
#: Cutting only lowers a distance, by 1e-12 relatively, and so keeps an upper bound one.
CUT_BITS = 12
EPS = float(np.finfo(float).eps)
#: Pairs of a block that tell whether distances repeat often enough to be counted.
SAMPLE = 2**14


def cut(squared: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
    """Positive numbers without their last bits, never above them."""
    bits = np.ascontiguousarray(squared).view(np.int64)
    return (bits >> CUT_BITS << CUT_BITS).view(np.float64)


def largest_distance(points: Float[np.ndarray, "K n"]) -> float:
    """Of two of the points, by all pairs: products find rows that may have it, differences it."""
    points = np.asarray(points, float)
    _, exponent = math.frexp(float(np.abs(points).max()))
    points = np.ldexp(points, -exponent)  # so that no square leaves the range of floats
    offset = points - points[0]
    squares = np.einsum("kn,kn->k", offset, offset)
    rows = max(BLOCK_PAIRS // len(points), 1)
    farthest = np.empty(len(points))
    for start in range(0, len(points), rows):
        own = slice(start, start + rows)
        farthest[own] = squares[own] + (squares - 2 * offset[own] @ offset.T).max(axis=1)
    # Each is off by a few roundings of the largest square, whatever the order of the sums.
    slack = 8 * (points.shape[1] + 8) * EPS * float(squares.max())
    far = points[farthest >= farthest.max() - slack]
    blocks = (far[start : start + rows] for start in range(0, len(far), rows))
    return math.ldexp(float(max(cdist(block, points).max() for block in blocks)), exponent)


def squared_classes(
    points: Float[np.ndarray, "K n"],
) -> Iterator[tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]]:
    """Squared distances, cut, and the number of ordered pairs of different points at each."""
    import pandas as pd

    K = len(points)
    start = 0
    while start < K - 1:
        stop = min(K, start + max(1, BLOCK_PAIRS // (K - start)))
        squared = cdist(points[start:stop], points[start:], "sqeuclidean")
        # Every unordered pair once: columns to the right of the diagonal.
        later = np.arange(start, K) > np.arange(start, stop)[:, None]
        squared = cut(squared[later])
        if pd.unique(squared[:SAMPLE]).size < min(SAMPLE, squared.size) / 2:
            counts = pd.Series(squared).value_counts(sort=False)
            yield counts.index.to_numpy(), 2.0 * counts.to_numpy()
        else:
            yield squared, np.full(squared.size, 2.0)
        start = stop


def pairs_by_rows(
    log_prior: Float[np.ndarray, " K"],
    copies: Float[np.ndarray, " K"],
    points: Float[np.ndarray, "K n"] | None,
    distance: float = 0.0,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Weights, distances and log-odds of ordered pairs of tokens, in blocks of rows.

    There are `copies` of each token; without `points` all tokens are at the same `distance`.
    """
    size = log_prior.size
    rows = max(1, BLOCK_PAIRS // size)
    for start in range(0, size, rows):
        own = np.arange(start, min(size, start + rows))
        if points is None:
            apart = np.full((own.size, size), distance)
        else:
            apart = cdist(points[own], points)
        partners = np.tile(copies, (own.size, 1))
        partners[np.arange(own.size), own] -= 1
        weight = (np.exp(log_prior[own]) * copies[own])[:, None] * partners
        yield weight, apart, np.subtract.outer(log_prior[own], log_prior)
