"""How far apart the tokens sit: nearest-neighbour distances, their mean and their minimum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tokenkl._validation import reject
from tokenkl.codebooks.base import Codebook


def nn_distances(codebook: Codebook) -> Float[np.ndarray, " K"]:
    """min_{j != k} |e_k - e_j| for every token k, in the order of the ids.

    Exact to rounding at any K that fits in memory: closed forms for grids and one-hot codebooks,
    otherwise a k-d tree in low dimension and error-bounded matrix products, refined by
    differences, in high dimension. Tokens that coincide are at distance 0. A grid's token is as
    far from its neighbour as the closest two levels at it, over the coordinates.

    Raises:
        ValueError: K = 1, or more tokens than the library materialises (2**26; K n for points).
    """
    _check_pair(codebook)
    return codebook.nn_distances()


def mean_nn_distance(codebook: Codebook) -> float:
    """D = (1/K) sum_k min_{j != k} |e_k - e_j|, the mean nearest-neighbour distance.

    Every token counts equally, whatever the prior. On a grid, a token's distance is the minimum
    of independent gaps, one for each coordinate, so that D is the integral of
    prod_i (share of coordinate i's levels with gap at least d) over d: no K appears, and 10^40
    tokens cost as much as their levels. (Definition: arXiv 2606.09962; docs/theory/index.md,
    statement 17.)

    Raises:
        ValueError: K = 1, or points too many to materialise.
    """
    _check_pair(codebook)
    return codebook.mean_nn_distance()


def min_distance(codebook: Codebook) -> float:
    """min_{j != k} |e_k - e_j|, the smallest distance between two tokens; 0 if two coincide.

    Closed forms for grids (the smallest gap between two levels) and one-hot codebooks
    (scale sqrt(2)), at any K.

    Raises:
        ValueError: K = 1, or points too many to materialise.
    """
    _check_pair(codebook)
    return codebook.min_distance()


def _check_pair(codebook: Codebook) -> None:
    if codebook.K < 2:
        reject("K", codebook.K, "at least 2 for a nearest neighbour to exist")
