"""Which tokens are tied as nearest neighbours, and coordinates as whole numbers."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl._validation import reject
from tokenkl.numerics.neighbours import nearest_distances

#: Largest denominator that is recognised in a coordinate, and of all of them in common.
MAX_DENOMINATOR, MAX_COMMON = 1000, 2**20
#: How far a coordinate may be from the fraction that it stands for, in units of rounding.
ROUNDING = 8
#: Distances count as tied up to this part of them, where coordinates are no whole numbers.
TIED = 1e-9
#: Dimensions from which on all pairs are compared.
TREE_DIMENSIONS = 8
#: Numbers compared at once.
BLOCK = 2**24


def whole_numbers(points: Float[np.ndarray, "K n"]) -> tuple[list[list[int]], int, bool]:
    """Coordinates as whole numbers over a common one, and whether they were recognised.

    A float such as 2/7 stands for the fraction where one with a denominator up to 1000 is within
    its rounding. Where a coordinate has none, all of them are taken for exactly what they are.
    """
    values, places = np.unique(points, return_inverse=True)
    tolerance = ROUNDING * np.finfo(float).eps * max(1.0, float(np.abs(values).max()))
    near = [Fraction(float(x)).limit_denominator(MAX_DENOMINATOR) for x in values]
    over = math.lcm(*(one.denominator for one in near))
    recognised = over <= MAX_COMMON and all(
        abs(float(one) - x) <= tolerance for one, x in zip(near, values, strict=True)
    )
    if not recognised:
        near = [Fraction(float(x)) for x in values]
        over = math.lcm(*(one.denominator for one in near))
    whole = [int(one * over) for one in near]
    rows: Any = np.reshape(places, points.shape).tolist()
    return [[whole[place] for place in row] for row in rows], over, recognised


@dataclasses.dataclass(frozen=True, eq=False)
class Ties:
    """Pairs of tokens whose distance is that of an owner: a token, or for the minimum all.

    - `first`, `second`: (m,) tokens k, j of the pairs.
    - `owner`: (m,) whose distance it is; `share`: (owners,) weights of the owners in the objective.
    - `distance`: (owners,) it.
    - `value`: the objective, the sum of share * distance.
    """

    points: Float[np.ndarray, "K n"]
    first: Int[np.ndarray, " m"]
    second: Int[np.ndarray, " m"]
    owner: Int[np.ndarray, " m"]
    share: Float[np.ndarray, " owners"]
    distance: Float[np.ndarray, " owners"]

    @property
    def value(self) -> float:
        return math.fsum(self.share * self.distance)

    @property
    def units(self) -> Float[np.ndarray, "m n"]:
        """u = (e_k - e_j) / |e_k - e_j| of every pair."""
        step = self.points[self.first] - self.points[self.second]
        return np.asarray(step / self.distance[self.owner][:, None])

    def across(self, motion: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "m n"]:
        """The part of v_k - v_j that is orthogonal to u."""
        step, units = motion[self.first] - motion[self.second], self.units
        return np.asarray(step - (step * units).sum(axis=1)[:, None] * units)


def find_ties(points: Float[np.ndarray, "K n"], recognised: bool, over: int, minimum: bool) -> Ties:
    """Every token's nearest neighbours; with `minimum` the pairs of the smallest distance of all.

    Raises:
        ValueError: tokens that coincide, where a distance has no derivative.
    """
    nearest = nearest_distances(points)
    if nearest.min() == 0:
        reject("codebook", "tokens that coincide", "one whose tokens are all different")
    if minimum:
        nearest = np.full(len(points), nearest.min())
    first, second = _within(points, nearest * (1 + TIED))
    if recognised:  # exactly, by whole numbers
        whole = np.rint(points * over).astype(np.int64)
        squares = np.square(whole[first] - whole[second]).sum(axis=1)
        least = np.full(len(points), np.iinfo(np.int64).max)
        np.minimum.at(least, first, squares)
        if minimum:
            least[:] = least.min()
        tied: Bool[np.ndarray, " m"] = squares == least[first]
        first, second = first[tied], second[tied]
    if minimum:
        once = first < second
        first, second = first[once], second[once]
        return Ties(points, first, second, np.zeros_like(first), np.ones(1), nearest[:1])
    share = np.full(len(points), 1 / len(points))
    return Ties(points, first, second, first, share, nearest)


def _within(
    points: np.ndarray, radius: Float[np.ndarray, " K"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Ordered pairs of different tokens k, j with |e_k - e_j| <= radius[k]."""
    K, n = points.shape
    if n <= TREE_DIMENSIONS:
        from scipy.spatial import cKDTree

        found = cKDTree(points).query_ball_point(points, radius, return_sorted=True)
        first = np.repeat(np.arange(K), [len(row) for row in found])
        second = np.concatenate([np.asarray(row, dtype=np.int64) for row in found])
    else:
        from scipy.spatial.distance import cdist

        parts = []
        for start in range(0, K, rows := max(1, BLOCK // K)):
            near = cdist(points[start : start + rows], points) <= radius[start : start + rows, None]
            parts.append(np.argwhere(near) + np.array([start, 0]))
        first, second = np.concatenate(parts).T
    other = first != second
    return first[other], second[other]
