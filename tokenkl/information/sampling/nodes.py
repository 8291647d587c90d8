"""Levels at which samples are looked at, where many are asked for, and how the others are read off.

Every mean is an analytic function of h = sqrt(snr), and falls about like exp(-slope h^2) where
tokens are told apart; times exp(slope h^2) it changes little while h doubles. So values at a few
nodes are enough, with polynomials through the `ORDER` nearest ones: a value at a level is a linear
combination of those at nodes, sample by sample, and has a mean and a standard error as any other. What the polynomials miss is bounded by what those of an order less by two would
change (`Nodes.missed`), which miss more. Nodes are evenly spaced while h doubles, as `kernel` likes
them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

#: Nodes while h doubles, by the smallest target: what is missed is far below it (measured on exact
#: curves: 6e-6 of the largest value at most with six nodes, 1e-6 with eight, 3e-8 with sixteen).
PER_OCTAVE = ((1e-4, 6), (1e-5, 8), (0.0, 16))
#: Nodes that a polynomial goes through.
ORDER = 8
#: Fewest levels that are read off.
FEWEST = 16
#: How far the outer nodes are beyond the outer levels, in nodes.
BEYOND = 1.5


class Nodes:
    """Nodes (`h`) for some levels: the levels themselves where these are few, or far apart.

    Without a `target`, the smallest error that matters, they always are.
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
            if between.size and between.size <= close.sum():
                self.close = close
            else:
                between = np.empty(0)
        self.h = np.concatenate([levels[~self.close], between])
        alone, shape = np.flatnonzero(~self.close), (levels.size, self.h.size)
        self._fine, self._coarse = np.zeros((2, *shape))
        for rule, order in ((self._fine, ORDER), (self._coarse, ORDER - 2)):
            rule[alone, np.arange(alone.size)] = 1
            rule[np.ix_(self.close, np.arange(alone.size, self.h.size))] = _polynomials(
                between, levels[self.close], order
            )
        self.settle(0.0)

    def settle(self, slope: float) -> None:
        """Say that means fall like exp(-slope h^2)."""
        fall = np.zeros((self.levels.size, self.h.size))
        fall[self.close] = slope * (self.h**2 - self.levels[self.close, None] ** 2)
        needed = self._fine != 0
        scale = np.exp(np.where(needed, fall, 0))
        self.rule, self.other_rule = self._fine * scale, self._coarse * scale

    def of(self, levels: Int[np.ndarray, " levels"]) -> Int[np.ndarray, " nodes"]:
        """The nodes that some of the levels need."""
        return np.flatnonzero((self.rule[levels] != 0).any(axis=0))

    @property
    def nearest(self) -> Int[np.ndarray, " levels"]:
        """The node next to every level."""
        if not self.close.any():
            return np.arange(self.levels.size)
        return np.abs(self.levels[:, None] - self.h).argmin(axis=1)

    def read(
        self,
        values: Float[np.ndarray, "nodes ..."],
        nodes: Int[np.ndarray, " nodes"],
        levels: Int[np.ndarray, " levels"],
    ) -> Float[np.ndarray, "levels ..."]:
        """Values at some levels, out of those at the nodes that they need."""
        return _combine(self.rule[np.ix_(levels, nodes)], values)

    def missed(
        self,
        values: Float[np.ndarray, "nodes ..."],
        nodes: Int[np.ndarray, " nodes"],
        levels: Int[np.ndarray, " levels"],
    ) -> Float[np.ndarray, "levels ..."]:
        """What polynomials of an order less by two make of `values` beyond `read`."""
        return _combine((self.other_rule - self.rule)[np.ix_(levels, nodes)], values)


def _combine(rule: np.ndarray, values: np.ndarray) -> np.ndarray:
    found = rule @ values.reshape(len(values), -1)
    return found.reshape(len(rule), *values.shape[1:])


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
