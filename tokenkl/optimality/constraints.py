"""Constraints on the tokens, as a codebook meets them: their normals, and the way back inside.

Each is tight by itself: the box, the ball, the power are those of the codebook that is looked at.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

#: What may be held fixed.
CONSTRAINTS = ("box", "ball", "power", "variance")
#: A token counts as on a sphere up to this part of its radius.
ON_SPHERE = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Constraint:
    """Normals of one constraint at a codebook.

    - `low`, `high`: (K, n) whether a coordinate is at the lower or upper face of the box.
    - `rows`: (m, K n) sparse; a motion v is feasible in first order if rows @ v <= 0.
    - `isometries`: (i, K n) sparse; motions of all tokens together that change neither distances
      nor the constraint. Others are looked at across them.
    """

    name: str
    points: Float[np.ndarray, "K n"]
    low: Bool[np.ndarray, "K n"]
    high: Bool[np.ndarray, "K n"]
    rows: Any
    isometries: Any

    def curvature(self, motion: Float[np.ndarray, "K n"]) -> Float[np.ndarray, " m"]:
        """q(v): e + v satisfies the constraint if rows @ v + q(v) <= 0."""
        if self.name == "box":
            return np.zeros(0)
        if self.name == "ball":
            return np.asarray(np.square(motion[_on_sphere(self.points)]).sum(axis=1) / 2)
        squares = np.square(motion - motion.mean(axis=0)).sum(axis=0) / 2
        return np.asarray(squares.sum(keepdims=True) if self.name == "power" else squares)

    def inside(self, points: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "K n"]:
        """Points near the codebook's, moved so that they satisfy the constraint."""
        if self.name == "box":
            return np.clip(points, self.points.min(axis=0), self.points.max(axis=0))
        if self.name == "ball":
            largest = np.sqrt(np.square(self.points).sum(axis=1).max())
            norms = np.sqrt(np.square(points).sum(axis=1, keepdims=True))
            return np.asarray(points * np.minimum(1, largest / np.maximum(norms, largest / 2)))
        axes = None if self.name == "power" else 0
        away = points - points.mean(axis=0)
        before = np.square(self.points - self.points.mean(axis=0)).sum(axis=axes)
        after = np.square(away).sum(axis=axes)
        shrink = np.sqrt(before / np.where(after > before, after, np.maximum(before, 1e-300)))
        return np.asarray(points.mean(axis=0) + away * np.where(after > before, shrink, 1.0))


def constraint_at(points: Float[np.ndarray, "K n"], name: str) -> Constraint:
    """The constraint of this name that is tight at these points."""
    from scipy import sparse  # slow to import

    K, n = points.shape
    none = np.zeros((K, n), dtype=bool)
    low, high, rows, isometries = none, none, sparse.csr_array((0, K * n)), []
    away = points - points.mean(axis=0)
    if name == "box":
        low, high = points == points.min(axis=0), points == points.max(axis=0)
    elif name == "ball":
        on = _on_sphere(points)
        columns = (on[:, None] * n + np.arange(n)).ravel()
        places = np.repeat(np.arange(on.size), n)
        rows = sparse.csr_array((points[on].ravel(), (places, columns)), shape=(on.size, K * n))
    elif name == "power":
        rows = sparse.csr_array(away.reshape(1, -1))
    else:
        parts = [np.where(np.arange(n) == c, away, 0.0).ravel() for c in range(n)]
        rows = sparse.csr_array(np.array(parts))
    if name in ("power", "variance"):
        isometries += [np.tile(np.eye(n)[c], K) for c in range(n)]
    if name in ("ball", "power"):
        for a in range(n):
            for b in range(a):
                turned = np.zeros((K, n))
                turned[:, a], turned[:, b] = points[:, b], -points[:, a]
                isometries.append(turned.ravel())
    fixed = sparse.csr_array(np.array(isometries).reshape(-1, K * n))
    return Constraint(name, points, low, high, rows, fixed)


def _on_sphere(points: np.ndarray) -> np.ndarray:
    squares = np.square(points).sum(axis=1)
    return np.flatnonzero(squares >= squares.max() * (1 - ON_SPHERE))
