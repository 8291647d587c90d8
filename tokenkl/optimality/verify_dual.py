"""Verifier of certificates of local optimality, with Python's standard library and nothing else.

    python verify_dual.py certificate.json

Nothing here is shared with the program that found the certificate, and nothing is rounded: points,
multipliers and directions are whole numbers over one common denominator, and all nearest neighbours
are found again. No check is an `assert`, so that `python -O` checks as much.

What is checked, for tokens e_k with r_k = min_j |e_k - e_j| and f the mean of all r_k
("mean_distance") or the smallest ("min_distance"):

- "strict", "weak": `dual` lists nearest neighbours (k, j) with positive weights w, which sum to
  the same number for every k (for min_distance: in all). With g = the weighted mean of |e_k - e_j|,
  f <= g everywhere and f = g here; the gradient of g must be in the cone of the constraint's
  normals, with multipliers that follow from it. A motion v that does not lower f in first order
  then keeps <e_k - e_j, v_k - v_j> the same for all listed j of a k, and stays on every face whose
  multiplier is not 0. "strict": these equations have no solution but 0, as their rank modulo a
  prime shows, which is never above the true one. "weak" (in a box): all their solutions leave
  e_k - e_j as it is for every listed pair.
- "not a maximum": `direction` has v with f'(v) > 0, or, in a box, f'(v) = 0 with at least one r_k
  (min_distance: all tied pairs) that grows in second order. Distances are convex along a straight
  line, hence f(e + s v) >= f(e) + s f'(v) + what grows, for every small s > 0.

Constraints: "box", the smallest that holds the points; "ball" around 0, of the largest norm;
"power", the mean squared distance to the mean; "variance", the same for every coordinate. Where
isometries keep the constraint (rotations of a ball; shifts and rotations at fixed power; shifts at
fixed variances), "strict" is up to them. (docs/theory/optimality.md, O1 to O3.)
"""

import bisect
import heapq
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

Point = tuple[int, ...]
Row = dict[int, int]

FORMAT = "tokenkl local certificate, version 1"
OBJECTIVES = ("mean_distance", "min_distance")
CONSTRAINTS = ("box", "ball", "power", "variance")
VERDICTS = ("strict", "weak", "not a maximum")
#: Ranks are computed modulo this prime.
PRIME = 2**61 - 1
#: Bits after the point in enclosures of square roots.
BITS = 256


class Refused(ValueError):
    """A certificate that proves nothing."""


def verify(record: Any) -> str:
    """Check a certificate, a table as JSON has it; returns a sentence that says what is proved.

    Raises:
        Refused: a certificate that does not prove its verdict.
    """
    points, over = points_of(record)
    objective = _choice(record, "objective", OBJECTIVES)
    constraint = _choice(record, "constraint", CONSTRAINTS)
    verdict = _choice(record, "verdict", VERDICTS)
    squares, ties = nearest_neighbours(points)
    if objective == "min_distance":
        least = min(squares)
        ties = [near if square == least else [] for near, square in zip(ties, squares, strict=True)]
        squares = [least] * len(points)
    if verdict == "not a maximum":
        how = _ascends(record, points, objective, constraint, squares, ties)
    else:
        how = _is_maximum(record, points, objective, constraint, verdict, squares, ties)
    return (
        f"{len(points)} tokens in {len(points[0])} dimensions, {objective} in the {constraint}: "
        f"{verdict}. {how} Coordinates are whole numbers over {over}."
    )


# ---- What is read ------------------------------------------------------------------------------


def _whole(value: Any, what: str) -> int:
    if type(value) is not int:
        raise Refused(f"{what} must be a whole number")
    return value


def _choice(record: Any, name: str, choices: tuple[str, ...]) -> str:
    value = record.get(name) if isinstance(record, dict) else None
    if value not in choices:
        raise Refused(f"{name} must be one of {', '.join(choices)}")
    return value


def _rows(record: Any, name: str, width: int | None) -> list[list[int]]:
    """Rows of whole numbers, all of the same length."""
    rows = record.get(name)
    if not isinstance(rows, list) or not rows:
        raise Refused(f"{name} must be a list of rows")
    for row in rows:
        if not isinstance(row, list) or len(row) != (width or len(rows[0])) or not row:
            raise Refused(f"the rows of {name} must have the same length")
        for value in row:
            _whole(value, name)
    return rows


def points_of(record: Any) -> tuple[list[Point], int]:
    """Points as whole numbers, and what these are over."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise Refused(f"format must be {FORMAT!r}")
    points = [tuple(row) for row in _rows(record, "points", None)]
    if len(points) < 2 or len(set(points)) < len(points):
        raise Refused("points must be at least two, all different")
    if _whole(record.get("points_over"), "points_over") < 1:
        raise Refused("points_over must be at least 1")
    return points, record["points_over"]


# ---- Nearest neighbours ------------------------------------------------------------------------


def nearest_neighbours(points: list[Point]) -> tuple[list[int], list[list[int]]]:
    """Squared distance of every point to the nearest other, and all that are as near: exact."""
    n = len(points[0])
    table: dict[int, Any] = {}
    for k, point in enumerate(points):
        at = table
        for x in point[:-1]:
            at = at.setdefault(x, {})
        at[point[-1]] = k

    def ordered(at: Any, depth: int) -> tuple[list[int], list[Any]]:
        keys = sorted(at)
        return keys, [at[x] if depth == n - 1 else ordered(at[x], depth + 1) for x in keys]

    root = ordered(table, 0)
    squares: list[int] = []
    ties: list[list[int]] = []
    for k, point in enumerate(points):
        best: int | None = None
        near: list[int] = []

        def visit(node: Any, depth: int, partial: int, k: int, point: Point) -> None:
            nonlocal best, near
            keys, inner = node
            x = point[depth]
            right = bisect.bisect_left(keys, x)
            left = right - 1
            while left >= 0 or right < len(keys):  # outwards from x: nearer values first
                if left < 0 or (right < len(keys) and keys[right] - x <= x - keys[left]):
                    index, right = right, right + 1
                else:
                    index, left = left, left - 1
                square = partial + (keys[index] - x) ** 2
                if best is not None and square > best:
                    return
                if depth < n - 1:
                    visit(inner[index], depth + 1, square, k, point)
                elif inner[index] != k:
                    if best is None or square < best:
                        best, near = square, []
                    near.append(inner[index])

        visit(root, 0, 0, k, point)
        squares.append(best or 0)
        ties.append(near)
    return squares, ties


# ---- Maxima ------------------------------------------------------------------------------------


def _is_maximum(
    record: Any,
    points: list[Point],
    objective: str,
    constraint: str,
    verdict: str,
    squares: list[int],
    ties: list[list[int]],
) -> str:
    K, n = len(points), len(points[0])
    pairs = _rows(record, "dual", 3)
    owners = [k if objective == "mean_distance" else 0 for k, _, _ in pairs]
    total: dict[int, int] = {}
    for (k, j, weight), owner in zip(pairs, owners, strict=True):
        if not (0 <= k < K and 0 <= j < K) or weight < 1:
            raise Refused("dual must have rows (k, j, weight) of tokens, with weights above 0")
        if j not in ties[k]:
            raise Refused(f"dual has the pair {k}, {j}, which are no nearest neighbours")
        total[owner] = total.get(owner, 0) + weight
    if objective == "mean_distance" and len(total) < K:
        raise Refused("dual must have weights for every token")
    # r_k = ratio_k sqrt(squares[0]): the gradient of g, times this root, is rational.
    scale = {k: 1 / (_ratio(squares[k], squares[pairs[0][0]]) * total[k]) for k in total}
    common = math.lcm(*(one.denominator for one in scale.values()))
    factor = {k: int(one * common) for k, one in scale.items()}
    force = [[0] * n for _ in points]
    for (k, j, weight), owner in zip(pairs, owners, strict=True):
        for c in range(n):
            pull = weight * factor[owner] * (points[k][c] - points[j][c])
            force[k][c] += pull
            force[j][c] -= pull
    held = list(_held(points, force, constraint))
    equations = held + list(_isometries(points, constraint))
    for (k, j, _), owner in zip(pairs, owners, strict=True):
        row: Row = {}
        for c in range(n):
            step = points[k][c] - points[j][c]
            row[k * n + c], row[j * n + c] = step, -step
        equations.append({**row, K * n + owner: -1})
    columns = K * n + len(total)
    rank = rank_modulo(equations)
    multipliers = f"{len(pairs)} weights balance, with multipliers on {len(held)} normals"
    if verdict == "strict":
        if rank < columns:
            raise Refused(f"the rank is {rank}, not {columns}: some motion may keep the objective")
        return f"{multipliers}; the only motion that keeps the objective in first order is 0."
    if constraint != "box":
        raise Refused("weak maxima are only proved in a box")
    if rank < columns - _moved_as_one(points, pairs, held):
        raise Refused("a motion that keeps the objective in first order may move listed pairs")
    return (
        f"{multipliers}; what keeps the objective in first order, {columns - rank} dimensions, "
        "leaves all listed pairs as they are."
    )


def _moved_as_one(points: list[Point], pairs: list[list[int]], held: list[Row]) -> int:
    """Dimensions of the motions in a box that leave all listed pairs and held coordinates alone.

    Tokens that pairs connect then move together, in every coordinate that none of them has held.
    """
    n = len(points[0])
    parent = list(range(len(points)))

    def top(k: int) -> int:
        while parent[k] != k:
            parent[k] = k = parent[parent[k]]
        return k

    for k, j, _ in pairs:
        parent[top(k)] = top(j)
    stopped = {(top(column // n), column % n) for row in held for column in row}
    return len({top(k) for k in range(len(points))}) * n - len(stopped)


def _ratio(square: int, unit: int) -> Fraction:
    """sqrt(square / unit), which must be rational."""
    ratio = Fraction(square, unit)
    root = Fraction(math.isqrt(ratio.numerator), math.isqrt(ratio.denominator))
    if root * root != ratio:
        raise Refused("distances of nearest neighbours must be rational multiples of each other")
    return root


def _held(points: list[Point], force: list[list[int]], constraint: str) -> Iterator[Row]:
    """Linear forms that vanish on motions that keep f: one for every positive multiplier."""
    K, n = len(points), len(points[0])
    outside = Refused("dual does not balance: the gradient is no normal of the constraint")
    if constraint == "box":
        for c in range(n):
            column = [point[c] for point in points]
            low, high = min(column), max(column)
            for k, x in enumerate(column):
                pull = force[k][c]
                if low == high or (pull > 0 and x == high) or (pull < 0 and x == low):
                    yield {k * n + c: 1}
                elif pull:
                    raise outside
    elif constraint == "ball":
        largest = max(sum(x * x for x in point) for point in points)
        for k, point in enumerate(points):
            along = sum(f * x for f, x in zip(force[k], point, strict=True))
            on_sphere = sum(x * x for x in point) == largest
            if not any(force[k]):
                continue
            if not on_sphere or along < 0:
                raise outside
            if any(f * largest != along * x for f, x in zip(force[k], point, strict=True)):
                raise outside
            yield {k * n + c: x for c, x in enumerate(point) if x}
    else:
        away = _centred(points)
        groups = [range(n)] if constraint == "power" else [[c] for c in range(n)]
        for group in groups:
            inner = sum(force[k][c] * away[k][c] for k in range(K) for c in group)
            size = sum(away[k][c] ** 2 for k in range(K) for c in group)
            if inner < 0 or any(
                force[k][c] * size != inner * away[k][c] for k in range(K) for c in group
            ):
                raise outside
            if inner:
                yield {k * n + c: away[k][c] for k in range(K) for c in group if away[k][c]}


def _centred(points: list[Point]) -> list[list[int]]:
    """K times the distance from the mean."""
    sums = [sum(column) for column in zip(*points, strict=True)]
    return [[len(points) * x - s for x, s in zip(point, sums, strict=True)] for point in points]


def _isometries(points: list[Point], constraint: str) -> Iterator[Row]:
    """Motions are looked at across those of the whole that keep distances and the constraint."""
    n = len(points[0])
    if constraint in ("power", "variance"):
        for c in range(n):
            yield {k * n + c: 1 for k in range(len(points))}
    if constraint in ("ball", "power"):
        for a in range(n):
            for b in range(a):
                row = {}
                for k, point in enumerate(points):
                    row[k * n + a], row[k * n + b] = point[b], -point[a]
                yield {column: value for column, value in row.items() if value}


def rank_modulo(equations: Iterable[Row]) -> int:
    """The rank of sparse rows {column: whole number} modulo PRIME: at most that over Q."""
    rows = [{c: v % PRIME for c, v in row.items() if v % PRIME} for row in equations]
    users: dict[int, set[int]] = {}
    for i, row in enumerate(rows):
        for c in row:
            users.setdefault(c, set()).add(i)
    queue = [(len(row), i) for i, row in enumerate(rows) if row]
    heapq.heapify(queue)
    rank = 0
    while queue:  # the shortest row first, and in it the column that the fewest others have
        size, i = heapq.heappop(queue)
        row = rows[i]
        if len(row) != size or not row:
            continue
        rank += 1
        pivot = min(row, key=lambda c: len(users[c]))
        inverse = pow(row[pivot], -1, PRIME)
        for c in row:
            users[c].discard(i)
        for other in list(users[pivot]):
            target = rows[other]
            times = target[pivot] * inverse % PRIME
            for c, v in row.items():
                new = (target.get(c, 0) - times * v) % PRIME
                if new:
                    target[c] = new
                    users[c].add(other)
                elif c in target:
                    del target[c]
                    users[c].discard(other)
            if target:
                heapq.heappush(queue, (len(target), other))
        rows[i] = {}
    return rank


# ---- Ascents -----------------------------------------------------------------------------------


def _ascends(
    record: Any,
    points: list[Point],
    objective: str,
    constraint: str,
    squares: list[int],
    ties: list[list[int]],
) -> str:
    K, n = len(points), len(points[0])
    motion = [[0] * n for _ in points]
    for k, c, value in _rows(record, "direction", 3):
        if not (0 <= k < K and 0 <= c < n):
            raise Refused("direction must have rows (k, coordinate, value)")
        motion[k][c] = value
    _check_feasible(points, motion, constraint)
    slopes: dict[int, int] = {}
    grows: dict[int, bool] = {}
    for k in range(K):
        owner = k if objective == "mean_distance" else 0
        for j in ties[k]:
            step = [a - b for a, b in zip(points[k], points[j], strict=True)]
            moved = [a - b for a, b in zip(motion[k], motion[j], strict=True)]
            slope = sum(a * b for a, b in zip(step, moved, strict=True))
            # |part of the motion across the pair|^2, times the squared distance.
            across = sum(a * a for a in moved) * squares[k] - slope * slope
            if owner not in slopes or slope < slopes[owner]:
                slopes[owner], grows[owner] = slope, across > 0
            elif slope == slopes[owner]:
                grows[owner] = grows[owner] and across > 0
    shift = 2**BITS
    roots = {k: math.isqrt(squares[k] * shift * shift) for k in slopes}  # below the root, by < 1
    low = sum(
        slope * shift * shift // (roots[k] + (1 if slope > 0 else 0)) for k, slope in slopes.items()
    )
    if low > 0:
        return "The objective rises in first order along the direction."
    if constraint != "box":
        raise Refused("the direction does not ascend in first order")
    nothing = not any(slopes.values())
    if not nothing:
        unit = squares[next(iter(slopes))]
        nothing = sum(slope / _ratio(squares[k], unit) for k, slope in slopes.items()) == 0
    if not nothing or not any(grows.values()):
        raise Refused("the direction does not ascend, in first order or in second")
    count = sum(grows.values())
    return (
        f"Along the direction the first order is 0 and {count} of {len(grows)} terms grow in "
        "second order, none falls."
    )


def _check_feasible(points: list[Point], motion: list[list[int]], constraint: str) -> None:
    leaves = Refused("the direction leaves the constraint")
    if constraint == "box":
        for c in range(len(points[0])):
            column = [point[c] for point in points]
            low, high = min(column), max(column)
            for x, row in zip(column, motion, strict=True):
                if (x == high and row[c] > 0) or (x == low and row[c] < 0):
                    raise leaves
    elif constraint == "ball":
        largest = max(sum(x * x for x in point) for point in points)
        for point, row in zip(points, motion, strict=True):
            if (
                sum(x * x for x in point) == largest
                and sum(a * b for a, b in zip(point, row, strict=True)) > 0
            ):
                raise leaves
    else:
        away = _centred(points)
        inner = [
            sum(a[c] * v[c] for a, v in zip(away, motion, strict=True))
            for c in range(len(points[0]))
        ]
        if (sum(inner) if constraint == "power" else max(inner)) > 0:
            raise leaves


def main(arguments: Sequence[str]) -> int:
    """Verify the files of the command line; the exit code is 1 if one of them proves nothing."""
    code = 0
    for path in arguments:
        try:
            with open(path, encoding="utf-8") as file:
                print(f"{path}: verified. {verify(json.load(file))}")
        except (OSError, ValueError, RecursionError) as error:
            print(f"{path}: NOT verified: {error}.")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
