"""Newton's method for cross-entropies of affine logits, with a statement of what is left."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float

#: Steps at most; a smooth convex problem from a good start takes less than ten.
MOST_STEPS = 60


class Problem(Protocol):
    """A convex function of theta (tokens x columns): E KL(p || q_theta)."""

    def evaluate(self, theta: Float[np.ndarray, "k c"]) -> tuple[float, Float[np.ndarray, "k c"]]:
        """Value and gradient."""

    def direction(
        self,
        theta: Float[np.ndarray, "k c"],
        gradient: Float[np.ndarray, "k c"],
        free: Bool[np.ndarray, " c"],
    ) -> Float[np.ndarray, "k c"]:
        """Hessian^-1 gradient in the free columns, 0 in the others."""


class Minimum(NamedTuple):
    """`value` at `theta`; the minimum is lower by at most about `gap`."""

    theta: Float[np.ndarray, "k c"]
    value: float
    gap: float


def minimise(
    problem: Problem,
    theta: Float[np.ndarray, "k c"],
    free: Bool[np.ndarray, " c"],
    rtol: float,
    atol: float = 0.0,
) -> Minimum:
    """Damped Newton steps until the decrement is within the tolerance of the value.

    The gap is the squared Newton decrement, twice what the quadratic model leaves: near the minimum
    the Hessian is the same within a factor of two (it changes by exp(2 s) where logits move by s).
    No divergence is below 0, so that it is at most the value.
    """
    value, gradient = problem.evaluate(theta)
    for _ in range(MOST_STEPS):
        step = problem.direction(theta, gradient, free)
        gap = float((step * gradient)[:, free].sum())
        if not np.isfinite(gap):  # a Hessian below all numbers: the value is what is known
            gap = value
            break
        if not free.any() or gap <= rtol * value + atol:
            break
        size = 1.0
        while size > 1e-6:
            moved = theta - size * step
            lower, there = problem.evaluate(moved)
            if lower <= value - 0.1 * size * gap or gap < 1e-13:
                break
            size /= 2
        else:
            break
        if lower > value:  # rounding is all that is left
            break
        theta, value, gradient = moved, lower, there
    return Minimum(theta, value, min(max(gap, 0.0), max(value, 0.0)))


class Frozen(NamedTuple):
    """A problem whose Hessian is taken from a coarser one."""

    of: Problem
    hessian: Float[np.ndarray, "k c k c"]

    def evaluate(self, theta: Float[np.ndarray, "k c"]) -> tuple[float, Float[np.ndarray, "k c"]]:
        return self.of.evaluate(theta)

    def direction(
        self,
        theta: Float[np.ndarray, "k c"],
        gradient: Float[np.ndarray, "k c"],
        free: Bool[np.ndarray, " c"],
    ) -> Float[np.ndarray, "k c"]:
        return solve(self.hessian, gradient, free)


def solve(
    hessian: Float[np.ndarray, "k c k c"],
    gradient: Float[np.ndarray, "k c"],
    free: Bool[np.ndarray, " c"],
) -> Float[np.ndarray, "k c"]:
    """Hessian^-1 gradient in the free columns; what all logits share moves nothing and stays."""
    tokens, found = len(gradient), np.zeros_like(gradient)
    if not free.any() or tokens == 1:
        return found
    inner = hessian[:, free][:, :, :, free]
    width = inner.shape[1]
    scale = np.sqrt(np.maximum(np.einsum("kckc->kc", inner), 1e-300))
    matrix = (inner / scale[:, :, None, None] / scale).reshape(tokens * width, -1)
    for column in range(width):  # the shared directions, in scaled coordinates
        shared = np.zeros((tokens, width))
        shared[:, column] = scale[:, column] / np.linalg.norm(scale[:, column])
        matrix += np.outer(shared.ravel(), shared.ravel())
    right = (gradient[:, free] / scale).ravel()
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 0
    solved = vectors[:, kept] @ ((vectors[:, kept].T @ right) / values[kept])
    found[:, free] = solved.reshape(tokens, width) / scale
    return found
