"""Least E KL(p || q) over affine laws q at a position, on grids refined until they agree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tokenkl._validation import reject
from tokenkl.context.affine import Family, Seat
from tokenkl.context.grids import PairGrid, TooLargeError
from tokenkl.context.newton import Frozen, minimise

#: Most coordinates of a sequence whose observations are integrated over.
MOST_DIMENSIONS = 6
#: Pairs of nodes of the finest grid, and of one whose Hessian is worth its cost.
MOST_PAIRS, WITH_HESSIAN = 2**25, 2**19
#: Every grid has about so many times the pairs of the one before.
REFINED = 4.0


class Least(NamedTuple):
    """The least value and the law that has it: all three are of one position and SNR."""

    value: float
    error: float
    theta: Float[np.ndarray, "tokens columns"]


def least(
    seat: Seat,
    snr: float,
    family: Family,
    start: Float[np.ndarray, "tokens columns"],
    rtol: float,
    atol: float = 0.0,
) -> Least:
    """By Newton's method on a coarse grid, corrected on finer ones.

    At the minimum the value is flat: a law found on a coarse grid is good to the square of its
    error on a fine one, so that few evaluations are needed there, with the coarse Hessian.

    The error of a grid falls faster than geometrically as grids are refined. What is reported is
    the last change, times the ratio of the last two (but a tenth at least), and a hundredth of the
    change before at least; with what Newton's method left, and what is beyond the grid.

    Raises:
        ValueError: an SNR at which even a coarse grid is too large.
    """
    if len(seat.tokens) == 1:
        return Least(0.0, 0.0, start)
    dimensions = seat.points.shape[1] * seat.source.length
    free, theta = seat.free(family), start
    step = 1.0 if dimensions < 5 else 1.5
    values: list[float] = []
    hessian = None
    while True:
        try:
            grid = PairGrid(seat, snr, step)
            pairs = grid.pairs
        except TooLargeError:
            pairs = MOST_PAIRS + 1
        if pairs > MOST_PAIRS:
            if values:
                break
            expected = "lower, for grids that can be summed over, or method=tk.MonteCarlo(...)"
            reject("snr", snr, expected)
        if hessian is None:
            coarse = minimise(grid, theta, free, 1e-6, atol)
            hessian, theta = grid.hessian(coarse.theta, coarse.value), coarse.theta
        elif pairs <= WITH_HESSIAN:
            hessian = grid.hessian(theta, values[-1])
        found = minimise(Frozen(grid, hessian), theta, free, rtol / 10, atol / 10)
        theta = found.theta
        values.append(found.value)
        rounding = 4e-15 + 1e-14 * np.sqrt(abs(found.value))
        change = _change(values)
        beyond = grid.tail * grid.worst + rounding + found.gap  # what no finer grid would mend
        if change <= max(rtol * found.value + atol, beyond):
            break
        step *= REFINED ** (-1 / dimensions)
    return Least(values[-1], change + beyond, theta)


def _change(values: list[float]) -> float:
    if len(values) < 3:
        return abs(values[-1] - values[0]) if len(values) == 2 else np.inf
    last, before = abs(values[-1] - values[-2]), abs(values[-2] - values[-3])
    ratio = min(1.0, last / before) if before else 1.0
    return max(last * max(ratio, 0.1), 0.01 * before)
