"""Which token sits at which point, so that coordinates read what neighbours are told by tokens.

The score of a placement is the part of weighted features that affine functions of the points
explain, tr(B' G^-1 B) with B = sum_k w_k e_k W_k' and G = Cov(e): readability without noise.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from tokenkl._progress import Report
from tokenkl._random import generator
from tokenkl.numerics.reproducible import level, signs

#: Rows of products of features that are made at a time.
ROWS = 256
#: Tokens that occur up to which an assignment is the best one (10 s for so many), not by halves.
MOST_ASSIGNED = 2000
#: Assignments after which a start is handed to exchanges.
MOST_ASSIGNMENTS = 12
#: Least growth of the score, relative to the whole, that counts.
LEAST_GROWTH = 1e-10
#: Sweeps of exchanges through all tokens, at most; tokens up to which they go on to the last bit.
MOST_SWEEPS, MOST_EXHAUSTED = 200, 1000
#: Of more tokens, those are moved that hold this much of what is told: few do, and the rest are
#: only moved out of their way.
HELD = 0.999
#: Added to the covariance of the points, relative to its mean eigenvalue.
RIDGE = 1e-9


def place(
    points: Float[np.ndarray, "P n"],
    features: Float[np.ndarray, "K R"],
    law: Float[np.ndarray, " K"],
    *,
    starts: int,
    key: Any,
    given: Int[np.ndarray, " K"] | None = None,
    progress: Report | None = None,
) -> Int[np.ndarray, " K"]:
    """The point of every token, P >= K; but for rounding never worse than the given placement.

    From random rotations of the leading features, and from the given placement: assignments to
    the gradient of the score, as long as it grows, then exchanges of two tokens, or of a token and
    a free point, until none helps. Of thousands of tokens, the given placement is not improved.

    What is equal but for the last digits counts as equal, so that another machine finds the same
    labels, but for rare ties within 1e-8 of each other and laws with directions of equal strength.
    Features of few tokens, thirty for each that is placed, are no such law: of 36 placements that
    rounding moved by 1e-13 a third had other labels.
    """
    rng = generator(key)
    search = _Search(points, features, law)
    best, most = None, -np.inf
    for start in range(starts + (given is not None)):
        if start < starts or given is None:
            search.begin(rng, unmixed=start % 2 == 0)
        else:
            search.settle(given)
        if start < starts or len(features) <= MOST_ASSIGNED:
            search.exchange(rng, functools.partial(_report, progress, start, starts))
        # Starts that end in the same labels up to a symmetry of the points are level.
        if best is None or search.score > most + LEAST_GROWTH * search.total:
            best, most = search.slots[: len(features)].copy(), search.score
    assert best is not None
    return best


def score_of(
    points: Float[np.ndarray, "K n"],
    features: Float[np.ndarray, "K R"],
    law: Float[np.ndarray, " K"],
) -> float:
    """Variance of the features, weighted by the law, that affine functions of points explain."""
    search = _Search(points, features, law)
    search.settle(np.arange(len(points)))
    return search.score


def _report(progress: Report | None, start: int, starts: int, done: float) -> None:
    if progress is not None:
        progress(start + done, starts + 1)


class _Search:
    """A placement of tokens, padded by some that never occur, and the sums that its score needs."""

    def __init__(self, points: np.ndarray, features: np.ndarray, law: np.ndarray) -> None:
        free = len(points) - len(features)
        self.points = points - points.mean(axis=0)
        self.law = np.append(law, np.zeros(free))
        self.weighted = np.concatenate(
            [law[:, None] * features, np.zeros((free, features.shape[1]))]
        )
        self.norms = (self.weighted**2).sum(axis=1)
        self.total = float((law[:, None] * features**2).sum())
        # Directions of the largest variance of the features, and the tokens in these.
        values, vectors = np.linalg.eigh(features.T @ (law[:, None] * features))
        vectors = vectors * signs(features @ vectors)
        count = min(points.shape[1], max(1, int((values > 1e-12 * values[-1]).sum())))
        scales = np.sqrt(np.maximum(values[-count:], np.finfo(float).tiny))  # all may be 0
        self.leading = features @ (vectors[:, -count:] / scales)
        self.used = np.flatnonzero(law)
        # Changes are counted in units of the least growth, or less, that is a power of two.
        self.scale = 2.0 ** math.ceil(-math.log2(max(LEAST_GROWTH * self.total, 1e-300)))

    def settle(self, slots: np.ndarray) -> None:
        """Put tokens at these points; those that never occur get the free ones, in order."""
        free = np.setdiff1d(np.arange(len(self.points)), slots)
        self.slots = np.append(slots, free)
        self.E = self.points[self.slots]
        self.B = self.E.T @ self.weighted
        self.mean = self.law @ self.E
        away = self.E - self.mean
        self.G = away.T @ (self.law[:, None] * away)
        self.C = self.weighted @ self.B.T
        self._follow()

    def _follow(self) -> None:
        """What follows from E, B, C, G and the mean."""
        self.inverse = self._inverse_of(self.G)
        X = self.B @ self.B.T
        self.score = float((self.inverse * X).sum())
        self.Z = self.E @ self.inverse
        self.towards = self.inverse @ X @ self.inverse
        away = self.E - self.mean
        self.pulled = ((away @ self.towards) * away).sum(axis=1)
        self.along = (self.Z * self.C).sum(axis=1)
        self.square = (self.Z * self.E).sum(axis=1)

    def _inverse_of(self, G: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.linalg.inv(_ridged(G))
        return found

    def begin(self, rng: np.random.Generator, unmixed: bool) -> None:
        """A rotation of the leading features, then assignments while the score grows.

        The rotation is drawn at random and, if `unmixed`, turned until its columns are as
        independent as they can be: coordinates of a grid are recognised by that.
        """
        n, size = self.points.shape[1], self.leading.shape[1]
        rotation = np.linalg.qr(rng.standard_normal((size, size)))[0]
        if unmixed:
            rotation = _unmixing(self.leading, self.law[: len(self.leading)], rotation)
        axes = np.eye(n)[rng.permutation(n)[:size]] * rng.choice([-1, 1], (size, 1))
        spread = np.cov(self.points.T, bias=True).reshape(n, n)
        # Of points in independent coordinates these stay the axes.
        white = self.points @ np.linalg.inv(np.linalg.cholesky(_ridged(spread))).T
        towards = np.zeros((len(self.points), n))
        towards[: len(self.leading)] = self.leading @ rotation @ axes
        if len(self.used) > MOST_ASSIGNED:
            self.settle(_halved(level(towards), self.points))
            return
        self._assign(self.law[:, None] * towards @ white.T)
        for _ in range(MOST_ASSIGNMENTS):
            before, slots = self.score, self.slots
            away = self.points - self.mean
            pulled = ((away @ self.towards) * away).sum(axis=1)
            self._assign(2 * self.C @ self.inverse @ self.points.T - np.outer(self.law, pulled))
            if self.score <= before + 1e-4 * self.total:
                if self.score < before:
                    self.settle(slots)
                break

    def _assign(self, values: np.ndarray) -> None:
        """Tokens that occur where the sum of these values is largest, the others where is room."""
        slots = np.full(len(self.points), -1)
        slots[self.used] = linear_sum_assignment(level(values[self.used]), maximize=True)[1]
        slots[slots < 0] = np.setdiff1d(np.arange(len(self.points)), slots)
        self.settle(slots)

    def exchange(self, rng: np.random.Generator, report: Callable[[float], object]) -> None:
        """Exchange tokens with the best partner, until no exchange or too few make the score grow.

        The best partner is found to first order in what changes G; the change is made only if the
        score itself grows.
        """
        movers = self.used
        if len(movers) > MOST_EXHAUSTED:
            order = np.argsort(-level(self.norms), kind="stable")
            held = np.cumsum(self.norms[order])
            movers = np.sort(order[: 1 + int((held < HELD * held[-1]).sum())])
        for sweep in range(MOST_SWEEPS):
            start = self.score
            order = rng.permutation(movers)
            for first in range(0, len(order), ROWS):
                some = order[first : first + ROWS]
                for i, row in zip(some, self.weighted[some] @ self.weighted.T, strict=True):
                    self._improve(int(i), row)
                report(1 - 0.5 ** (sweep + min(1.0, (first + ROWS) / len(order))))
            self.settle(self.slots)  # without the rounding of many small changes
            least = 1e-4 if len(self.used) > MOST_EXHAUSTED else LEAST_GROWTH / 2
            if self.score - start <= least * self.total:
                break

    def _improve(self, i: int, row: np.ndarray) -> None:
        """Exchange a token, whose products with all others are the row, with the best partner."""
        change = 2 * (self.Z @ self.C[i] + self.C @ self.Z[i] - self.along - self.along[i])
        distance = self.square + self.square[i] - 2 * (self.E @ self.Z[i])
        change += distance * (self.norms[i] + self.norms - 2 * row)
        change -= (self.law[i] - self.law) * (self.pulled - self.pulled[i])
        j = int(np.argmax(np.rint(change * self.scale)))
        step = self.E[j] - self.E[i]
        moved = self.weighted[i] - self.weighted[j]
        extra = self.law[i] - self.law[j]
        there, here = self.E[j] - self.mean, self.E[i] - self.mean
        G = self.G + extra * (np.outer(there, there) - np.outer(here, here))
        G -= extra**2 * np.outer(step, step)
        B = self.B + np.outer(step, moved)
        score = float((self._inverse_of(G) * (B @ B.T)).sum())
        if score <= self.score + LEAST_GROWTH * self.total:
            return
        self.slots[[i, j]] = self.slots[[j, i]]
        self.E[[i, j]] = self.E[[j, i]]
        self.mean = self.mean + extra * step
        self.G, self.B = G, B
        self.C += np.outer(row - self.weighted @ self.weighted[j], step)
        self._follow()


def _halved(targets: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A point for every target: both are halved along the coordinate that the points spread most.

    Where points share coordinates, as those of a grid do, halves end between two levels.
    """
    found = np.empty(len(points), np.int64)
    parts = [(np.arange(len(points)), np.arange(len(points)))]
    while parts:
        tokens, places = parts.pop()
        if len(places) == 1:
            found[tokens] = places
            continue
        axis = int(np.argmax(np.ptp(points[places], axis=0)))
        places = places[np.argsort(points[places, axis], kind="stable")]
        tokens = tokens[np.argsort(targets[tokens, axis], kind="stable")]
        ends = np.flatnonzero(np.diff(points[places, axis]) > 0) + 1
        middle = len(places) // 2
        end = int(ends[np.argmin(abs(ends - middle))]) if ends.size else middle
        parts += [(tokens[:end], places[:end]), (tokens[end:], places[end:])]
    return found


def _unmixing(
    white: Float[np.ndarray, "K n"], law: Float[np.ndarray, " K"], rotation: np.ndarray
) -> Float[np.ndarray, "n n"]:
    """Rotation to columns of extreme fourth moments (Hyvarinen 1999, symmetric)."""
    for _ in range(100):
        seen = white @ rotation
        turned = white.T @ (law[:, None] * seen**3) - 3 * rotation
        left, _, right = np.linalg.svd(turned)
        after = level(left @ right)  # where it does not converge rounding would grow
        moved = abs(abs((after * rotation).sum(axis=0)) - 1).max()
        rotation = after
        if moved < 1e-9:
            break
    return rotation


def _ridged(G: np.ndarray) -> np.ndarray:
    found: np.ndarray = G + RIDGE * max(float(np.trace(G)) / len(G), 1e-300) * np.eye(len(G))
    return found
