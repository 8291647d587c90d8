"""Codebooks learned from data, spherical embeddings, and priors from token counts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._random import generator
from tokenkl._validation import (
    as_float_array,
    check_count,
    check_ids,
    check_points,
    check_positive,
    first_duplicate,
    reject,
)
from tokenkl.codebooks.base import PointCodebook


def vq_codebook(
    data: Float[Any, "N n"],
    K: int,
    *,
    key: Any,
    n_init: int = 1,
    max_iter: int = 100,
    with_frequencies: bool = False,
) -> PointCodebook:
    """K tokens at the k-means centres of the data (vector quantization).

    Lloyd's algorithm from a k-means++ start (Arthur and Vassilvitskii 2007), by scikit-learn on
    one thread: with several, the order of summation and so the last bits would change.

    Args:
        data: (N, n) vectors, with at least K distinct rows.
        K: number of tokens.
        key: whole number or JAX random key; the same key gives the same codebook.
        n_init: number of starts, of which the one with the least squared error is kept.
        max_iter: most iterations of one start.
        with_frequencies: take the smoothed cluster frequencies as the prior
            (`prior_from_tokens` with smoothing 1/2) instead of equal priors.

    Raises:
        ValueError: data of the wrong shape or not finite, fewer than K distinct rows, or K,
            n_init or max_iter below 1.
    """
    data = check_points(data, allow_duplicates=True, name="data")
    K = check_count(K, "K")
    n_init, max_iter = check_count(n_init, "n_init"), check_count(max_iter, "max_iter")
    distinct = np.unique(data, axis=0).shape[0] if data.shape[0] >= K else data.shape[0]
    if distinct < K:
        reject("data", f"{distinct} distinct rows", f"an array with at least K = {K} distinct rows")
    seed = int(generator(key).integers(2**32))

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            fit = KMeans(K, n_init=n_init, max_iter=max_iter, random_state=seed).fit(data)
        except ConvergenceWarning:
            # Rows may be distinct and yet too close for k-means to tell apart.
            raise ValueError(
                f"data must hold at least K = {K} rows that k-means can tell apart; some of its "
                "distinct rows are equal to rounding."
            ) from None
    prior = prior_from_tokens(fit.labels_, K) if with_frequencies else None
    return PointCodebook(fit.cluster_centers_, prior, name=f"k-means {K}")


def spherical_codebook(
    vectors: Float[Any, "K n"],
    prior: Float[Any, " K"] | None = None,
    *,
    radius: float = 1.0,
    keep_zero: bool = False,
) -> PointCodebook:
    """Tokens at radius * vectors / |vectors|, on a sphere, as learned embeddings often are.

    Args:
        vectors: (K, n) vectors in distinct directions.
        prior: (K,) probabilities; equal when None.
        radius: of the sphere; sqrt(n) makes the mean square of the coordinates 1.
        keep_zero: a vector that is 0, as of padding, stays at 0; without it there must be none.

    Raises:
        ValueError: wrong shape, a number that is not finite, a zero row, two rows in one
            direction, a radius that is not positive, or an invalid prior.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> rows = [[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]]
        >>> tk.spherical_codebook(rows, radius=np.sqrt(2), keep_zero=True).points.round(3).tolist()
        [[0.849, 1.131], [0.0, 0.0], [0.0, -1.414]]
    """
    vectors = check_points(vectors, allow_duplicates=True, name="vectors")
    radius = check_positive(radius, "radius")
    is_some = vectors.any(axis=1)
    if not (keep_zero or is_some.all()):
        row, expected = int(np.argmin(is_some)), "nonzero, row by row, to have a direction"
        reject("vectors", f"row {row} that is 0", f"{expected}, or keep_zero=True")
    unit = directions(vectors)
    if pair := first_duplicate(unit):
        got = f"rows {pair[0]} and {pair[1]} that are equal in direction"
        reject("vectors", got, "in distinct directions")
    return PointCodebook(radius * unit, prior, name="spherical")


def prior_from_tokens(
    ids: Int[Any, " N"], K: int, smoothing: float = 0.5
) -> Float[np.ndarray, " K"]:
    """Token frequencies with additive smoothing: (count + smoothing) / (N + K smoothing).

    The Lidstone estimator; 1/2 is Jeffreys' prior, which Krichevsky and Trofimov (1981) proved to
    be minimax optimal for coding. It gives every token a positive probability, as a prior needs.

    Args:
        ids: token ids in 0 .. K - 1, any shape.
        K: number of tokens.
        smoothing: at least 0; 0 only if every token occurs.

    Raises:
        ValueError: an id out of range, a negative smoothing, or smoothing 0 with a missing token.
    """
    K = check_count(K, "K")
    smoothing = as_float_array("smoothing", smoothing, ndim=0)
    if smoothing < 0:
        reject("smoothing", float(smoothing), "at least 0")
    counts = np.bincount(check_ids(ids, K).ravel(), minlength=K)
    if smoothing == 0 and not counts.all():
        missing = int(np.argmin(counts > 0))
        reject(
            "smoothing",
            f"0, and token {missing} never occurs",
            "above 0 unless every token occurs",
        )
    return (counts + smoothing) / (counts.sum() + K * smoothing)


def directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors along the last axis divided by their lengths; those that are 0 stay at 0."""
    with np.errstate(invalid="ignore"):  # of what is no number, which is refused elsewhere
        largest = np.abs(vectors).max(axis=-1, keepdims=True)
        vectors = vectors / np.where(largest > 0, largest, 1.0)  # no square over- or underflows
        length = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.asarray(vectors / np.where(length > 0, length, 1.0))
