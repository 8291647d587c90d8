"""Proved upper bounds of D, the mean nearest-neighbour distance of K points in [-1, 1]^n.

One function for each inequality, all of them proved in docs/theory/optimality.md, O8 to O12 and
O19; `nn_distance_bound` gives the smallest.
"""

from __future__ import annotations

import functools
import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._files import PathLike
from tokenkl._formats import reading
from tokenkl._validation import check_count, reject
from tokenkl.estimate import Bound
from tokenkl.optimality.verify_patterns import FORMATS, verify

#: Most dimensions, and points, that are floating-point numbers with room to spare.
LARGEST = 1e300
#: Cases that weights of patterns close, as files (n, K): `verify_patterns` checks them in tests,
#: and here they are believed, since one of them takes it seconds.
PATTERNS = {
    (3, 8): "patterns_3_8.json",
    **{(2, K): f"patterns_2_{K}.json.gz" for K in (5, 6, 7, 8, 9)},
}
PROOFS = Path(__file__).parent / "proofs"
#: Of `voronoi_bound`: fewest points, what a side of a cell and a length of wall cost, and corners.
FEWEST, SIDES, EDGES, CORNERS = 16, 1 / 80, 0.3085, 1.2
#: Cells of squares in which integrals are bounded from below: to choose by, and to state.
COARSE, FINE = 256, 4096
#: What rounding may take from such an integral, relative to it.
ROUNDING = 1e-9
#: How far a bound may stay above what it tends to as intervals become small.
TOLERANCE = 2e-5
#: Most points of a file of patterns: one table of weights has 2^K cases for each coordinate.
MAX_POINTS = 12
#: Most dimensions of Blichfeldt's bound.
MAX_DIMENSIONS = 64


def line_bound(K: int) -> Bound:
    """D <= 2/(K - 1) on [-1, 1], which equal steps attain. (docs/theory/optimality.md, O8)"""
    K = check_count(K, "K", minimum=2)
    return _bound(2 / (K - 1), "gaps on a line", "")


def plotkin_bound(n: int, K: int) -> Bound:
    """mean r^2 <= 8 n floor(K^2/4) / (K (K - 1)), hence D <= its root; at most 2 n K / (K - 1).

    Sums of squared distances of all pairs (Plotkin 1960 for codes; docs/theory/optimality.md, O9).
    """
    n, K = check_count(n, "n"), check_count(K, "K", minimum=2)
    value = math.sqrt(8 * n * (K * K // 4) / (K * (K - 1)))
    return _bound(value, "Plotkin", "Plotkin, IRE Trans. Inf. Theory 6 (1960) 445-450")


def newman_bound(K: int) -> Bound:
    """D <= 4/sqrt(K) in the plane, from a tour whose squared steps sum to at most 16.

    In the unit square there is a closed tour of any points whose squared steps sum to at most 4
    (Newman, A Problem Seminar, 1982, problem 73); docs/theory/optimality.md, O10.
    """
    K = check_count(K, "K", minimum=2)
    return _bound(4 / math.sqrt(K), "Newman's tour", "Newman, A Problem Seminar (1982), problem 73")


def voronoi_bound(K: int) -> Bound:
    """D <= (2.468 + 4 sqrt(K / sqrt(12) + 1.2)) / K in the plane, from 16 points on.

    Areas of the Voronoi cells within the square: cells of an inscribed radius have on average no
    more than six sides, and walls cost what they save. For many points it is what a hexagonal
    lattice has. (Fejes Toth's argument; docs/theory/optimality.md, O19.)

    Raises:
        ValueError: K below 16.
    """
    K = check_count(K, "K", minimum=FEWEST)
    value = (8 * EDGES + 4 * math.sqrt(K / math.sqrt(12) + CORNERS)) / K
    citation = "after L. Fejes Toth, Lagerungen in der Ebene, auf der Kugel und im Raum (1953)"
    return _bound(value * (1 + ROUNDING), "Voronoi cells", citation)


def pattern_bound(n: int, K: int) -> Bound:
    """What weights for every pattern of cells prove: D <= 2 for (3, 8), D <= 1 for (2, 9).

    Five to eight points of the square: 1.422, 1.21, 1.11 and 1.0375, where 1.4211, 1.2087, 1.1081
    and 1.0352 are known.

    (docs/theory/optimality.md, O12; `python verify_patterns.py FILE` checks it in whole numbers,
    without tokenkl.)

    Raises:
        ValueError: n and K for which there are no such weights.
    """
    if (n, K) not in PATTERNS:
        reject("n, K", (n, K), f"one of {', '.join(map(str, PATTERNS))}")
    return _bound(_patterns(n, K), "patterns of cells", "docs/theory/optimality.md, O12")


@functools.cache
def _patterns(n: int, K: int) -> float:
    record = _record(PROOFS / PATTERNS[n, K])
    limit = Fraction(record["limit"], record.get("over", 1))
    unit = Fraction(2, record["m"])  # of a cube of side m
    if not FORMATS[record["format"]]:
        return math.sqrt(unit**2 * limit / K)
    value = float(unit * limit / K)
    return value if value >= unit * limit / K else math.nextafter(value, math.inf)


def _record(path: PathLike) -> dict[str, Any]:
    with reading(path, "a certificate, as JSON") as file:
        record: dict[str, Any] = file.json(dict[str, Any])
        return record


def holds_patterns(path: PathLike) -> bool:
    """Whether a file of JSON says that it has weights for patterns of cells.

    Raises:
        FileError: a file that is missing, or no JSON.
    """
    return _record(path).get("format") in FORMATS


def check_patterns(path: PathLike) -> str:
    """What such a file proves, by `verify_patterns`; all of it is checked in whole numbers.

    Raises:
        ValueError: a file that does not prove its limit, or one of too many points or cells.
    """
    record = _record(path)
    cells = [record.get(name) for name in ("K", "n", "m")]
    for value, name, most in zip(cells, ("K", "n", "m"), (MAX_POINTS, 3, 4), strict=True):
        if type(value) is not int or not 1 <= value <= most:
            reject(name, str(value), f"a whole number from 1 to {most}, or it takes too long")
    return verify(record)


def blichfeldt_bound(n: int, K: int) -> Bound:
    """D of K points in [-1, 1]^n, from how much room weighted balls around them need.

    sum_k (1 - 2 |x - e_k|^2 / r_k^2)_+ <= 1 at every x. Its integral over [-1 - a, 1 + a]^n is
    at least sum_k I_a(r_k), I_a(r) what a point in a corner of the box contributes; with any
    multiplier, D <= lambda (2 + 2 a)^n / K + max_r (r - lambda I_a(r)). While all of a ball's
    orthant fits, a = 0 gives D <= 4 sqrt(2) ((n + 2) / (2 kappa_n K))^(1/n). I_a is bounded from
    below by convexity, the maximum over r interval by interval. (Blichfeldt 1929; radii that
    differ: docs/theory/optimality.md, O11.)

    Raises:
        ValueError: n above 64.
    """
    n, K = check_count(n, "n"), check_count(K, "K", minimum=2)
    if n > MAX_DIMENSIONS:
        reject("n", n, f"at most {MAX_DIMENSIONS}")
    return _bound(_blichfeldt(n, K), "Blichfeldt", "Blichfeldt, Math. Ann. 101 (1929) 605-608")


def nn_distance_bound(n: int, K: int) -> Bound:
    """The smallest proved upper bound of D, the mean nearest-neighbour distance in [-1, 1]^n.

    No K points in the box have a larger mean of the distances to their nearest neighbours, wherever
    they are; `name` says by which inequality. `tk.best_codebook` has what is reached.
    (docs/theory/optimality.md, O8 to O12, O19.)

    Args:
        n: dimensions, up to 64 for all inequalities; beyond, Plotkin's alone.
        K: number of points, at least 2.

    Raises:
        ValueError: n below 1, K below 2, or either above 1e300.

    Example:
        >>> import tokenkl as tk
        >>> tk.nn_distance_bound(3, 8)  # FSQ 2^3 has 2: no eight points have more
        <D <= 2.0 [patterns of cells]>
        >>> tk.nn_distance_bound(2, 9)  # nor nine points of the square
        <D <= 1.0 [patterns of cells]>
        >>> tk.nn_distance_bound(2, 4)
        <D <= 2.0 [Newman's tour]>
    """
    n, K = check_count(n, "n"), check_count(K, "K", minimum=2)
    for name, value in (("n", n), ("K", K)):
        if value > LARGEST:
            reject(name, "a larger one", f"at most {LARGEST:g}")
    if n == 1:
        return line_bound(K)
    found = [plotkin_bound(n, K)]
    if n == 2:
        found.append(newman_bound(K) if K < FEWEST else voronoi_bound(K))
    if (n, K) in PATTERNS:
        found.append(pattern_bound(n, K))
    elif n <= MAX_DIMENSIONS:
        found.append(blichfeldt_bound(n, K))
    return min(found, key=lambda one: float(one.value))


def _bound(value: float, name: str, citation: str) -> Bound:
    return Bound(value, "upper", name, citation=citation, quantity="D")


# ---- Blichfeldt --------------------------------------------------------------------------------


class Corner:
    """Lower bounds of I_a(r), the integral of (1 - 2 |x|^2 / r^2)_+ over [-a, 2 + a]^n."""

    def __init__(self, n: int, a: float, cells: int) -> None:
        self.n, self.a, self.cells = n, a, cells
        self._roots = np.sqrt(np.arange(cells + 1) / cells)
        self._known: dict[float, float] = {}

    def __call__(self, r: float) -> float:
        """At most I_a(r), and within about cells^-1.5 of it.

        In units of r / sqrt(2) it is the integral of (1 - s)_+, s the sum of the squares of n
        coordinates. Squares of one coordinate fall into cells; their mean in one is below its
        middle, as their density falls. (1 - s)_+ is convex and falls: putting all that is in a cell
        at the cell's middle makes the integral smaller.
        """
        if r not in self._known:
            unit = r / math.sqrt(2)
            ends = [np.minimum(self._roots, end / unit) for end in (self.a, 2 + self.a)]
            mass = np.diff(ends[0]) + np.diff(ends[1])
            total = _power(mass, self.n)
            left = 1 - (np.arange(self.cells) + self.n / 2) / self.cells
            integral = float(total @ np.maximum(left, 0.0))
            self._known[r] = unit**self.n * integral * (1 - ROUNDING)
        return self._known[r]

    def radius(self, value: float, largest: float) -> float:
        """About the r at which I_a(r) is a value; `largest` where it is smaller there."""
        if self(largest) <= value:
            return largest
        low, high = 0.0, largest
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if self(middle) < value else (low, middle)
        return high


def _power(mass: Float[np.ndarray, " cells"], n: int) -> Float[np.ndarray, " cells"]:
    """The first cells of the n-fold convolution of a mass with itself, all terms at least 0.

    By Fourier transforms, in which rounding is at most some 1e-15 of the largest sum.
    """
    result: np.ndarray | None = None
    square = mass
    size = 2 * mass.size
    while True:
        if n % 2:
            result = square if result is None else _product(result, square, size)
        n //= 2
        if not n:
            assert result is not None
            return result
        square = _product(square, square, size)


def _product(a: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    left = np.fft.rfft(a, size)
    right = left if b is a else np.fft.rfft(b, size)
    found = np.fft.irfft(left * right, size)[: a.size]
    return np.maximum(found, 0.0)


@functools.lru_cache(maxsize=1024)
def _blichfeldt(n: int, K: int) -> float:
    largest = 2 * math.sqrt(n)

    def about(a: float) -> float:
        return Corner(n, a, COARSE).radius((2 + 2 * a) ** n / K, largest)

    # The best margin a: a coarse look, then between the neighbours of the best.
    margins = np.linspace(0, 2, 17)
    values = [about(a) for a in margins]
    best = int(np.argmin(values))
    inner = np.linspace(margins[max(0, best - 1)], margins[min(16, best + 1)], 9)
    a = float(min(inner, key=about))
    room = (2 + 2 * a) ** n / K
    corner = Corner(n, a, FINE)
    r = corner.radius(room, largest)
    if r >= largest:
        return largest
    step = 1e-4 * r
    slope = (corner(r + step) - corner(r - step)) / (2 * step)
    return min(largest, room / slope + _largest_excess(corner, 1 / slope, r, largest))


def _largest_excess(corner: Corner, weight: float, near: float, largest: float) -> float:
    """An upper bound of max over 0 < r <= largest of r - weight I(r), close to it.

    On [u, v]: I(r) >= I(u), and I(r) >= (r/v)^n I(v), since I(r) grows and I(r) / r^n falls.
    """
    n = corner.n

    def above(u: float, v: float) -> float:
        by_growth = v - weight * corner(u) if u > 0 else v
        q = weight * corner(v) / v**n
        turn = (1 / (n * q)) ** (1 / (n - 1)) if n > 1 else v
        r = min(max(turn, u), v)
        return min(by_growth, r - q * r**n)

    marks = sorted({0.0, *np.linspace(0, largest, 17)[1:].tolist(), near})
    parts = [(above(u, v), u, v) for u, v in itertools.pairwise(marks)]
    reached = max(v - weight * corner(v) for v in marks[1:])
    for _ in range(4000):
        top, u, v = max(parts)
        if top <= reached + TOLERANCE:
            break
        parts.remove((top, u, v))
        middle = (u + v) / 2
        reached = max(reached, middle - weight * corner(middle))
        parts += [(above(u, middle), u, middle), (above(middle, v), middle, v)]
    return max(parts)[0]
