"""Levels at which samples are looked at, where many are asked for, and how the others are read off.

Every mean is an analytic function of h = sqrt(snr), and falls about like exp(-slope h^2) where
tokens are told apart; times exp(slope h^2) it changes little while h doubles. So values at a few
nodes are enough, with polynomials through the `ORDER` nearest ones: a value at a level is a linear
combination of those at nodes, sample by sample, and has a mean and a standard error as any other.
What the polynomials miss is bounded by what those of an order less by two would change
(`Reading.missed`), which miss more. Nodes are evenly spaced while h doubles, as `kernel` likes
them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

#: Nodes while h doubles, by the smallest target: what is missed is far below it (measured on exact
#: curves: 6e-6 of the largest value at most with six nodes, 1e-6 with eight, 3e-8 with sixteen).
PER_OCTAVE = ((1e-4, 6), (1e-5, 8), (0.0, 16))
#: Nodes that a polynomial goes through.
ORDER = 8
#: Fewest levels that are read off.
FEWEST = 16
#: What a node costs, as a part of what a level by itself does; most levels that are ever looked at
#: by themselves although they are close to others.
NODE_COST, FEW = 0.6, 64
#: Most numbers in a rule, levels times nodes (16 MiB).
LARGEST = 2**21
#: How far means are followed down. Where they do not fall as they did before, since a few tokens
#: are hard to tell apart at any level, more would be magnified.
STEEPEST = 20.0
#: How far the outer nodes are beyond the outer levels, in nodes.
BEYOND = 1.5


class Nodes:
    """Nodes (`h`) for some levels: the levels themselves where these are few, or far apart.

    Without a `target`, the smallest error that matters, they always are. `places` are the nodes,
    and after them all levels that can also be read off, if there are not many of these.
    """

    def __init__(self, levels: Float[np.ndarray, " levels"], target: float | None) -> None:
        self.levels = levels
        self.close = np.zeros(levels.size, dtype=bool)
        between = np.empty(0)
        if target is not None:
            per_octave = next(count for least, count in PER_OCTAVE if target >= least)
            close = _close(levels, per_octave)
            if close.sum() >= FEWEST:
                between = _spread(levels[close].min(), levels[close].max(), per_octave)
            if 0 < between.size <= close.sum() <= LARGEST / between.size:
                self.close = close
            else:
                between = np.empty(0)
        alone, close_ = np.flatnonzero(~self.close), np.flatnonzero(self.close)
        self.h = np.concatenate([levels[alone], between])
        #: How many of the nodes, the first ones, are levels that are looked at by themselves.
        self.alone = alone.size
        self.nearest = np.empty(levels.size, dtype=np.int64)
        self.nearest[alone] = np.arange(alone.size)
        if close_.size:
            distance = np.abs(levels[close_, None] - between)
            self.nearest[close_] = alone.size + distance.argmin(axis=1)
        #: Where each of the close levels stands among them.
        self._rank = np.cumsum(self.close) - 1
        #: The place of every level by itself; none where there are too many.
        self._own: Int[np.ndarray, " levels"] | None = None
        self.places, self.node_of_place = self.h, np.arange(self.h.size)
        if close_.size <= FEW:
            self._own = self.nearest.copy()
            self._own[close_] = self.h.size + np.arange(close_.size)
            self.places = np.concatenate([self.h, levels[close_]])
            self.node_of_place = np.concatenate([self.node_of_place, self.nearest[close_]])
        self._fine = _polynomials(between, levels[close_], ORDER)
        self._coarse = _polynomials(between, levels[close_], ORDER - 2)
        self.settle(0.0)

    def settle(self, slope: float) -> None:
        """Say that means fall like exp(-slope h^2), while slope h^2 is at most `STEEPEST`."""
        squares = self.levels[self.close, None] ** 2
        slopes = np.minimum(slope, STEEPEST / squares)
        fall = slopes * (self.h[self.alone :] ** 2 - squares)
        scale = np.exp(np.where(self._fine != 0, fall, 0))
        self._rule, self._change = self._fine * scale, (self._coarse - self._fine) * scale

    def of(
        self, levels: Int[np.ndarray, " some"]
    ) -> tuple[Int[np.ndarray, " places"], Reading | None]:
        """Where to look for some levels, whichever costs less: nodes, or the levels (None)."""
        close = self.close[levels]
        if not close.any():
            return self.nearest[levels], None
        reading = self.reading(levels)
        if self._own is not None and levels.size <= NODE_COST * reading.nodes.size:
            return self._own[levels], None
        return reading.nodes, reading

    def reading(self, levels: Int[np.ndarray, " some"]) -> Reading:
        """How values at some levels follow from those at nodes, and at which."""
        close = self.close[levels]
        rows = self._rank[levels[close]]
        between = np.flatnonzero((self._rule[rows] != 0).any(axis=0))
        nodes = np.concatenate([self.nearest[levels[~close]], self.alone + between])
        part = np.ix_(rows, between)
        return Reading(nodes, close, self._rule[part], self._change[part])


class Reading(NamedTuple):
    """How values at levels follow from those at `nodes`, linearly, along the first axis.

    The first nodes are levels themselves, those that are not `close`.
    """

    nodes: Int[np.ndarray, " nodes"]
    close: Bool[np.ndarray, " levels"]
    rule: Float[np.ndarray, "close between"]
    change: Float[np.ndarray, "close between"]

    def read(self, values: Float[np.ndarray, "nodes ..."]) -> Float[np.ndarray, "levels ..."]:
        """Values at the levels."""
        return self._combined(values, self.rule, 1)

    def missed(self, values: Float[np.ndarray, "nodes ..."]) -> Float[np.ndarray, "levels ..."]:
        """What polynomials of an order less by two make of `values` beyond `read`."""
        return self._combined(values, self.change, 0)

    def spread(self, errors: Float[np.ndarray, "nodes ..."]) -> Float[np.ndarray, "levels ..."]:
        """The most that errors at nodes may make at the levels."""
        return self._combined(errors, np.abs(self.rule), 1)

    def _combined(self, values: np.ndarray, rule: np.ndarray, alone: int) -> np.ndarray:
        found = np.empty((self.close.size, *values.shape[1:]))
        first = len(values) - rule.shape[1]
        found[~self.close] = alone * values[:first]
        found[self.close] = np.tensordot(rule, values[first:], 1)
        return found


def _close(levels: Float[np.ndarray, " levels"], per_octave: int) -> Bool[np.ndarray, " levels"]:
    """The most levels that follow each other as closely as nodes do."""
    finite = np.flatnonzero((levels > 0) & (levels < 1e150))
    ascending = finite[np.argsort(levels[finite], kind="stable")]
    gaps = np.diff(np.log2(levels[ascending])) > (1 + 1e-9) / per_octave
    close = np.zeros(levels.size, dtype=bool)
    close[max(np.split(ascending, np.flatnonzero(gaps) + 1), key=len)] = True
    return close


def _spread(lowest: float, highest: float, per_octave: int) -> Float[np.ndarray, " nodes"]:
    """Nodes beyond `lowest` and `highest`, evenly spaced in every octave below the highest node."""
    top = highest / (1 - BEYOND / (2 * per_octave))
    nodes: list[float] = []
    while True:
        step = top / (2 * per_octave)
        octave = top - step * np.arange(per_octave)
        wanted = octave[octave >= lowest - BEYOND * step]
        nodes.extend(wanted)
        if wanted.size < per_octave:
            break
        top /= 2
    if len(nodes) % 2:
        nodes.append(nodes[-1] - step)
    return np.array(nodes[::-1])


def _polynomials(
    nodes: Float[np.ndarray, " nodes"], levels: Float[np.ndarray, " levels"], order: int
) -> Float[np.ndarray, "levels nodes"]:
    """Lagrange's polynomials of the `order` nodes around every level."""
    rule = np.zeros((levels.size, nodes.size))
    if levels.size == 0:
        return rule
    first = np.clip(np.searchsorted(nodes, levels) - order // 2, 0, nodes.size - order)
    chosen = first[:, None] + np.arange(order)
    around = nodes[chosen]
    for i in range(order):
        others = np.delete(around, i, axis=1)
        parts = (levels[:, None] - others) / (around[:, [i]] - others)
        rule[np.arange(levels.size), chosen[:, i]] = parts.prod(axis=1)
    return rule
