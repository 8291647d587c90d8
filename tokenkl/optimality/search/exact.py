"""Distances of points with rational coordinates, in whole numbers, rounded down.

A point is a row of whole numbers over one common denominator. Squared distances are whole numbers
then, and a sum of their roots has a lower bound that is a fraction, by roots of whole numbers.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float, Int

#: Denominator of coordinates that are not recognised as fractions.
DENOMINATOR = 2**44
#: Largest denominator of a recognised coordinate, and how far from it floats may be.
SMALL, CLOSE = 120, 1e-9
#: Bits after the point of square roots.
BITS = 80
#: Decimals of certified values.
DECIMALS = 12
#: Numbers in one block of squared distances.
BLOCK = 2**22
#: Numbers of squared distances that are computed one by one as Python's whole numbers.
MAX_SLOW = 2_000_000


def to_whole(points: Float[np.ndarray, "K n"]) -> tuple[Int[np.ndarray, "K n"], int]:
    """Whole numbers over a common one near these points, inside the box where they are.

    Coordinates near fractions with small denominators become these, if all are; otherwise they are
    rounded to the nearest multiple of 2^-44.
    """
    near = {
        float(x): Fraction(float(x)).limit_denominator(SMALL) for x in np.unique(points).tolist()
    }
    over = math.lcm(*(one.denominator for one in near.values()))
    if over <= 2**20 and all(abs(float(one) - x) <= CLOSE for x, one in near.items()):
        rows = [[int(near[x] * over) for x in row] for row in points.tolist()]
        return np.array(rows, dtype=np.int64), over
    return np.rint(points * DENOMINATOR).astype(np.int64), DENOMINATOR


def nearest_squares(whole: Int[np.ndarray, "K n"]) -> list[int]:
    """Squared distance of every point to the nearest other: exact."""
    K, n = whole.shape
    span = int(whole.max()) - int(whole.min())
    if n * span**2 < 2**62:
        best = np.empty(K, dtype=np.int64)
        for start in range(0, K, rows := max(1, BLOCK // K)):
            part = whole[start : start + rows]
            squares = np.zeros((len(part), K), dtype=np.int64)
            for c in range(n):
                squares += np.square(part[:, c, None] - whole[:, c])
            squares[np.arange(len(part)), start + np.arange(len(part))] = np.iinfo(np.int64).max
            best[start : start + rows] = squares.min(axis=1)
        return [int(x) for x in best]
    exact = whole.astype(object)
    found: list[Any] = []
    for k in range(K):
        squares = np.square(exact - exact[k]).sum(axis=1)
        squares[k] = squares.max() + 1
        found.append(int(squares.min()))
    return found


def below(whole: Int[np.ndarray, "K n"], over: int, objective: str) -> Fraction:
    """A fraction at most D ("mean_distance") or the smallest distance, and next to it."""
    squares = nearest_squares(whole)
    scale = over << BITS
    if objective == "min_distance":
        return Fraction(math.isqrt(min(squares) << 2 * BITS), scale)
    return Fraction(sum(math.isqrt(one << 2 * BITS) for one in squares), scale * len(squares))


def decimals_down(value: Fraction, decimals: int = DECIMALS) -> str:
    """The value as a decimal number, rounded down."""
    whole = value.numerator * 10**decimals // value.denominator
    return f"{whole // 10**decimals}.{whole % 10**decimals:0{decimals}d}"
