"""Sums of the probabilities of all half-spaces: Boole's bound on the error probability.

Exact from the pairs that a codebook knows; about it, where that is enough, from some of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special
from scipy.spatial.distance import cdist

from tokenkl.codebooks.base import Codebook
from tokenkl.halfspaces.thresholds import threshold
from tokenkl.halfspaces.tokens import CELL, Tokens, pair_terms
from tokenkl.numerics.threads import share_out

#: Rows from which the union bound is guessed.
PROBES = 32


def union_sum(codebook: Codebook, h: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """sum_k pi_k sum_{j != k} Q(r_kj) at each h = sqrt(snr), or some of it that is 1 or more."""
    total = np.zeros(h.size)
    for weight, distance, odds in codebook.pairs():
        below = np.flatnonzero(total < 1)  # of many tokens that is soon over where noise is large
        if not below.size:
            break

        def add(
            levels: slice,
            weight: Any = weight,
            distance: Any = distance,
            odds: Any = odds,
            below: Any = below,
        ) -> None:
            for index in below[levels]:
                if odds is None:
                    total[index] += weight @ special.ndtr(-h[index] * distance / 2)
                else:
                    beaten = special.ndtr(-threshold(h[index] * distance, odds))
                    total[index] += np.sum(weight * beaten)

        share_out(add, below.size, 1)
    return total


def union_guess(
    tokens: Tokens, h: Float[np.ndarray, " s"], power: int = 0
) -> Float[np.ndarray, " s"]:
    """About the union bound, from the pairs of a few rows and the nearest pairs inside cells.

    Each pair's term is multiplied by its squared distance to this `power`.
    """
    K = tokens.ids.size
    rows = np.unique(np.linspace(0, K - 1, PROBES).astype(int))
    squared = cdist(tokens.points[rows], tokens.points, "sqeuclidean")
    row, column = np.nonzero(tokens.labels[rows, None] != tokens.labels)
    guess = np.zeros(h.size)
    for index, root in enumerate(h):
        terms = pair_terms(tokens, root, rows[row], column, squared[row, column])
        guess[index] = terms @ squared[row, column] ** power * K / rows.size
    return np.maximum(guess, nearest_terms(tokens, h, power))


def nearest_terms(
    tokens: Tokens, h: Float[np.ndarray, " s"], power: int = 0
) -> Float[np.ndarray, " s"]:
    """A lower bound on the union bound: of every token the nearest pair within its cell.

    Each pair's term is multiplied by its squared distance to this `power`.
    """
    pairs = nearest_pairs(tokens)
    size = pairs[2] ** power
    return np.array([(pair_terms(tokens, root, *pairs) * size).sum() for root in h])


def nearest_pairs(tokens: Tokens) -> tuple[Any, Any, Float[np.ndarray, " k"]]:
    """Tokens with a rival in their cell, the nearest one, and the squared distance to it."""
    K = tokens.ids.size
    near = np.zeros(K, dtype=int)
    squared = np.zeros(K)
    for start in range(0, K, CELL):
        cell = slice(start, start + CELL)
        block = cdist(tokens.points[cell], tokens.points[cell], "sqeuclidean")
        block[tokens.labels[cell, None] == tokens.labels[cell]] = np.inf
        near[cell] = start + block.argmin(axis=1)
        squared[cell] = block.min(axis=1)
    with_rival = np.flatnonzero(squared < np.inf)
    return with_rival, near[with_rival], squared[with_rival]
