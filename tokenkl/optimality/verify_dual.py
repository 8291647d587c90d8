"""Verifier of local maxima of nearest-neighbour distances, with Python's standard library alone.

    python verify_dual.py certificate.json        (verify_ascent.py checks "not a maximum")

Coordinates and weights are whole numbers, nothing is rounded, and no check is an `assert`. For
tokens e_k, r_k = min_j |e_k - e_j| and f the mean of all r_k ("mean_distance") or the least one
("min_distance"), `dual` lists nearest neighbours (k, j) with weights above 0; g, the mean over k of
their weighted mean |e_k - e_j| (min_distance: one mean over all), is f here and at least f nearby.
Its gradient must be a combination of the constraint's normals, with multipliers of at least 0. A
feasible motion v that keeps f in first order then has the same <e_k - e_j, v_k - v_j> for all
listed j of a k, and stays on faces with multipliers above 0. "strict": these equations have full
rank modulo a prime, up to isometries. "weak" (in a box): v leaves all listed e_k - e_j as is.
"""

import heapq
import json
import math
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

FORMAT = "tokenkl local certificate, version 1"
CHOICES = {
    "objective": ("mean_distance", "min_distance"),
    "constraint": ("box", "ball", "power", "variance"),
    "verdict": ("strict", "weak"),
}
MOST, PRIME = 2**24, 2**61 - 1  # numbers in a list; ranks are modulo PRIME


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


def isometries(points: list[tuple[int, ...]], constraint: str) -> Iterator[dict[int, int]]:
    """What motions looked at are across: shifts, rotations, coordinates with no room in the box."""
    K, n = len(points), len(points[0])
    if constraint == "box":
        flat = [c for c, column in enumerate(zip(*points, strict=True)) if len(set(column)) == 1]
        yield from ({k * n + c: 1} for k in range(K) for c in flat)
    if constraint in ("power", "variance"):
        yield from ({k * n + c: 1 for k in range(K)} for c in range(n))
    if constraint in ("ball", "power"):
        for a, b in ((i, j) for i in range(n) for j in range(i)):
            turned = {k * n + a: -point[b] for k, point in enumerate(points)}
            yield turned | {k * n + b: point[a] for k, point in enumerate(points)}


def rank_modulo(equations: Iterable[dict[int, int]]) -> int:
    """The rank of sparse rows {column: whole number} modulo PRIME: at most the true one."""
    table = [{c: v % PRIME for c, v in row.items() if v % PRIME} for row in equations]
    users: dict[int, set[int]] = {c: set() for row in table for c in row}
    for i, row in enumerate(table):
        for c in row:
            users[c].add(i)
    queue, rank = sorted((len(row), i) for i, row in enumerate(table) if row), 0
    while queue:  # the shortest row first, and in it the column that the fewest others have
        size, i = heapq.heappop(queue)
        if len(row := table[i]) != size or not row:
            continue
        rank, table[i], pivot = rank + 1, {}, min(row, key=lambda c: len(users[c]))
        for c in row:
            users[c].discard(i)
        inverse = pow(row[pivot], -1, PRIME)
        for other in list(users[pivot]):
            target = table[other]
            times = target[pivot] * inverse % PRIME
            for c, v in row.items():
                if new := (target.pop(c, 0) - times * v) % PRIME:
                    target[c] = new
                (users[c].add if new else users[c].discard)(other)
            heapq.heappush(queue, (len(target), other))
    return rank


def verify(record: Any) -> str:
    """Check a certificate, a table as JSON has it; says what is proved, or raises ValueError."""
    points, objective, constraint, verdict = read(record)
    K, n, mean = len(points), len(points[0]), objective == "mean_distance"
    pairs, (squares, ties) = rows(record, "dual", 3), nearest_neighbours(points)
    least, total = min(squares), dict.fromkeys(range(K if mean else 1), 0)
    for k, j, weight in pairs:
        need(0 <= k < K and 0 <= j < K and weight > 0, "dual must be (k, j, weight above 0)")
        need(j in ties[k] and (mean or squares[k] == least), f"{k}, {j} are not nearest")
        total[k * mean] += weight
    need(all(total.values()), "dual must have weights for every token")
    shares = {}  # of a weight in g, times the root of least, over r_k: times this root, rational
    for k, weight in total.items():
        square = Fraction(squares[k] if mean else least, least)
        root = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
        need(root * root == square, "nearest distances must be rational multiples of each other")
        shares[k] = 1 / (root * weight)
    common = math.lcm(*(share.denominator for share in shares.values()))
    force, held, system = dict.fromkeys(range(K * n), 0), [], list(isometries(points, constraint))
    for k, j, weight in pairs:
        system.append({K * n + k * mean: -1})
        pull = weight * int(shares[k * mean] * common)
        for c, (a, b) in enumerate(zip(points[k], points[j], strict=True)):
            for i, step in ((k * n + c, a - b), (j * n + c, b - a)):
                force[i] += pull * step
                system[-1][i] = step
    for face in faces(points, constraint):
        inner, size = sum(a * force[i] for i, a in face.items()), sum(a * a for a in face.values())
        if inner > 0 and all(force[i] * size == inner * a for i, a in face.items()):
            held.append(face)
            force.update(dict.fromkeys(face, 0))
    need(not any(force.values()), "dual does not balance: the gradient is no normal")
    rank = rank_modulo(system + held)
    says = f"{K} tokens, {objective}, {constraint}: {verdict}; {len(pairs)} weights balance,"
    if verdict == "strict":
        need(rank == K * n + len(total), f"the rank {rank} leaves other motions")
        return f"{says} and only 0 keeps the objective in first order"
    need(constraint == "box", "weak maxima are only proved in a box")
    still = [{k * n + c: 1, j * n + c: -1} for k, j, _ in pairs for c in range(n)]  # unimodular
    still += [*held, *isometries(points, "box"), *({K * n + owner: 1} for owner in total)]
    need(rank == rank_modulo(still), "a motion that keeps the objective may move listed pairs")
    return f"{says} and what keeps the objective leaves all listed pairs as they are"


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
