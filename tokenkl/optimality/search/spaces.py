"""Where codebooks are looked for: each constraint of `certify_local`, at a size of its own.

A space maps free numbers x to codebooks that satisfy the constraint, and gradients back, so that
any smooth optimiser can be used:

- "box": [-1, 1]^n, x = e, with bounds on x;
- "ball": |e_k| <= 1, e_k = 2 x_k / (1 + |x_k|^2), which covers the ball twice and has its edge at
  |x_k| = 1, where it turns back;
- "power": mean over k of |e_k - mean|^2 equal to n, 1 a coordinate; x is scaled and centred;
- "variance": each coordinate of variance 1; likewise.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_choice
from tokenkl.optimality.constraints import CONSTRAINTS


@dataclasses.dataclass(frozen=True)
class Space:
    """All codebooks of K tokens in n dimensions under one constraint."""

    K: int
    n: int
    constraint: str

    def __post_init__(self) -> None:
        check_choice(self.constraint, CONSTRAINTS, "constraint")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Of every free number."""
        return (-1.0, 1.0) if self.constraint == "box" else None

    def free(self, points: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "K n"]:
        """Free numbers of a codebook near these points."""
        points = self.inside(points)
        if self.constraint == "ball":
            norms = np.sqrt(np.square(points).sum(axis=1, keepdims=True))
            return np.asarray(points / (1 + np.sqrt(np.maximum(0.0, 1 - norms**2))))
        return points

    def points(self, x: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "K n"]:
        """The codebook of free numbers."""
        if self.constraint == "box":
            return x
        if self.constraint == "ball":
            return np.asarray(2 * x / (1 + np.square(x).sum(axis=1, keepdims=True)))
        away = x - x.mean(axis=0)
        return np.asarray(away / self._size(away))

    def pull_back(
        self, x: Float[np.ndarray, "K n"], slope: Float[np.ndarray, "K n"]
    ) -> Float[np.ndarray, "K n"]:
        """The gradient in the free numbers of a function with this gradient in the points."""
        if self.constraint == "box":
            return slope
        if self.constraint == "ball":
            over = 1 + np.square(x).sum(axis=1, keepdims=True)
            inner = (slope * x).sum(axis=1, keepdims=True)
            return np.asarray(2 / over * slope - 4 * inner / over**2 * x)
        away = x - x.mean(axis=0)
        size = self._size(away)
        axes = None if self.constraint == "power" else 0
        inner = (slope * away).sum(axis=axes, keepdims=True)
        squares = np.square(away).sum(axis=axes, keepdims=True)
        pulled = (slope - inner / squares * away) / size
        return np.asarray(pulled - pulled.mean(axis=0))

    def inside(self, points: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "K n"]:
        """Points near these that satisfy the constraint; at fixed power, scaled to have it."""
        if self.constraint == "box":
            return np.clip(points, -1.0, 1.0)
        if self.constraint == "ball":
            norms = np.sqrt(np.square(points).sum(axis=1, keepdims=True))
            return np.asarray(points / np.maximum(1.0, norms * (1 + 2**-52)))
        away = points - points.mean(axis=0)
        return np.asarray(away / self._size(away))

    def _size(self, away: np.ndarray) -> np.ndarray:
        """What centred points are divided by."""
        variances = np.square(away).mean(axis=0)
        if self.constraint == "power":
            return np.asarray(np.sqrt(variances.mean()))
        return np.sqrt(variances)
