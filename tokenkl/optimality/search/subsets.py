"""The best K of many candidates: which are left out, so that others stand apart.

Where more points keep the base distance than are needed, the spare ones buy distance: without its
neighbours a point stands farther from all others than the base distance. `isolate` chooses which
points to set apart, by annealing; `anneal` swaps single points afterwards.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from tokenkl.numerics.neighbours import nearest_distances

#: Most listed pairs of candidates.
MAX_PAIRS = 6_000_000
#: Temperatures at the beginning and at the end, in units of the base distance.
HOT, COLD = 0.3, 0.005
#: What a candidate beyond the budget costs on the way, in units of the base distance.
PENALTY = 0.2
#: Steps of one call of machine code.
PIECE = 2**19
#: Distances count as equal up to this part.
EQUAL = 1e-9


class Candidates:
    """Points with their neighbours in the order of distance, as sparse rows."""

    def __init__(self, points: Float[np.ndarray, "M n"], base: float | None = None) -> None:
        self.points = points
        self.M = M = len(points)
        self.base = float(nearest_distances(points).min()) if base is None else base
        #: How far the lists reach: three base distances, or less where those are too many pairs.
        self.reach = 3 * self.base
        if M * (M - 1) > MAX_PAIRS:
            sample = points[:: max(1, M // 200)]
            spread = np.sort(np.square(sample[:, None] - points).sum(axis=-1), axis=1)
            shared = float(np.sqrt(spread[:, MAX_PAIRS // M].min())) * (1 - 1e-9)
            self.reach = max(1.01 * self.base, min(self.reach, shared))
        parts = []
        for start in range(0, M, step := max(1, 2**22 // M)):
            part = points[start : start + step]
            square = np.zeros((len(part), M))
            for c in range(points.shape[1]):
                square += np.square(part[:, c, None] - points[:, c])
            row, column = np.nonzero(square <= self.reach**2)
            parts.append((row + start, column, square[row, column]))
        row, column, squares = (np.concatenate(one) for one in zip(*parts, strict=True))
        other = row != column
        row, self.others, self.distance = row[other], column[other], np.sqrt(squares[other])
        order = np.lexsort((self.distance, row))
        self.others, self.distance = self.others[order], self.distance[order]
        self.first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=M))])

    def isolate(
        self, K: int, steps: int, rng: np.random.Generator
    ) -> tuple[float, Bool[np.ndarray, " M"]]:
        """Points to set apart, all others at the base distance: D and which K points are kept."""
        from tokenkl.optimality.search.kernels import anneal_isolated  # slow to import

        row = np.repeat(np.arange(self.M), np.diff(self.first))
        near = self.distance <= self.base * (1 + EQUAL)
        first = np.concatenate([[0], np.cumsum(np.bincount(row[near], minlength=self.M))])
        next_one = np.full(self.M, self.reach)
        np.minimum.at(next_one, row[~near], self.distance[~near])
        chosen = np.zeros(self.M, dtype=bool)
        gains = next_one - self.base
        # Points without a neighbour at the base distance are apart already.
        budget = self.M - K
        for start in range(0, steps, PIECE):
            stop = min(steps, start + PIECE)
            heat = [self.base * HOT * (COLD / HOT) ** (at / steps) for at in (start, stop)]
            anneal_isolated(
                first,
                self.others[near],
                gains,
                budget,
                chosen,
                heat[0],
                heat[1],
                PENALTY * self.base,
                rng.random((stop - start, 3)),
            )
        inside = np.ones(self.M, dtype=bool)
        inside[self.others[near & chosen[row]]] = False
        self._thin(inside, K, chosen, rng)
        return self.mean(inside), inside

    def _thin(
        self, inside: np.ndarray, K: int, chosen: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Take out what is still too much, of those that are not apart."""
        spare = np.flatnonzero(inside & ~chosen)
        excess = int(inside.sum()) - K
        if excess > spare.size:
            spare = np.flatnonzero(inside)
        inside[rng.choice(spare, excess, replace=False)] = False

    def anneal(
        self, inside: Bool[np.ndarray, " M"], steps: int, rng: np.random.Generator, hot: float
    ) -> tuple[float, Bool[np.ndarray, " M"]]:
        """Swaps of single points, from a temperature in units of the base distance."""
        from tokenkl.optimality.search.kernels import anneal_subset  # slow to import

        inside = inside.copy()
        if inside.all():
            return self.mean(inside), inside
        for start in range(0, steps, PIECE):
            stop = min(steps, start + PIECE)
            heat = [self.base * hot * (COLD / hot) ** (at / steps) for at in (start, stop)]
            draws = rng.random((stop - start, 4))
            anneal_subset(
                self.first, self.others, self.distance, inside, heat[0], heat[1], draws, self.reach
            )
        return self.mean(inside), inside

    def mean(self, inside: Bool[np.ndarray, " M"]) -> float:
        """D of the points that are inside."""
        return float(nearest_distances(self.points[inside]).mean())
