"""Verifier of directions in which nearest-neighbour distances grow: standard library alone.

    python verify_ascent.py certificate.json      (verify_dual.py checks "strict" and "weak")

Coordinates are whole numbers, nearest neighbours are found again, nothing is rounded but roots that
are enclosed, and no check is an `assert`. For tokens e_k, r_k = min_j |e_k - e_j|, f the mean of
all r_k ("mean_distance") or the least ("min_distance"), `direction` has a motion v that stays in
the constraint in first order, as rows (token, coordinate, value). No local maximum is here if
f'(v) > 0, the mean (or least) over k of min <e_k - e_j, v_k - v_j> / r_k over the nearest j; or, in
a box, if f'(v) = 0 and at least one r_k (min_distance: every tied pair) grows in second order. For
distances are convex along a line: f(e + s v) >= f(e) + s f'(v) + what grows, for small s > 0.
(docs/theory/optimality.md, O1 and O2.)
"""

import json
import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

FORMAT = "tokenkl local certificate, version 1"
CHOICES = {
    "objective": ("mean_distance", "min_distance"),
    "constraint": ("box", "ball", "power", "variance"),
    "verdict": ("not a maximum",),
}
MOST = 2**24  # numbers in a list
ROOT_BITS = 256  # behind the point, of square roots that are enclosed


def need(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def rows(record: Any, name: str, width: int, bits: int = 256) -> Any:
    """Lists of so many whole numbers each, looked through before any work."""
    found = record.get(name)
    need(type(found) is list and 0 < len(found) <= MOST // width, f"{name} must be a list of rows")
    need(all(type(x) is list and len(x) == width for x in found), f"{name}: {width} numbers a row")
    whole = all(type(x) is int and x.bit_length() <= bits for row in found for x in row)
    need(whole, f"{name} must have whole numbers of at most {bits} bits")
    return found


def read(record: Any) -> list[Any]:
    """Points, whole numbers over a common one, and what is claimed of them."""
    need(isinstance(record, dict) and record.get("format") == FORMAT, f"format must be {FORMAT!r}")
    for name, allowed in CHOICES.items():
        need(record.get(name) in allowed, f"{name} must be one of {', '.join(allowed)}")
    over, table = record.get("points_over"), record.get("points")
    need(type(over) is int and 0 < over < 1 << 4096, "points_over must be above 0, whole")
    n = len(table[0]) if type(table) is list and table and type(table[0]) is list else 0
    need(0 < n <= 256, "points must be rows of 1 to 256 numbers")
    points = [tuple(row) for row in rows(record, "points", n, 4096)]
    need(len(set(points)) == len(points) > 1, "points must be at least two, all different")
    return [points, *(record[name] for name in CHOICES)]


def nearest_neighbours(points: list[tuple[int, ...]]) -> tuple[list[int], list[list[int]]]:
    """Squared distance of every point to the nearest other, and all that are as near: exact."""
    n = len(points[0])
    tree: Any = {}  # of one coordinate after the other, to indices
    found: list[Any] = [[math.inf] for _ in points]

    def visit(k: int, node: Any, c: int, partial: int, near: list[Any]) -> None:
        if c == n and node != k:  # near: the smallest square so far, and who is there
            near[:] = [*(near if partial == near[0] else [partial]), node]
        for y in sorted(node, key=lambda y: abs(y - points[k][c])) if c < n else ():
            if (square := partial + (y - points[k][c]) ** 2) > near[0]:
                return
            visit(k, node[y], c + 1, square, near)

    for k, point in enumerate(points):
        at = tree
        for x in point[:-1]:
            at = at.setdefault(x, {})
        at[point[-1]] = k
    for k, near in enumerate(found):
        visit(k, tree, 0, 0, near)
    return [near[0] for near in found], [near[1:] for near in found]


def faces(points: list[tuple[int, ...]], constraint: str) -> Iterator[dict[int, int]]:
    """Rows {column k n + c: a}: a motion v is feasible in first order if a.v <= 0 for every one."""
    K, n, columns = len(points), len(points[0]), list(zip(*points, strict=True))
    if constraint == "box":  # the smallest that holds the points
        for c, column in enumerate(columns):
            for sign, end in ((1, max(column)), (-1, min(column))):
                yield from ({k * n + c: sign} for k, x in enumerate(column) if x == end)
    elif constraint == "ball":  # around 0, of the largest norm
        largest = max(norms := [sum(x * x for x in point) for point in points])
        sphere = (k for k, norm in enumerate(norms) if norm == largest)
        yield from ({k * n + c: x for c, x in enumerate(points[k])} for k in sphere)
    else:  # the mean squared distance to the mean: "power", or "variance", that of each coordinate
        sums = [sum(column) for column in columns]
        for group in [range(n)] if constraint == "power" else [[c] for c in range(n)]:
            yield {k * n + c: K * columns[c][k] - sums[c] for c in group for k in range(K)}


def verify(record: Any) -> str:
    """Check a certificate, a table as JSON has it; says what is proved, or raises ValueError."""
    points, objective, constraint, verdict = read(record)
    K, n = len(points), len(points[0])
    moves, (squares, ties) = rows(record, "direction", 3), nearest_neighbours(points)
    least = min(squares) if objective == "min_distance" else None  # whose terms are one
    owners = {k: k if least is None else 0 for k in range(K) if least in (None, squares[k])}
    motion = [[0] * n for _ in points]
    for k, c, value in moves:
        need(0 <= k < K and 0 <= c < n, "direction must have rows (token, coordinate, value)")
        motion[k][c] = value
    for face in faces(points, constraint):
        outwards = sum(a * motion[i // n][i % n] for i, a in face.items())
        need(outwards <= 0, "the direction leaves the constraint")
    terms: dict[int, list[Any]] = {}  # least slope times distance, its square, and does it grow
    for k, owner in owners.items():
        for j in ties[k]:
            step = [a - b for a, b in zip(points[k], points[j], strict=True)]
            moved = [a - b for a, b in zip(motion[k], motion[j], strict=True)]
            slope = sum(a * b for a, b in zip(step, moved, strict=True))
            grows = sum(a * a for a in moved) * squares[k] > slope * slope  # not along the pair
            known = terms.setdefault(owner, [slope, squares[k], grows])
            if slope < known[0]:
                known[:] = [slope, squares[k], grows]
            elif slope == known[0]:
                known[2] = known[2] and grows
    says = f"{K} tokens, {objective}, {constraint}: {verdict}; along the direction "
    shift = 1 << ROOT_BITS
    low = 0
    for slope, square, _ in terms.values():
        root = math.isqrt(square * shift * shift)  # below the true one, by less than 1
        low += slope * shift * shift // (root + (slope > 0))
    if low > 0:
        return f"{says}the objective rises in first order"
    need(constraint == "box", "the direction does not ascend in first order")
    unit = next(iter(terms.values()))[1]
    still = not any(slope for slope, _, _ in terms.values())
    still = still or sum(s / ratio(square, unit) for s, square, _ in terms.values()) == 0
    count = sum(grows for _, _, grows in terms.values())
    need(still and count > 0, "the direction does not ascend, in first order or in second")
    return f"{says}it stays in first order, {count} of {len(terms)} terms grow in second order"


def ratio(square: int, unit: int) -> Fraction:
    """The root of a quotient."""
    quotient = Fraction(square, unit)
    root = Fraction(math.isqrt(quotient.numerator), math.isqrt(quotient.denominator))
    need(root * root == quotient, "nearest distances must be rational multiples of each other")
    return root


def main(paths: list[str]) -> int:
    refused = 0
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                print(f"{path}: verified. {verify(json.load(file))}")
        except (OSError, ValueError, RecursionError) as error:
            refused = 1
            print(f"{path}: NOT verified: {error}.")
    return refused


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
