"""The union bound on the error probability, for codebooks of any size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.spatial.distance import cdist

from tokenkl._validation import check_snr
from tokenkl.codebooks import Codebook, OneHot, ProductCodebook
from tokenkl.estimate import Bound

#: Pairs of tokens looked at together (16 MiB for each array of that many numbers).
BLOCK_PAIRS = 2**21
#: Bits by which the significand of a squared distance is cut, so that equal distances count as one.
#: Cutting only lowers a distance, by 1e-12 relatively, and so keeps an upper bound one.
CUT_BITS = 12
#: Pairs of a block that tell whether distances repeat often enough to be counted.
SAMPLE = 2**14
#: Most different distances that a grid's spectrum keeps before neighbours are merged downwards.
MAX_CLASSES = 2**20


def union_bound(codebook: Codebook, snr: Float[np.ndarray, " *shape"]) -> Bound:
    """Union bound on the Bayes error probability:

        P_e <= sum_k pi_k sum_{j != k} Q(h d_kj / 2 + log(pi_k / pi_j) / (h d_kj)),

    with h = sqrt(snr), d_kj = |e_k - e_j| and Q the upper tail of the normal law; never above 1.
    It holds for every codebook and prior: the best guess of k fails only where some j is at least
    as probable, and each term is the probability of that for one j. As h grows the ratio of the two
    sides tends to 1 where tokens have few nearest neighbours that block each other's view.

    Pairs at one distance are counted once, so that lattices and grids are cheap; a grid with equal
    priors is never materialised. Other codebooks cost K^2 normal tails for each SNR. Floating-point
    rounding adds a relative error of about 1e-11 or less.

    Args:
        codebook: any codebook; equal points are allowed.
        snr: signal-to-noise ratios, at least 0; the result has their shape.

    Returns:
        An upper `Bound` on the error probability.

    Raises:
        ValueError: snr negative or not finite, or points too many to materialise.

    Example:
        >>> import tokenkl as tk
        >>> cube = tk.FSQ((2, 2))
        >>> float(union_bound(cube, 9.0).value) > float(tk.error_probability(cube, 9.0))
        True

    Source: Boole's inequality on pairwise errors; Proakis and Salehi (2008), Digital
    Communications, section 4.2.
    """
    snr = check_snr(snr)
    h = np.sqrt(snr.ravel())
    total = np.zeros(h.size)
    if codebook.has_equal_priors:
        for squared, pairs in _distance_classes(codebook):
            half, weight = np.sqrt(squared) / 2, pairs / codebook.K
            for index, root in enumerate(h):
                total[index] += weight @ special.ndtr(-root * half)
    else:
        for weight, distance, odds in _unequal_pairs(codebook):
            for index, root in enumerate(h):
                total[index] += np.sum(weight * special.ndtr(-_threshold(root, distance, odds)))
    return Bound(
        np.minimum(total, 1.0).reshape(snr.shape),
        "upper",
        "union bound",
        "Boole's inequality on pairwise errors; Proakis and Salehi 2008, section 4.2",
        quantity="error_probability",
    )


def _threshold(h: float, distance: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """h d/2 + odds/(h d), with its limits where h d = 0: the more probable token always wins."""
    reach = h * distance
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shift = np.where(odds == 0, 0.0, odds / reach)
    return reach / 2 + shift


def _distance_classes(codebook: Codebook) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Squared distances and the number of ordered pairs of different tokens at each of them."""
    if isinstance(codebook, OneHot):
        pairs = float(codebook.K) * (codebook.K - 1)
        yield np.array([2 * float(codebook.scale) ** 2]), np.array([pairs])
    elif isinstance(codebook, ProductCodebook):
        yield _grid_spectrum(codebook)
    else:
        import pandas as pd

        points = np.asarray(codebook.points)
        for start, stop, first in _blocks(codebook.K):
            squared = cdist(points[start:stop], points[first:], "sqeuclidean")
            # Every unordered pair once: columns to the right of the diagonal.
            later = np.arange(first, codebook.K) > np.arange(start, stop)[:, None]
            squared = _cut(squared[later])
            if pd.unique(squared[:SAMPLE]).size < min(SAMPLE, squared.size) / 2:
                counts = pd.Series(squared).value_counts(sort=False)
                yield counts.index.to_numpy(), 2.0 * counts.to_numpy()
            else:
                yield squared, np.full(squared.size, 2.0)


def _blocks(K: int) -> Iterator[tuple[int, int, int]]:
    """Rows start .. stop - 1 and the first column that still matters to them."""
    start = 0
    while start < K - 1:
        stop = min(K, start + max(1, BLOCK_PAIRS // (K - start)))
        yield start, stop, start
        start = stop


def _cut(squared: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(squared).view(np.int64)
    return (bits >> CUT_BITS << CUT_BITS).view(np.float64)


def _grid_spectrum(codebook: ProductCodebook) -> tuple[np.ndarray, np.ndarray]:
    """The distance classes of a grid: a convolution over the coordinates, without points."""
    squared: np.ndarray
    pairs: np.ndarray
    squared, pairs = np.zeros(1), np.ones(1)
    for column in codebook.levels:
        gaps = np.subtract.outer(column, column).ravel() ** 2
        squared = np.add.outer(squared, gaps).ravel()
        pairs = np.repeat(pairs, gaps.size)
        # Sums of equal gaps may differ in their last bits; rank by what is left after a cut.
        squared, where = np.unique(_cut(squared), return_inverse=True)
        pairs = np.bincount(where, pairs)
        if squared.size > MAX_CLASSES:
            step = -(-squared.size // MAX_CLASSES)
            starts = np.arange(0, squared.size, step)
            squared, pairs = squared[starts], np.add.reduceat(pairs, starts)
    # The pairs of a token with itself are the K at distance 0, exactly: levels are distinct.
    pairs[0] -= codebook.K
    return squared, pairs


def _unequal_pairs(codebook: Codebook) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Weights, distances and log-odds of all ordered pairs, in blocks of rows."""
    log_prior = np.asarray(codebook.log_prior)
    if isinstance(codebook, OneHot):
        # Only the prior tells pairs apart, and word counts repeat.
        log_prior, counts = np.unique(log_prior, return_counts=True)
        tokens, points = counts.astype(float), np.zeros((log_prior.size, 1))
    else:
        tokens, points = np.ones(codebook.K), np.asarray(codebook.points)
    size = log_prior.size
    rows = max(1, BLOCK_PAIRS // size)
    for start in range(0, size, rows):
        own = np.arange(start, min(size, start + rows))
        if isinstance(codebook, OneHot):
            distance = np.full((own.size, size), float(codebook.scale) * np.sqrt(2))
        else:
            distance = cdist(points[own], points)
        partners = np.tile(tokens, (own.size, 1))
        partners[np.arange(own.size), own] -= 1
        weight = (np.exp(log_prior[own]) * tokens[own])[:, None] * partners
        yield weight, distance, np.subtract.outer(log_prior[own], log_prior)
