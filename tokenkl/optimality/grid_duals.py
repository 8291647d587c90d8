"""Duals and ascents of grids in their box, in closed form (docs/theory/optimality.md, O4, O5)."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from jaxtyping import Float, Int

from tokenkl.codebooks.product import ProductCodebook
from tokenkl.optimality.ties import Ties


def finest_axes(grid: ProductCodebook, whole: list[list[int]]) -> list[int] | None:
    """Coordinates whose gaps are the smallest of all; None where one has others beside them."""
    gaps = []
    for c in range(grid.n):
        levels = sorted({row[c] for row in whole})
        gaps.append({b - a for a, b in itertools.pairwise(levels)})
    least = min((min(one) for one in gaps if one), default=0)
    finest = [c for c, one in enumerate(gaps) if least in one]
    return finest if finest and all(gaps[c] == {least} for c in finest) else None


def ranks(whole: list[list[int]]) -> Int[np.ndarray, "K n"]:
    """The place of every coordinate of every token among the levels there, from 0."""
    return np.stack(
        [np.unique(column, return_inverse=True)[1] for column in np.array(whole, dtype=object).T],
        axis=1,
    )


def balancing_weights(
    ties: Ties, place: Int[np.ndarray, "K n"], finest: list[int], minimum: bool
) -> tuple[list[int], int]:
    """Whole weights of all ties, and what those of an owner sum to.

    For the mean, a token gives the same to each of the finest axes; on one with L levels, token
    i = 0 .. L - 1 gives i / (L - 1) of it to the gap below and the rest to the gap above, which
    then all get L / (L - 1). For the minimum, all get the same.
    """
    if minimum:
        return [1] * ties.first.size, ties.first.size
    counts = [int(place[:, c].max()) for c in finest]
    common = int(np.lcm.reduce(counts))
    weights = np.zeros(ties.first.size, dtype=np.int64)
    for c, last in zip(finest, counts, strict=True):
        step = place[ties.second, c] - place[ties.first, c]
        here = place[ties.first, c]
        weights += np.where(step < 0, here, 0) * (common // last)
        weights += np.where(step > 0, last - here, 0) * (common // last)
    return [int(one) for one in weights], common * len(finest)


def staggered(place: Int[np.ndarray, "K n"], finest: list[int]) -> Float[np.ndarray, "K n"] | None:
    """Tokens of odd and of even index sum over the finest axes shifted apart along the others.

    At the ends of an axis only those of odd sum, inwards. None where all axes are finest.
    """
    others = [c for c in range(place.shape[1]) if c not in finest and place[:, c].max() > 0]
    if not others:
        return None
    odd = place[:, finest].sum(axis=1) % 2 == 1
    motion = np.zeros(place.shape)
    for c in others:
        here, last = place[:, c], int(place[:, c].max())
        inner = np.where(odd, 1.0, -1.0)
        ends = np.where(here == 0, np.where(odd, 1.0, 0.0), np.where(odd, -1.0, 0.0))
        motion[:, c] = np.where((here > 0) & (here < last), inner, ends)
    return motion


def nearby_fractions(
    weights: Float[np.ndarray, " m"], unit: float, most: int = 10_000
) -> tuple[list[int], int] | None:
    """Weights as whole numbers over a common one, where simple fractions are that close."""
    over = 1
    near = [Fraction(float(w / unit)).limit_denominator(most) for w in weights]
    for one in near:
        over = int(np.lcm(over, one.denominator)) if over < 2**40 else over
        if over >= 2**40:
            return None
    return [int(one * over) for one in near], over
