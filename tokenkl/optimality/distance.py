"""How far apart the tokens sit: nearest-neighbour distances, their mean and their minimum."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from tokenkl._validation import MAX_ELEMENTS, reject
from tokenkl.codebooks.base import Codebook
from tokenkl.codebooks.onehot import OneHot
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.codebooks.transforms import smallest_distance
from tokenkl.numerics.neighbours import level_gaps, nearest_distances


def nn_distances(cb: Codebook) -> Float[np.ndarray, " K"]:
    """min_{j != k} |e_k - e_j| for every token k, in the order of the ids.

    Exact to rounding at any K that fits in memory: closed forms for grids and one-hot codebooks,
    otherwise a k-d tree in low dimension and error-bounded matrix products, refined by
    differences, in high dimension. Tokens that coincide are at distance 0. A grid's token is as
    far from its neighbour as the closest two levels at it, over the coordinates.

    Raises:
        ValueError: K = 1, or more tokens than the library materialises (2**26; K n for points).
    """
    _check_pair(cb)
    if isinstance(cb, ProductCodebook):
        cb._check_size(cb.K, MAX_ELEMENTS, "nn_distances")
        nearest = np.full(1, np.inf)
        for column in cb.levels:
            gaps = level_gaps(column)
            if cb.order == "C":
                nearest = np.minimum(nearest[:, None], gaps).ravel()
            else:
                nearest = np.minimum(gaps[:, None], nearest).ravel()
        return nearest
    if isinstance(cb, OneHot):
        cb._check_size(cb.K, MAX_ELEMENTS, "nn_distances")
        return np.full(cb.K, smallest_distance(cb))
    return nearest_distances(np.asarray(cb.points))


def mean_nn_distance(cb: Codebook) -> float:
    """D = (1/K) sum_k min_{j != k} |e_k - e_j|, the mean nearest-neighbour distance.

    Every token counts equally, whatever the prior. On a grid, a token's distance is the minimum
    of independent gaps, one for each coordinate, so that D is the integral of
    prod_i (share of coordinate i's levels with gap at least d) over d: no K appears, and 10^40
    tokens cost as much as their levels. (Definition: arXiv 2606.09962; THEORY, statement 17.)

    Raises:
        ValueError: K = 1, or points too many to materialise.
    """
    _check_pair(cb)
    if isinstance(cb, ProductCodebook):
        return _mean_smallest_gap(cb)
    if isinstance(cb, OneHot):
        return smallest_distance(cb)
    distances = nn_distances(cb)
    return math.fsum(distances) / distances.size


def min_distance(cb: Codebook) -> float:
    """min_{j != k} |e_k - e_j|, the smallest distance between two tokens; 0 if two coincide.

    Closed forms for grids (the smallest gap between two levels) and one-hot codebooks
    (scale sqrt(2)), at any K.

    Raises:
        ValueError: K = 1, or points too many to materialise.
    """
    return smallest_distance(cb)


def _check_pair(cb: Codebook) -> None:
    if cb.K < 2:
        reject("K", cb.K, "at least 2 for a nearest neighbour to exist")


def _mean_smallest_gap(cb: ProductCodebook) -> float:
    """Mean over the grid of the minimum over coordinates of the gap at the token's level."""
    # Walk up the sorted gaps. Passing one of a coordinate's c remaining levels multiplies the
    # share of tokens further out by (c - 1)/c; its logarithm is summed in extended precision.
    gaps, steps = [], []
    for column in cb.levels:
        if column.shape[0] > 1:
            ascending = np.sort(level_gaps(column))
            gaps.append(ascending)
            left = np.arange(ascending.size, 1, -1, dtype=np.longdouble)
            steps.append(np.append(np.log1p(-1 / left), -np.inf))
    all_gaps = np.concatenate(gaps)
    order = np.argsort(all_gaps, kind="stable")
    ascending = all_gaps[order]
    shares = np.exp(np.cumsum(np.concatenate(steps)[order]))[:-1].astype(float)
    return float(ascending[0] + math.fsum(np.diff(ascending) * shares))
