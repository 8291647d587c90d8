"""Moments of a stream of samples."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

#: Effective number of informative samples below which no central-limit interval is offered.
MIN_EFFECTIVE = 60
#: Fewest samples that carry the variance of a mean whose error bar is to be trusted.
MIN_CARRIERS = 40


class Sums(NamedTuple):
    """Size of a block of samples, mean, and sums of deviations to the powers 2, 3 and 4."""

    size: int
    mean: np.ndarray
    squares: np.ndarray
    cubes: np.ndarray
    fourths: np.ndarray


def sums_of(block: Float[np.ndarray, "... samples"]) -> Sums:
    """All that moments need of a block."""
    mean = block.mean(axis=-1)
    deviation = block - mean[..., None]
    power = deviation**2
    squares = power.sum(axis=-1)
    fourths = np.einsum("...s,...s->...", power, power)
    power *= deviation
    return Sums(block.shape[-1], mean, squares, power.sum(axis=-1), fourths)


class Moments:
    """Mean and sums of deviations to the powers 2, 3 and 4 of a stream of blocks (Pebay 2008).

    The first axis may have a sample count of its own in every row: `add` takes the rows that a
    block is for.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        #: Samples in every row, in a shape that broadcasts against the moments.
        self.n = np.zeros(shape[:1] + (1,) * (len(shape) - 1), dtype=np.int64)
        self.mean = np.zeros(shape)
        self.squares = np.zeros(shape)
        self.cubes = np.zeros(shape)
        self.fourths = np.zeros(shape)
        #: What arithmetic, not sampling, may add to the error of the mean.
        self.rounding = np.zeros(shape)

    def add(self, block: Float[np.ndarray, "... samples"], rows: Any = slice(None)) -> None:
        self.merge(sums_of(block), rows)

    def merge(self, block: Sums, rows: Any = slice(None)) -> None:
        """`add` of a block whose sums are known."""
        size, mean, squares, cubes, fourths = block
        before = self.n[rows]
        total = before + size
        delta = mean - self.mean[rows]
        ours, theirs = before / total, size / total  # parts of all samples
        self.fourths[rows] += (
            fourths
            + delta**4 * before * theirs * (ours**2 - ours * theirs + theirs**2)
            + 6 * delta**2 * (ours**2 * squares + theirs**2 * self.squares[rows])
            + 4 * delta * (ours * cubes - theirs * self.cubes[rows])
        )
        self.cubes[rows] += (
            cubes
            + delta**3 * before * size * (before - size) / total**2
            + 3 * delta * (before * squares - size * self.squares[rows]) / total
        )
        self.squares[rows] += squares + delta**2 * before * size / total
        self.mean[rows] += delta * size / total
        self.n[rows] = total

    @property
    def variance(self) -> np.ndarray:
        return self.squares / np.maximum(self.n - 1, 1)

    @property
    def standard_error(self) -> np.ndarray:
        return np.sqrt(self.variance / np.maximum(self.n, 1))

    @property
    def skewness(self) -> np.ndarray:
        """Third standardised moment of the mean; 0 where nothing varies."""
        floor = 1e-200  # the power 3/2 of less underflows
        return np.where(
            self.squares > floor, self.cubes / np.maximum(self.squares, floor) ** 1.5, 0
        )

    def widened(self, variance: np.ndarray) -> Moments:
        """The same, with so much more variance of the mean."""
        out = copy.copy(self)
        out.squares = self.squares + variance * self.n * np.maximum(self.n - 1, 0)
        return out

    def effective(self) -> np.ndarray:
        """(sum f)^2 / sum f^2 for each statistic f: how many samples carry the sum."""
        second = self.mean**2 + self.squares / np.maximum(self.n, 1)
        return self.n * self.mean**2 / np.maximum(second, np.finfo(float).tiny)

    def carriers(self) -> np.ndarray:
        """(sum d^2)^2 / sum d^4 of the deviations d: how many samples carry the variance."""
        fourths = np.maximum(self.fourths, np.finfo(float).tiny)
        return np.asarray(self.squares**2 / fourths)

    def carried(self, carriers: np.ndarray | None = None) -> np.ndarray:
        """Whether enough samples carry the variance, or it is nothing but rounding."""
        enough = (self.carriers() if carriers is None else carriers) >= MIN_CARRIERS
        return np.asarray(enough | (self.variance <= (1e-13 * self.mean) ** 2))
