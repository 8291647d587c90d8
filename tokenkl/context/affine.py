"""Laws with affine logits at one position of a noisy sequence, and those known without a fit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl.codebooks import Codebook
from tokenkl.sources import Source

#: Which logits may be fitted: all of them; what neighbours say, beside the exact term of the
#: token's own observation; or none, those of Gaussian messages with one covariance.
Family = Literal["affine", "message", "gaussian"]
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclasses.dataclass(frozen=True, eq=False)
class Seat:
    """A position of a source, whose token is to be named, and the neighbours that logits see.

    Laws are q_k(Y) ~ exp(theta_k . (1, Y_i, Y_j for j in `seen`)), one row theta_k for each of
    `tokens`, those that can occur at the position. Points are those of the codebook, centred, in
    coordinates of their span: information and affine functions are the same there.
    """

    points: Float[np.ndarray, "K m"]
    source: Source
    position: int
    seen: tuple[int, ...]

    @staticmethod
    def of(codebook: Codebook, source: Source, position: int, window: int | None) -> Seat:
        places = range(source.length)
        reach = source.length if window is None else window
        seen = tuple(j for j in places if j != position and abs(j - position) <= reach)
        return Seat(in_their_span(codebook.points), source, position, seen)

    @functools.cached_property
    def prior(self) -> Float[np.ndarray, " tokens"]:
        law: np.ndarray = self.source.marginals()[self.position]
        return law[self.tokens]

    @functools.cached_property
    def tokens(self) -> Int[np.ndarray, " tokens"]:
        return np.flatnonzero(self.source.marginals()[self.position] > 0)

    @property
    def own(self) -> Float[np.ndarray, "tokens m"]:
        """Points of those tokens."""
        return self.points[self.tokens]

    @property
    def columns(self) -> int:
        return 1 + self.points.shape[1] * (1 + len(self.seen))

    def free(self, family: Family) -> Bool[np.ndarray, " columns"]:
        """Which columns of theta are fitted."""
        found = np.full(self.columns, family != "gaussian")
        if family == "message":
            found[1 : 1 + self.points.shape[1]] = False
        return found

    def gaussian(self, snr: float) -> Float[np.ndarray, "tokens columns"]:
        """Theta of the exact own term and of messages P(Y' | k) = N(mean_k, common covariance)."""
        means, within = self.context
        root = np.sqrt(snr)
        inverse = np.linalg.solve(np.eye(len(within)) + snr * within, means.T).T
        power = (self.own**2).sum(axis=1) + (means * inverse).sum(axis=1)
        constant = np.log(self.prior) - snr * power / 2
        return np.column_stack([constant, root * self.own, root * inverse])

    @functools.cached_property
    def context(self) -> tuple[Float[np.ndarray, "tokens seen*m"], np.ndarray]:
        """E[X' | k] and E Cov(X' | k), X' the points of the neighbours seen."""
        points, size = self.points, len(self.seen) * self.points.shape[1]
        given = [self._pair(self.position, j)[self.tokens] for j in self.seen]
        means = np.zeros((len(self.tokens), size))
        if given:
            means = np.concatenate([law @ points for law in given], axis=1) / self.prior[:, None]
        second = np.empty((len(self.seen),) * 2, dtype=object)
        for a, first in enumerate(self.seen):
            for b, other in enumerate(self.seen):
                second[a, b] = points.T @ self._pair(first, other) @ points
        within = np.block(second.tolist()) if size else np.zeros((0, 0))
        return means, within - (self.prior[:, None] * means).T @ means

    def _pair(self, first: int, second: int) -> Float[np.ndarray, "K K"]:
        if first == second:
            return np.diag(self.source.marginals()[first])
        if first > second:
            return self.source.pair(second, first).T
        return self.source.pair(first, second)


def in_their_span(points: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "K m"]:
    """Centred points in orthonormal coordinates of their affine hull; distances are as before."""
    if not np.ptp(points, axis=0).any():  # the mean of equal numbers need not be equal to them
        return np.zeros((len(points), 0))
    centred = points - points.mean(axis=0)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    kept = sizes > 1e-12 * sizes.max(initial=0.0)
    if kept.sum() == points.shape[1]:
        return centred
    found: np.ndarray = centred @ axes[kept].T
    return found


def log_likelihood(
    points: Float[np.ndarray, "K m"], snr: float, seen: Float[np.ndarray, "*batch m"]
) -> Float[np.ndarray, "*batch K"]:
    """log N(Y; sqrt(snr) e_k, I) of every token."""
    means = np.sqrt(snr) * points
    gaps = seen[..., None, :] - means if means.size <= 64 else None
    if gaps is not None:
        squares = (gaps**2).sum(axis=-1)
    else:
        squares = (seen**2).sum(axis=-1)[..., None] - 2 * seen @ means.T + (means**2).sum(axis=1)
    found: np.ndarray = -(squares + points.shape[1] * np.log(2 * np.pi)) / 2
    return found


def stretched(
    theta: Float[np.ndarray, "tokens columns"], by: Sequence[float]
) -> Float[np.ndarray, "tokens columns"]:
    """A start at another SNR: slopes grow with its root."""
    found = theta.copy()
    found[:, 1:] *= np.sqrt(by[1] / by[0])
    return found
