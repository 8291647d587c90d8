"""Weights for all patterns of cells, by branch and bound: what `verify_patterns` checks.

    python -m tokenkl.optimality.patterns FOLDER

writes the files of `FOUND` anew, in five minutes. How weights are found is no part of the proof
(docs/theory/optimality.md, O12). The best weights of some cells are a convex programme,

    minimise  sum_i 1 / (4 A_i) + sum over coordinates of max over ends of sum_ij w_ij (x_i-x_j)^2,

A_i = sum_j w_ij: a linear one, but for 1 / (4 A), which is bounded by tangents. Where its value is
above the limit, a cell is halved: one whose points the worst mixture of ends (the dual) tears most.
Points of a cell are alike, and share one row of weights.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import itertools
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._files import atomic_path
from tokenkl._progress import Report, progress_bar
from tokenkl.optimality.verify_patterns import largest

FORMAT = "tokenkl pattern bound, version 2"
#: Weights are whole numbers over this one; units in the side of a cell that is not halved yet.
SCALE, SIDE = 1000, 2**12
#: Weights are rounded to multiples of the first of these that still serves.
STEPS = (100, 50, 20, 10, 5, 2, 1)
#: 1 / (4 A) is bounded by tangents at these A to begin with.
TANGENTS = np.geomspace(0.1, 10, 24)
#: Cells that weights reach from a cell: the nearest of them.
REACH = 6
#: The most tangents that are added to each A; what linear programmes leave open.
ROUNDS, OPEN = 8, 1e-6

#: The cell of every point: lowest and highest unit in each coordinate.
Cells = tuple[tuple[tuple[int, int], ...], ...]
Weights = Int[np.ndarray, "G G"]


class Node:
    """Points in their cells: what weights prove of them, and which cell to halve."""

    def __init__(self, cells: Cells, limit: Fraction) -> None:
        self.cells, self.limit = cells, limit
        #: G different cells, and which of them each point is in.
        self.kinds = list(dict.fromkeys(cells))
        self.kind = [self.kinds.index(cell) for cell in cells]
        self.count = np.bincount(self.kind)
        ends = np.array(self.kinds, dtype=np.int64)  # (G, n, 2)
        self.low, self.high = ends[..., 0], ends[..., 1]
        #: How many points of each cell are at its high end: all cases.
        self.cases = np.array(list(itertools.product(*(range(k + 1) for k in self.count))))

    @functools.cached_property
    def squares(self) -> list[Int[np.ndarray, "cases G G"]]:
        """For each coordinate and case, sums of (x_i - x_j)^2 over points of two cells."""
        found, count, up = [], self.count, self.cases
        for low, high in zip(self.low.T, self.high.T, strict=True):
            one = up * high + (count - up) * low
            two = up * high**2 + (count - up) * low**2
            cross = one[:, :, None] * one[:, None, :]
            found.append(two[:, :, None] * count + count[:, None] * two[:, None, :] - 2 * cross)
        return found

    def value(self, weights: Weights) -> Fraction:
        """The bound of the sum of r that weights prove."""
        sums = weights @ self.count - np.diag(weights)
        if (sums <= 0).any():
            return Fraction(10**9)
        more = sum(
            Fraction(int(k) * SCALE, 4 * int(A)) for k, A in zip(self.count, sums, strict=True)
        )
        top = sum(int(np.tensordot(squares, weights, 2).max()) for squares in self.squares)
        return more + Fraction(top, SCALE * SIDE**2)

    def alone(self, weights: Weights) -> bool:
        """Whether their bound is reached in one way only."""
        rows = self.rows(weights)
        pair = (np.array(rows) + np.array(rows).T).tolist()
        lines = ([cell[axis] for cell in self.cells] for axis in range(self.low.shape[1]))
        return all(len(largest(line, pair)[1]) == 1 for line in lines)

    def rows(self, weights: Weights) -> list[list[int]]:
        """A row for each point, of numbers of Python."""
        found = weights[np.ix_(self.kind, self.kind)]
        np.fill_diagonal(found, 0)
        return [list(map(int, row)) for row in found]

    def of_rows(self, rows: list[list[int]]) -> Weights:
        """Weights of the cells, from rows for the points."""
        found = np.zeros((len(self.kinds),) * 2, dtype=np.int64)
        for i, row in enumerate(rows):
            for j, weight in enumerate(row):
                if i != j:
                    found[self.kind[i], self.kind[j]] = weight
        return found

    def best(self) -> tuple[Float[np.ndarray, "G G"], tuple[int, int]]:
        """About the best weights, and the point and coordinate whose cell to halve."""
        from scipy.optimize import linprog  # slow to import

        G, n = self.low.shape
        count, low, high = self.count, self.low / SIDE, self.high / SIDE
        apart = np.maximum(high[:, None] - low, high - low[:, None])
        order = np.argsort(np.square(apart).sum(axis=2), axis=1, kind="stable")
        pairs = [
            (g, h)
            for g in range(G)
            for h in [h for h in order[g] if h != g or count[g] > 1][:REACH]
        ]
        first, second = np.array(pairs).T
        # Columns: weights of the pairs, the largest sum of each coordinate, 1 / (4 A) of each cell.
        sums = (first == np.arange(G)[:, None]) * (count[second] - (first == second))
        parts = [squares[:, first, second] / SIDE**2 for squares in self.squares]
        above = [np.hstack([p, -np.eye(n + G)[[c] * len(p)]]) for c, p in enumerate(parts)]
        right = [np.zeros(len(part)) for part in parts]
        cost = np.concatenate([np.zeros(len(pairs)), np.ones(n), count])

        def add(at: Float[np.ndarray, " tangents"], g: int) -> None:
            row = np.hstack([-sums[g] / (4 * at[:, None] ** 2), -np.eye(n + G)[[n + g] * at.size]])
            above.append(row)
            right.append(-1 / (2 * at))

        for g in range(G):
            add(TANGENTS, g)
        weights, least = np.zeros((G, G)), np.inf
        mixture = np.concatenate([np.full(len(part), 1 / len(part)) for part in parts])
        for _ in range(ROUNDS):
            found = linprog(cost, np.vstack(above), np.concatenate(right), method="highs-ds")
            if found.x is None:
                break
            chosen = found.x[: len(pairs)]
            A = np.maximum(sums @ chosen, 1 / SCALE)
            value = count @ (1 / (4 * A)) + sum((part @ chosen).max() for part in parts)
            mixture = -found.ineqlin.marginals[: len(mixture)]
            if value < least:
                least, weights = value, np.zeros((G, G))
                weights[first, second] = chosen
            limit = float(self.limit)
            if value < limit - OPEN or found.fun > min(limit, value) - OPEN:
                break
            for g in range(G):
                add(A[[g]], g)
        torn = np.zeros((G, n))
        for c, share in enumerate(np.split(mixture, n)):
            up = np.clip(share @ self.cases / max(share.sum(), OPEN) / count, 0, 1)
            torn[:, c] = count * (up * (1 - up) + 1e-3) * (high - low)[:, c] ** 2
        worst, axis = divmod(int(torn.argmax()), n)
        return weights, (self.kind.index(worst), axis)

    def touching(self, known: Int[np.ndarray, "K n"]) -> Float[np.ndarray, "G G"] | None:
        """Weights by which the limit is reached at known points, each at the end of its cell.

        Pairs that are nearest there, A_i = 1 / (2 r_i): then all that is left to choose is how far
        the other ends stay below.
        """
        from scipy.optimize import linprog

        corner = (known[:, None] == self.low) | (known[:, None] == self.high)
        point, kind = np.nonzero(corner.all(axis=2))
        K = len(self.cells)
        if not (len(self.kinds) == len(kind) == len(set(kind)) == len(set(point)) == K):
            return None  # not one known point for each point, in a cell of its own
        at = known[point[np.argsort(kind)]]
        apart = np.square(at[:, None] - at).sum(axis=2).astype(float)
        np.fill_diagonal(apart, np.inf)
        first, second = np.nonzero(apart == apart.min(axis=1)[:, None])
        above = []
        for c, squares in enumerate(self.squares):
            part = squares[:, first, second] / SIDE**2
            there = (self.cases == (at[:, c] == self.high[:, c])).all(axis=1)
            above.append(part[~there] - part[there])
        rows = np.vstack(above)
        found = linprog(
            np.append(np.zeros(len(first)), -1.0),
            np.hstack([rows, np.ones((len(rows), 1))]),
            np.zeros(len(rows)),
            np.hstack([first == np.arange(len(at))[:, None], np.zeros((len(at), 1))]),
            SIDE / (2 * np.sqrt(apart.min(axis=1))),
            [(0, None)] * len(first) + [(None, 1)],
            method="highs-ds",
        )
        if found.x is None or found.x[-1] < OPEN:
            return None
        weights = np.zeros(apart.shape)
        weights[first, second] = found.x[:-1]
        return weights

    def halves(self, point: int, axis: int) -> Iterator[Cells]:
        """The points of a cell shared between its halves, in all ways: the first ones go down."""
        low, high = self.cells[point][axis]
        middle = (low + high) // 2
        here = [i for i, cell in enumerate(self.cells) if cell == self.cells[point]]
        for count in range(len(here) + 1):
            cells = list(self.cells)
            for order, i in enumerate(here):
                ends = (low, middle) if order < count else (middle, high)
                cells[i] = (*cells[i][:axis], ends, *cells[i][axis + 1 :])
            yield tuple(cells)


def proof(
    cells: Cells,
    limit: Fraction,
    known: Int[np.ndarray, "K n"],
    parent: list[list[int]] | None = None,
) -> Any:
    """What `verify_patterns` reads of some cells: None (weights as before), weights, or halves."""
    node = Node(cells, limit)
    if parent is not None and node.value(node.of_rows(parent)) < limit:
        return None
    best, (point, axis) = node.best()
    for step in STEPS:
        weights = np.rint(best * SCALE / step).astype(np.int64) * step
        if node.value(weights) < limit:
            return node.rows(weights)
    if (touching := node.touching(known)) is not None:
        exact = np.rint(touching * SCALE).astype(np.int64)
        # The sum of a row is a whole number, as that of its rounded terms has to be.
        largest_one = touching.argmax(axis=1)
        short = np.rint(touching.sum(axis=1) * SCALE).astype(np.int64) - exact.sum(axis=1)
        exact[np.arange(len(exact)), largest_one] += short
        if node.value(exact) == limit and node.alone(exact):
            return node.rows(exact)
    rows = node.rows(weights)
    parts = [proof(halves, limit, known, rows) for halves in node.halves(point, axis)]
    found = {"point": point, "axis": axis, "parts": parts}
    return {**found, "weights": rows} if None in parts else found


def patterns(n: int, K: int, m: int) -> Iterator[tuple[int, ...]]:
    """Ways to put K points into m^n cells, one of each kind up to symmetries of the cube."""
    shape = np.arange(m**n).reshape((m,) * n)
    images = [
        np.flip(shape.transpose(order), tuple(a for a in range(n) if flips[a])).ravel()
        for order in itertools.permutations(range(n))
        for flips in itertools.product((False, True), repeat=n)
    ]
    for chosen in itertools.combinations_with_replacement(range(m**n), K):
        counts = np.bincount(chosen, minlength=m**n)
        if max(tuple(counts[image]) for image in images) == tuple(counts):
            yield tuple(map(int, counts))


def find(
    n: int,
    K: int,
    m: int,
    limit: Fraction,
    known: Float[np.ndarray, "K n"],
    progress: Report | None = None,
) -> dict[str, Any]:
    """A file for `verify_patterns`: the sum of r of K points of [0, m]^n is at most the limit.

    It ends if the limit is above the largest sum, or equal to it and reached nowhere but at the
    known points, which are at corners of cells.
    """
    rows = []
    every = list(patterns(n, K, m))
    for done, counts in enumerate(every):
        if progress is not None:
            progress(done, len(every))
        cells = tuple(
            tuple((c * SIDE, (c + 1) * SIDE) for c in cell)
            for cell, count in zip(itertools.product(range(m), repeat=n), counts, strict=True)
            for _ in range(count)
        )
        rows.append([list(counts), proof(cells, limit, np.rint(known * SIDE).astype(np.int64))])
    names = {"n": n, "K": K, "m": m, "side": SIDE, "scale": SCALE}
    ends = {"limit": limit.numerator, "over": limit.denominator}
    return {"format": FORMAT, **names, **ends, "patterns": rows}


#: Files, with n, K, m, the limit, and levels of FSQ where that reaches it.
FOUND: dict[str, tuple[int, int, int, Fraction, tuple[float, ...]]] = {
    "patterns_2_9.json.gz": (2, 9, 2, Fraction(9), (0.0, 1.0, 2.0)),
    "patterns_3_8_alone.json.gz": (3, 8, 2, Fraction(16), (0.0, 2.0)),
    "patterns_2_5.json.gz": (2, 5, 2, Fraction("7.11"), ()),
    "patterns_2_6.json.gz": (2, 6, 2, Fraction("7.26"), ()),
    "patterns_2_7.json.gz": (2, 7, 2, Fraction("7.77"), ()),
    "patterns_2_8.json.gz": (2, 8, 2, Fraction("8.3"), ()),
}


def main(folder: Path, *names: str) -> None:
    """Write the files whose cells are halved: all, or those that are named."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FOUND:
        n, K, m, limit, levels = FOUND[name]
        known = np.array(list(itertools.product(levels, repeat=n)))
        with progress_bar(name, lines=True) as report:
            record = find(n, K, m, limit, known.reshape(-1, n), report)
        text = json.dumps(record, separators=(",", ":"))
        with atomic_path(folder / name) as new:
            Path(new).write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tokenkl.optimality.patterns")
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(FOUND))
    given = parser.parse_args()
    for one in set(given.names) - set(FOUND):
        parser.error(f"NAME must be among {', '.join(FOUND)}; got {one!r}")
    main(given.folder, *given.names)
