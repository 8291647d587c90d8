"""Moments of a stream of samples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


class Moments:
    """Mean and sums of squared and cubed deviations of a stream of blocks (Pebay 2008)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.n = 0
        self.mean = np.zeros(shape)
        self.squares = np.zeros(shape)
        self.cubes = np.zeros(shape)
        #: What arithmetic, not sampling, may add to the error of the mean.
        self.rounding = np.zeros(shape)

    def add(self, block: Float[np.ndarray, "... samples"]) -> None:
        size = block.shape[-1]
        mean = block.mean(axis=-1)
        deviation = block - mean[..., None]
        squares, cubes = (deviation**2).sum(axis=-1), (deviation**3).sum(axis=-1)
        delta = mean - self.mean
        total = self.n + size
        self.cubes += cubes + delta**3 * self.n * size * (self.n - size) / total**2
        self.cubes += 3 * delta * (self.n * squares - size * self.squares) / total
        self.squares += squares + delta**2 * self.n * size / total
        self.mean += delta * size / total
        self.n = total

    @property
    def variance(self) -> np.ndarray:
        return self.squares / max(self.n - 1, 1)

    @property
    def standard_error(self) -> np.ndarray:
        return np.sqrt(self.variance / self.n)

    @property
    def skewness(self) -> np.ndarray:
        """Third standardised moment of the mean; 0 where nothing varies."""
        floor = 1e-200  # the power 3/2 of less underflows
        return np.where(
            self.squares > floor, self.cubes / np.maximum(self.squares, floor) ** 1.5, 0
        )

    def effective(self) -> np.ndarray:
        """(sum f)^2 / sum f^2 for each statistic f: how many samples carry the sum."""
        second = self.mean**2 + self.squares / self.n
        return self.n * self.mean**2 / np.maximum(second, np.finfo(float).tiny)
