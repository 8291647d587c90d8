"""Verifier of upper bounds by patterns, with Python's standard library and nothing else.

    python verify_patterns.py patterns.json patterns.json.gz

K points of the cube [0, m]^n lie in cells of side 1 (any of them, where a point is on a wall). A
pattern says how many points each of the m^n cells has. For weights w_ij >= 0, j != i, that sum to
A_i over j, A_i r_i^2 <= sum_j w_ij |e_i - e_j|^2, as r_i = min_j |e_i - e_j|. Version 1 bounds
sum r^2, and all A_i are 1. Version 2 bounds sum r, by r <= A r^2 + 1 / (4 A), and cells may be
halved: all ways to share the points of one between its halves are parts of the proof, each with
weights, or those of what was halved, or halved again.

sum_ij w_ij |e_i - e_j|^2 is a sum over coordinates of convex functions of the K numbers there, each
of which is largest where every number is at an end of its cell: 2^K cases a coordinate, and all are
tried. Where only one of them is largest, all other points of the cells have less. Patterns that a
symmetry of the cube maps to each other need weights once; that all are there is seen by counting:
orbits are listed, and have to be all of the patterns.

Whole numbers and fractions; no check is an `assert`: `python -O` checks as much. How weights were
found (linear programmes) is no part of the proof. (docs/theory/optimality.md, O12.)
"""

import gzip
import itertools
import json
import math
import sys
from fractions import Fraction
from operator import add, mul
from typing import Any

#: Files, and whether they bound the sum of r, not of r^2.
FORMATS = {"tokenkl pattern bound, version 1": False, "tokenkl pattern bound, version 2": True}
#: For each coordinate, ends of the cells that the points are in.
Cells = list[list[tuple[int, int]]]


class Refused(ValueError):
    """A file that proves nothing."""


class Proof:
    """Weights for all patterns of a file, checked one after another."""

    def __init__(self, record: Any) -> None:
        if not isinstance(record, dict) or record.get("format") not in FORMATS:
            raise Refused(f"format must be one of {', '.join(map(repr, FORMATS))}")
        self.linear = FORMATS[record["format"]]
        whole = (_whole(record, name) for name in ("n", "K", "m", "scale", "limit"))
        self.n, self.K, self.m, self.scale, limit = whole
        self.side = _whole(record, "side") if self.linear else 1
        self.limit = Fraction(limit, _whole(record, "over") if "over" in record else 1)
        # Tables of weights that were checked, and points at which alone the limit is reached.
        self.checked, self.alone = 0, True
        self.reached: set[tuple[tuple[int, ...], ...]] = set()

    def check(self, cells: Cells, part: Any, inherited: Any) -> None:
        """That points of these cells do not exceed the limit."""
        if part is None or isinstance(part, list):
            return self.bound(cells, inherited if part is None else part)
        if not (isinstance(part, dict) and self.linear):
            raise Refused("a part must be weights, null, or a table of halves")
        point, axis, parts = part.get("point"), part.get("axis"), part.get("parts")
        if type(point) is not int or type(axis) is not int or not isinstance(parts, list):
            raise Refused("halves must have a point, an axis and parts")
        if not (0 <= point < self.K and 0 <= axis < self.n):
            raise Refused(f"no cell has the point {point} and the axis {axis}")
        box = [one[point] for one in cells]
        here = [i for i in range(self.K) if [one[i] for one in cells] == box]
        low, high = box[axis]
        middle = (low + high) // 2
        if not low < middle < high or len(parts) != len(here) + 1:
            raise Refused(f"{len(parts)} parts of {len(here)} points between {low} and {high}")
        for count, one in enumerate(parts):  # points of a cell are alike: the first ones go down
            halved = [list(line) for line in cells]
            for order, i in enumerate(here):
                halved[axis][i] = (low, middle) if order < count else (middle, high)
            self.check(halved, one, part.get("weights"))

    def bound(self, cells: Cells, weights: Any) -> None:
        """The same by one table of weights."""
        sums = self.sums_of(weights)
        both = zip(weights, zip(*weights, strict=True), strict=True)
        pair = [list(map(add, *rows)) for rows in both]
        found = [largest(line, pair) for line in cells]
        # Version 2: sum of A r^2 + 1 / (4 A), A in units of 1 / scale.
        more = sum(Fraction(self.scale, 4 * one) for one in sums) if self.linear else 0
        total = more + Fraction(sum(best for best, _ in found), self.scale * self.side**2)
        if total > self.limit:
            raise Refused(f"points in {cells} reach {total}, more than {self.limit}")
        self.checked += 1
        if total == self.limit:
            self.alone = self.alone and all(len(where) == 1 for _, where in found)
            self.reached.add(tuple(sorted(zip(*(where[0] for _, where in found), strict=True))))

    def sums_of(self, weights: Any) -> list[int]:
        if not isinstance(weights, list) or len(weights) != self.K:
            raise Refused("weights must have a row for each point")
        for i, row in enumerate(weights):
            if not _is_row(row, self.K) or row[i] != 0 or sum(row) < 1:
                raise Refused("weights must be at least 0, not all 0, and 0 for a point itself")
            if not self.linear and sum(row) != self.scale:
                raise Refused(f"weights must sum to {self.scale}")
        return [sum(row) for row in weights]


def verify(record: Any) -> str:
    """Check a file, a table as JSON has it; returns a sentence that says what is proved.

    Raises:
        Refused: a file that does not prove its limit.
    """
    proof = Proof(record)
    n, K, m, side = proof.n, proof.K, proof.m, proof.side
    cells = list(itertools.product(range(m), repeat=n))
    place = {cell: index for index, cell in enumerate(cells)}
    symmetries = []
    for order in itertools.permutations(range(n)):
        for flips in itertools.product((False, True), repeat=n):
            ways = list(zip(order, flips, strict=True))
            images = (tuple(m - 1 - c[a] if flip else c[a] for a, flip in ways) for c in cells)
            symmetries.append([place[image] for image in images])
    rows = record.get("patterns")
    if not isinstance(rows, list):
        raise Refused("patterns must be a list")
    covered: set[tuple[int, ...]] = set()
    for row in rows:
        if not isinstance(row, list) or len(row) != 2:
            raise Refused("a pattern must be counts and weights")
        counts, part = row
        if not _is_row(counts, len(cells)) or sum(counts) != K:
            raise Refused("counts must be one for each cell, and sum to K")
        where = [cell for cell, count in zip(cells, counts, strict=True) for _ in range(count)]
        lines = [[(c[a] * side, (c[a] + 1) * side) for c in where] for a in range(n)]
        proof.check(lines, part, None)
        for one in symmetries:
            image = [0] * len(cells)
            for index, count in enumerate(counts):
                image[one[index]] = count
            covered.add(tuple(image))
    every = math.comb(K + len(cells) - 1, K)
    if len(covered) != every:
        raise Refused(f"{len(covered)} of {every} patterns are covered")
    says = (
        f"{K} points of a cube of side {m} in {n} dimensions: the sum of "
        f"{'r' if proof.linear else 'r^2'} is at most {proof.limit} ({len(rows)} patterns, {every} "
        f"with their images, {proof.checked} tables of weights)"
    )
    if proof.alone and proof.reached:
        units = [[tuple(x / side for x in e) for e in points] for points in sorted(proof.reached)]
        says += f", and reaches it nowhere but at {units} and images of it"
    return says + "."


def largest(
    ends: list[tuple[int, int]], pair: list[list[int]]
) -> tuple[int, list[tuple[int, ...]]]:
    """The largest sum over i < j of pair_ij (x_i - x_j)^2, every x_i at an end; all such x."""
    K = len(ends)
    x = [low for low, _ in ends]
    value = sum(pair[i][j] * (x[i] - x[j]) ** 2 for i in range(K) for j in range(i))
    best, where = value, [tuple(x)]
    totals = [sum(row) for row in pair]
    for step in range(1, 2**K):  # Gray's code: one number changes at a time
        i = (step & -step).bit_length() - 1
        low, high = ends[i]
        before, after = x[i], low + high - x[i]
        x[i] = after
        value += (after - before) * ((after + before) * totals[i] - 2 * sum(map(mul, pair[i], x)))
        if value >= best:
            best, where = value, [tuple(x)] if value > best else [*where, tuple(x)]
    return best, where


def _whole(record: Any, name: str) -> int:
    value = record.get(name)
    if type(value) is not int or value < 1:
        raise Refused(f"{name} must be a whole number, at least 1")
    return value


def _is_row(row: Any, length: int) -> bool:
    if not isinstance(row, list) or len(row) != length:
        return False
    return all(type(value) is int and value >= 0 for value in row)


def main(arguments: list[str]) -> int:
    """Verify the files that are named; 1 where one of them proves nothing."""
    for path in arguments:
        try:
            with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
                print(verify(json.load(file)))
        except (OSError, EOFError, ValueError, RecursionError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
    return 0 if arguments else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
