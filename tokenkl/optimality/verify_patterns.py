"""Verifier of upper bounds by patterns, with Python's standard library and nothing else.

    python verify_patterns.py patterns.json

K points of the cube [0, m]^n lie in cells of side 1 (any of them, where a point is on a wall). A
pattern says how many points each of the m^n cells has. For weights w_ij >= 0, j != i, whose rows
sum to S, S sum_i r_i^2 <= sum_ij w_ij |e_i - e_j|^2, as r_i = min_j |e_i - e_j| is at most a mean.
The right side is a sum over coordinates of convex functions of the K numbers there, each of which
is largest where every number is at an end of its cell: 2^K cases a coordinate, and all are tried.
If that is at most S times the limit for some weights of every pattern, sum_i r_i^2 is at most the
limit for all points. Patterns that a symmetry of the cube maps to each other need weights once;
that all are there is seen by counting: orbits are listed, and have to be all of the patterns.

Whole numbers throughout; no check is an `assert`, so that `python -O` checks as much. How weights
were found (linear programmes) is no part of the proof. (docs/theory/optimality.md, O12.)
"""

import itertools
import json
import math
import sys
from typing import Any

FORMAT = "tokenkl pattern bound, version 1"


class Refused(ValueError):
    """A file that proves nothing."""


def verify(record: Any) -> str:
    """Check a file, a table as JSON has it; returns a sentence that says what is proved.

    Raises:
        Refused: a file that does not prove its limit.
    """
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise Refused(f"format must be {FORMAT!r}")
    n, K, m, scale, limit = (_whole(record, name) for name in ("n", "K", "m", "scale", "limit"))
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
        counts, weights = _pattern(row, len(cells), K, scale)
        found = largest_sum(counts, weights, cells, n)
        if found > limit * scale:
            raise Refused(f"pattern {counts} reaches {found}, more than {limit * scale}")
        for one in symmetries:
            image = [0] * len(cells)
            for index, count in enumerate(counts):
                image[one[index]] = count
            covered.add(tuple(image))
    every = math.comb(K + len(cells) - 1, K)
    if len(covered) != every:
        raise Refused(f"{len(covered)} of {every} patterns are covered")
    return (
        f"{K} points of a cube of side {m} in {n} dimensions: the sum of r^2 is at most {limit} "
        f"({len(rows)} patterns with weights, {every} with their images)."
    )


def largest_sum(
    counts: list[int], weights: list[list[int]], cells: list[tuple[int, ...]], n: int
) -> int:
    """The largest sum of w_ij |e_i - e_j|^2 over points at corners of their cells."""
    where = [cell for cell, count in zip(cells, counts, strict=True) for _ in range(count)]
    K = len(where)
    pair = [[weights[i][j] + weights[j][i] for j in range(K)] for i in range(K)]
    total = 0
    for c in range(n):
        x = [cell[c] for cell in where]
        value = sum(pair[i][j] * (x[i] - x[j]) ** 2 for i in range(K) for j in range(i))
        best = value
        up = [False] * K
        for step in range(1, 2**K):  # Gray's code: one number changes at a time
            i = (step & -step).bit_length() - 1
            by = -1 if up[i] else 1
            up[i] = not up[i]
            row, here = pair[i], x[i]
            value += sum(row[j] * (2 * by * (here - x[j]) + 1) for j in range(K) if j != i)
            x[i] = here + by
            best = max(best, value)
        total += best
    return total


def _whole(record: Any, name: str) -> int:
    value = record.get(name)
    if type(value) is not int or value < 1:
        raise Refused(f"{name} must be a whole number, at least 1")
    return value


def _pattern(row: Any, cells: int, K: int, scale: int) -> tuple[list[int], list[list[int]]]:
    """Counts of the cells, and weights of the points."""
    if not isinstance(row, list) or len(row) != 2:
        raise Refused("a pattern must be counts and weights")
    counts, weights = row
    if not _is_row(counts, cells) or sum(counts) != K:
        raise Refused("counts must be one for each cell, and sum to K")
    if not isinstance(weights, list) or len(weights) != K:
        raise Refused("weights must have a row for each point")
    for i, one in enumerate(weights):
        if not _is_row(one, K) or one[i] != 0 or sum(one) != scale:
            raise Refused(f"weights must be at least 0, 0 for a point itself, and sum to {scale}")
    return counts, weights


def _is_row(row: Any, length: int) -> bool:
    if not isinstance(row, list) or len(row) != length:
        return False
    return all(type(value) is int and value >= 0 for value in row)


def main(arguments: list[str]) -> int:
    """Verify the files that are named; 1 where one of them proves nothing."""
    for path in arguments:
        try:
            with open(path, encoding="utf-8") as file:
                print(verify(json.load(file)))
        except (OSError, ValueError, RecursionError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
    return 0 if arguments else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
