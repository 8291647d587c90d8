"""Codebooks cut from lattices, and the nearest points of lattices.

The decoders are those of Conway and Sloane (1982, IEEE Trans. Inf. Theory 28, 227-232; Sphere
Packings, Lattices and Groups, chapter 20): a nearest point of Z^n is found coordinate by
coordinate; one of D_n, the points of Z^n with an even sum, by changing the cheapest coordinate
where the sum is odd; one of a union of translates by trying each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal, TypedDict, final

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl._formats import conform
from tokenkl._validation import (
    MAX_COORDINATES,
    MAX_ELEMENTS,
    as_float_array,
    check_choice,
    check_count,
    check_ids,
    check_positive,
    check_vectors,
    reject,
)
from tokenkl.codebooks.base import Codebook, PointCodebook, Reader, Record
from tokenkl.codebooks.digits import digits_of
from tokenkl.codebooks.product import ProductCodebook
from tokenkl.codebooks.registry import register, register_spec

#: Most different distances of a cut that are counted.
MAX_SHELLS = 2**17
#: Most tokens of a ball, and most numbers for their coordinates.
MAX_BALL, MAX_BALL_NUMBERS = 2**14, 2**18


def e8_codebook(prior: Float[Any, "6561"] | None = None) -> PointCodebook:
    """6561 points of the E8 lattice in [-1, 1]^8, as many as FSQ 3^8 has.

    {0,1,2}^8 with an even sum and {1/2,3/2,5/2}^8 with an odd sum, mapped by x -> (x - 5/4)/(5/4).
    Every nearest neighbour is at sqrt(2)/1.25 = 1.1314, where FSQ 3^8 has 1. (docs/theory/index.md,
    statement 17; E8: Conway and Sloane, Sphere Packings, Lattices and Groups, chapter 4.)
    """
    whole = ProductCodebook([np.arange(3.0)] * 8).points
    even = whole[whole.sum(axis=1) % 2 == 0]
    shifted = whole + 0.5
    odd = shifted[shifted.sum(axis=1) % 2 == 1]
    return PointCodebook((np.concatenate([even, odd]) - 1.25) / 1.25, prior, name="E8 cut")


def e6_codebook(K: int = 729) -> PointCodebook:
    """The K points of the lattice E6 nearest to a point in general position; 729 as FSQ 3^6.

    E6 as triples of Eisenstein integers a + b w that agree modulo sqrt(-3), that is in a + b modulo
    3; it is the densest lattice in six dimensions. (Conway and Sloane, Sphere Packings, Lattices
    and Groups, chapter 4, section 8.3.) Neighbours are sqrt(3) apart.

    Raises:
        ValueError: K below 1, or above 2000, where the ball leaves the list of lattice points.
    """
    if check_count(K, "K") > 2000:
        reject("K", K, "a whole number from 1 to 2000")
    w = np.exp(2j * np.pi / 3)
    classes: list[list[complex]] = [[], [], []]
    for a, b in itertools.product(range(-5, 6), repeat=2):
        if abs(a + b * w) <= 4.1:
            classes[(a + b) % 3].append(a + b * w)
    points = np.concatenate([np.array(list(itertools.product(one, repeat=3))) for one in classes])
    real = np.concatenate([points.real, points.imag], axis=1)
    real = real + np.array([0.11, 0.07, 0.03, 0.05, 0.02, 0.13])  # no two points equally far
    return PointCodebook(real[np.argsort((real**2).sum(axis=1))[:K]], name="E6 ball")


def ball_codebook(K: int, n: int) -> PointCodebook:
    """K points of a dense lattice in n dimensions inside a ball, whatever K is.

    Below eight dimensions the lattice is D_n, from eight on D_n+ (E8 in eight; for odd n it is no
    lattice, and as dense): points are sqrt(2) apart. They are those nearest to one of a few
    centres, the one that leaves them the least average power. (Conway and Sloane, Sphere Packings,
    Lattices and Groups, chapter 4, section 7.)

    Raises:
        ValueError: K or n below 1, K above 2**14, K n above 2**18, or a shell of far more points.

    Example:
        >>> ball = ball_codebook(240, 8)
        >>> ball.K, round(ball.min_distance() ** 2, 9)
        (240, 2.0)
    """
    if check_count(K, "K") > MAX_BALL:
        reject("K", f"{K:,}", f"at most {MAX_BALL:,}")
    if check_count(n, "n") * K > MAX_BALL_NUMBERS:
        reject("n", n, f"at most {MAX_BALL_NUMBERS // K:,} for K = {K:,}")
    rng = np.random.default_rng(0)
    # No two points are equally far from a random centre: beside a token, a deep hole, or anywhere.
    corner = np.full(n, 0.5) if n < 8 else np.eye(n)[0]
    near = 0.02 * rng.random((3, n))
    centres = [near[0], near[1] + corner, near[2] + corner / 2]
    if n <= 16:  # beyond, no ball around such a centre has few points
        centres.extend(rng.random((5, n)))
    balls = [ball for ball in (_nearest_in_lattice(K, one) for one in centres) if ball is not None]
    if not balls:
        reject("K", f"{K:,}", f"smaller in {n} dimensions, where a shell has too many points")
    points = min(balls, key=lambda ball: float(ball.var(axis=0).sum()))
    lattice = "E8" if n == 8 else f"D{n}" + "+" * (n > 8)
    return PointCodebook(points, name=f"{lattice} ball")


def _nearest_in_lattice(K: int, centre: Float[np.ndarray, " n"]) -> Float[np.ndarray, "K n"] | None:
    """The K points of D_n, from n = 8 on of D_n+, that are nearest to a centre.

    None where the ball that has them has far more.
    """
    halves = (0.0, 0.5) if centre.size >= 8 else (0.0,)
    squared = 2.2  # beyond the nearest neighbours of a token; balls grow until one has K points
    found = np.zeros((0, centre.size))
    while len(found) < K:
        parts = []
        for half in halves:
            part = _within(centre - half, squared, 2**16 + 4 * K)
            if part is None:
                return None
            parts.append(part + half)
        found = np.concatenate(parts)
        squared *= 1 + 1 / centre.size
    order = np.argsort(((found - centre) ** 2).sum(axis=1), kind="stable")
    return np.asarray(found[order[:K]])


def _within(
    centre: Float[np.ndarray, " n"], squared: float, most: int
) -> Int[np.ndarray, "points n"] | None:
    """Points of D_n at most so far (squared) from a centre; None where there are too many."""
    gaps = (centre - np.round(centre)) ** 2
    rest = np.append(np.cumsum(gaps[::-1])[::-1], 0.0)
    if rest[0] > squared:
        return np.zeros((0, centre.size), np.int32)
    points, used = np.zeros((1, centre.size), np.int32), np.zeros(1)
    for index, middle in enumerate(centre):
        reach = math.sqrt(squared - rest[0] + gaps[index])
        steps = np.arange(math.ceil(middle - reach), math.floor(middle + reach) + 1)
        total = used[:, None] + (steps - middle) ** 2
        row, column = np.nonzero(total + rest[index + 1] <= squared)
        if row.size > most:
            return None
        points, used = points[row], total[row, column]
        points[:, index] = steps[column]
    return points[points.sum(axis=1) % 2 == 0]


# ---- Nearest points of whole lattices -------------------------------------------------------


def nearest_zn(x: Float[Any, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """The nearest point of Z^n; the smaller number where a coordinate lies half way.

    Raises:
        ValueError: x without an axis, or not finite.
    """
    return np.ceil(_vectors(x) - 0.5) + 0.0


def nearest_dn(x: Float[Any, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """The nearest point of D_n, the points of Z^n with an even sum.

    Among several the first in lexicographic order. Raises as `nearest_zn`.

    Example:
        >>> nearest_dn([0.6, 0.1, 0.2, 0.3])
        array([0., 0., 0., 0.])
    """
    return nearest_even(_vectors(x), 0, -np.inf, np.inf)


def nearest_dn_plus(x: Float[Any, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """The nearest point of D_n^+, which is D_n and D_n + (1/2, ..., 1/2).

    A lattice for even n: E8 for n = 8. Where a point of each is as near, that of D_n. Raises as
    `nearest_zn`.
    """
    x = _vectors(x)
    return _nearer(x, nearest_dn, np.full(x.shape[-1], 0.5))


def nearest_dn_dual(x: Float[Any, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
    """The nearest point of D_n*, which is Z^n and Z^n + (1/2, ..., 1/2): A3* (bcc) for n = 3.

    Where a point of each is as near, that of Z^n. Raises as `nearest_zn`.
    """
    return _nearer(_vectors(x), nearest_zn, np.full(np.shape(x)[-1:], 0.5))


def nearest_a2(x: Float[Any, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
    """The nearest point of the hexagonal lattice A2, neighbours at distance 1.

    Its points are those of a rectangular lattice with sides 1 and sqrt(3), and their middles.

    Raises:
        ValueError: x without a last axis of length 2, or not finite.

    Example:
        >>> nearest_a2([0.6, 0.8])
        array([0.5      , 0.8660254])
    """
    x = check_vectors("x", x, 2)
    sides = np.array([1.0, math.sqrt(3)])

    def rectangular(y: np.ndarray) -> np.ndarray:
        return nearest_zn(y / sides) * sides

    return _nearer(x, rectangular, sides / 2)


def _nearer(
    x: np.ndarray, nearest: Callable[[np.ndarray], np.ndarray], shift: np.ndarray
) -> np.ndarray:
    """The nearest point of a lattice and of its translate; where both are as near, the former."""
    first = nearest(x)
    second = nearest(x - shift) + shift
    # |x - first|^2 - |x - second|^2, as a product of differences.
    farther = ((second - first) * (2 * x - first - second)).sum(axis=-1)
    return np.where((farther > 0)[..., None], second, first)


def _vectors(x: Any) -> np.ndarray:
    array: np.ndarray = as_float_array("x", x)
    if array.ndim == 0:
        reject("x", "a number", "an array whose last axis holds coordinates")
    return array


def decide_by_nearest(
    nearest: Callable[[np.ndarray], np.ndarray],
    y: Float[np.ndarray, "rows n"],
    h: Float[np.ndarray, " rows"],
) -> Int[np.ndarray, " rows"]:
    """The best guesses among equally probable tokens; the first one where there is no signal."""
    ids = np.zeros(h.size, dtype=np.int64)
    seen = h > 0
    ids[seen] = nearest(y[seen] / h[seen, None])
    return ids


def nearest_even(
    x: Float[np.ndarray, "*batch n"], parity: int, low: float, high: Any, weights: Any = 1.0
) -> Float[np.ndarray, "*batch n"]:
    """The nearest whole vector with coordinates in [low, high] and a sum of this parity.

    `high` and `weights`, which multiply the squares, may differ between coordinates.

    The best coordinates without regard to the sum are the whole numbers in [low, high] nearest to
    x_i. If their sum is wrong, an odd number of coordinates has to change its parity, so at least
    one. In one coordinate the squared distance is convex, so that its best value of the other
    parity is a neighbour of the best one: the nearer neighbour, or the only one in [low, high]. To
    change one coordinate costs the difference c_i >= 0, and to change several costs at least the
    sum of theirs; the smallest c_i alone is therefore best.

    Among several nearest vectors the first in lexicographic order: halves are rounded down, and of
    equally cheap changes the first downward one, or else the last upward one, is made.
    """
    best = np.clip(np.ceil(x - 0.5), low, high) + 0.0
    wrong = np.mod(best.sum(axis=-1), 2) != parity
    if not wrong.any():
        return best
    rows = best[wrong]
    off = x[wrong] - rows
    step = np.where(off > 0, 1.0, -1.0)
    step = np.where((rows + step < low) | (rows + step > high), -step, step)
    cost = (1 - 2 * off * step) * weights
    cheap = cost == cost.min(axis=-1, keepdims=True)
    down = cheap & (step < 0)
    last = x.shape[-1] - 1 - cheap[:, ::-1].argmax(axis=-1)
    where = np.where(down.any(axis=-1), down.argmax(axis=-1), last)
    each = np.arange(rows.shape[0])
    rows[each, where] += step[each, where]
    best[wrong] = rows
    return best


# ---- Cuts -------------------------------------------------------------------------------------


class _OfLattice(TypedDict):
    lattice: Literal["D", "D+"]
    levels: int
    n: int
    stretch: float


@final
@register
class LatticeCodebook(Codebook):
    """A lattice cut to a box that is mapped to [-1, 1]^n; equal priors, any number of tokens.

    "D": the words of {0, ..., levels - 1}^n with an even sum, mapped by x -> 2 x/(levels - 1) - 1:
    half the tokens of a grid, at sqrt(2) times its distance. "D+": in addition
    {1/2, ..., levels - 1/2}^n with words of odd sum plus (1/2, ..., 1/2), all mapped by
    x -> (x - c)/c with c = (2 levels - 1)/4; as many tokens as the grid, levels^n. For n = 8 this
    is a cut of E8 (mirrored, so that 3 levels give `e8_codebook`). "D+" is a lattice for even n and
    has the distance sqrt(2)/c from n = 8 on.

    Ids count the words with the right sum in the order of the grid (last coordinate fastest), first
    those of D. Points are never materialised unasked: `nearest` decodes without them.

    Args:
        lattice: "D" or "D+".
        levels: whole numbers for each coordinate, at least 2.
        n: dimension.
        stretch: the box is [-stretch, stretch]^n instead.
        offset: (n,) numbers by which it is moved; None for none.

    Raises:
        ValueError: an unknown lattice, levels below 2, n below 1, or a stretch not above 0.

    Example:
        >>> LatticeCodebook("D", 4, 24).K
        140737488355328
    """

    lattice: str = eqx.field(static=True)
    levels: int = eqx.field(static=True)
    dimension: int = eqx.field(static=True)
    stretch: float = eqx.field(static=True)
    offset: tuple[float, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        lattice: Literal["D", "D+"],
        levels: int,
        n: int,
        *,
        stretch: float = 1.0,
        offset: Float[Any, " n"] | None = None,
    ) -> None:
        self.lattice = check_choice(lattice, ("D", "D+"), "lattice")
        self.levels = check_count(levels, "levels", 2)
        self.dimension = check_count(n, "n")
        self.stretch = float(check_positive(stretch, "stretch"))
        given = None if offset is None else as_float_array("offset", offset)
        if given is not None and given.shape != (n,):
            reject("offset", f"shape {given.shape}", f"of shape ({n},)")
        self.offset = None if given is None or not given.any() else tuple(given.tolist())

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many tokens are in D, and how many among the halves."""
        # Of the words of the grid, those of even sum outnumber the others by one where the number
        # of levels is odd, and not at all where it is even.
        words, excess = self.levels**self.n, self.levels % 2
        return ((words + excess) // 2, (words - excess) // 2)[: 1 + (self.lattice == "D+")]

    @property
    def K(self) -> int:
        return sum(self.sizes)

    @property
    def n(self) -> int:
        return self.dimension

    @property
    def label(self) -> str:
        kind = "E8" if (self.lattice, self.n) == ("D+", 8) else f"D{self.n}{self.lattice[1:]}"
        return f"{kind} cut, {self.levels} levels"

    @property
    def has_equal_priors(self) -> bool:
        return True

    @property
    def unit(self) -> float:
        """Length of a step from level to level, after the map to the box."""
        return self.stretch / self._centre

    @property
    def _centre(self) -> float:
        return (self.levels - (1 if self.lattice == "D" else 0.5)) / 2

    def all_log_priors(self) -> Float[Any, " K"]:
        return np.full(self.K, -self.prior_entropy())

    def prior_entropy(self) -> Any:
        # levels^n may be beyond the largest float.
        if self.lattice == "D+":
            return self.n * np.log(self.levels)
        excess = (self.levels % 2) * float(self.levels) ** -self.n
        return self.n * np.log(self.levels) - np.log(2) + np.log1p(excess)

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        ids = check_ids(ids, self.K)
        half = ids >= self.sizes[0]
        ranks = np.where(half, ids - min(self.sizes[0], 2**63 - 1), ids).astype(np.uint64)
        # Word number r of the grid has, for an odd number of levels, a sum of the parity of r; for
        # an even one, every two words that follow one another differ in the last digit only.
        words = 2 * ranks + (self.levels % 2) * half.astype(np.uint64)
        digits = digits_of(words, (self.levels,) * self.n)
        if self.levels % 2 == 0:
            digits[..., -1] += (digits.sum(axis=-1) + half) % 2
        return self._points(half, digits)

    def sample_points(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size n"]:
        """Points of tokens drawn from the prior, without their ids, at any K."""
        half = rng.random(size) < self.levels**self.n // 2 / self.K if self.lattice == "D+" else 0
        half = np.broadcast_to(np.asarray(half, dtype=bool), size)
        digits = np.empty((size, self.n), dtype=np.int64)
        missing = np.arange(size)
        while missing.size:  # words of the grid, until the sum is right
            digits[missing] = rng.integers(self.levels, size=(missing.size, self.n))
            missing = missing[(digits[missing].sum(axis=1) + half[missing]) % 2 != 0]
        return self._points(half, digits)

    def nearest(self, x: Float[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        """Ids of the tokens nearest to x, exact to rounding; the smallest of several.

        x is in the codebook's coordinates and may lie anywhere.

        Raises:
            ValueError: wrong last axis, x not finite, or more than 2**63 tokens.
        """
        if self.levels**self.n > 2**63:
            reject("K", f"{self.K:,}", "at most 2**62 for tokens to have ids; see nearest_points")
        half, digits = self._decode(x)
        place = [self.levels**axis for axis in reversed(range(self.n))]
        ranks = (digits.astype(np.int64) @ np.array(place, dtype=np.int64)) // 2
        return ranks + half * self.sizes[0]

    def nearest_points(self, x: Float[Any, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """The points of the tokens nearest to x, at any K. As `nearest`."""
        return self._points(*self._decode(x))

    def _points(self, half: Any, digits: Any) -> Float[np.ndarray, "*batch n"]:
        points = (digits + 0.5 * half[..., None] - self._centre) / self._centre
        if self.stretch != 1:
            points = points * self.stretch
        return points if self.offset is None else points + np.array(self.offset)

    def _decode(self, x: Any) -> tuple[Bool[np.ndarray, " *batch"], Float[np.ndarray, "*batch n"]]:
        """Whether the nearest token is one of the halves, and its word.

        In the box, too, the decoder of D_n is exact (see `nearest_even`); of two translates the
        nearer nearest point is the nearest point of their union.
        """
        x = check_vectors("x", x, self.n)
        if self.offset is not None:
            x = x - np.array(self.offset)
        if self.stretch != 1:
            x = x / self.stretch
        z = x * self._centre + self._centre
        whole = nearest_even(z, 0, 0, self.levels - 1)
        if self.lattice == "D":
            return np.zeros(x.shape[:-1], dtype=bool), whole
        words = nearest_even(z - 0.5, 1, 0, self.levels - 1)
        farther = ((words + 0.5 - whole) * (2 * z - whole - words - 0.5)).sum(axis=-1)
        half = np.asarray(farther > 0)
        return half, np.where(half[..., None], words, whole)

    # ---- What the structure knows ---------------------------------------------------------------

    @property
    def knows_distances(self) -> bool:
        return self.n > 1

    @property
    def knows_pairs(self) -> bool:
        return 4 * self.n * self.levels**2 <= MAX_SHELLS

    @property
    def knows_covariance(self) -> bool:
        return True

    def _word_moments(self) -> tuple[Fraction, Fraction, Fraction]:
        """Mean, variance and covariance of the coordinates of words, exactly; all are alike."""
        L, n = self.levels, self.n

        def count(size: int, parity: int) -> int:
            """Words of so many digits whose sum is of this parity."""
            if size < 1:
                return int(size == 0 and parity == 0)
            return (L**size + (L % 2) * (1 - 2 * parity)) // 2

        first = second = mixed = Fraction(0)
        for half in range(len(self.sizes)):  # D has even sums, the halves odd ones
            values = [Fraction(2 * a + half, 2) for a in range(L)]
            for a, value in enumerate(values):
                words = count(n - 1, (half - a) % 2)
                first += value * words
                second += value**2 * words
            # Two digits matter by their parities only.
            sums = [sum(values[parity::2]) for parity in (0, 1)]
            for a, b in itertools.product((0, 1), repeat=2):
                mixed += sums[a] * sums[b] * count(n - 2, (half - a - b) % 2)
        mean = first / self.K
        return mean, second / self.K - mean**2, mixed / self.K - mean**2

    def mean(self) -> Float[np.ndarray, " n"]:
        centre = Fraction(2 * self.levels - 2 + len(self.sizes) - 1, 4)
        mean = float(self._word_moments()[0] - centre) * self.unit
        return np.full(self.n, mean) + (0.0 if self.offset is None else np.array(self.offset))

    def average_power(self) -> float:
        return self.n * float(self._word_moments()[1]) * self.unit**2

    def covariance_eigenvalues(self) -> Float[np.ndarray, " m"]:
        _, variance, covariance = self._word_moments()
        if self.n == 1:
            return np.array([float(variance) * self.unit**2])
        along = float(variance + (self.n - 1) * covariance)
        across = float(variance - covariance)
        return np.array([along, *[across] * (self.n - 1)]) * self.unit**2

    def half_widths(self) -> Float[np.ndarray, " n"]:
        if self.n == 1:
            return super().half_widths()
        return np.full(self.n, self.stretch)

    def largest_coordinate(self) -> float:
        if self.n == 1:
            return super().largest_coordinate()
        return self.stretch + max(map(abs, self.offset or (0.0,)))

    def diameter(self) -> float:
        if self.n == 1:
            return super().diameter()
        n, top = self.n, self.levels - 1
        # Opposite corners; one coordinate is a step short where their sums would be odd.
        short = top % 2 == 1 and n % 2 == 1
        within = n * top**2 if not short else (n - 1) * top**2 + (top - 1) ** 2
        if self.lattice == "D":
            return math.sqrt(within) * self.unit
        # From 0 to a half as far as possible, whose sum has to be odd.
        last = top + 0.5 if n * top % 2 == 1 else top - 0.5
        return math.sqrt(max(within, (n - 1) * (top + 0.5) ** 2 + last**2)) * self.unit

    def nn_distances(self) -> Float[np.ndarray, " K"]:
        self._check_size(self.K, MAX_ELEMENTS, "nn_distances")
        return super().nn_distances()

    def min_distance(self) -> float:
        if self.n == 1:
            return super().min_distance()
        squared = 2.0 if self.lattice == "D" else min(2.0, self.n / 4)
        return math.sqrt(squared) * self.unit

    def mean_nn_distance(self) -> float:
        if self.n == 1:
            return super().mean_nn_distance()
        if self.lattice == "D" or self.n >= 8:
            return self.min_distance()
        # A token reaches one of the others at half a step in every coordinate, unless it is in a
        # corner from which that is one place, whose sum is wrong.
        alone = 1 + (self.n * (self.levels - 1)) % 2
        farther = math.sqrt(min(2.0, (self.n + 8) / 4)) * self.unit
        near = self.min_distance()
        return near + (farther - near) * (alone / self.K)

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """By the numbers of pairs at each squared distance, which are those of polynomials in q.

        With the sum over all pairs of words of q^|x - y|^2 and signs (-1)^(sum of x), (-1)^(sum of
        y) or both: those of given parities are what is left when the four are added up. Every sum
        over words is a power of one over a digit.
        """
        if not self.knows_pairs:
            reject("codebook", repr(self), f"at most {MAX_SHELLS:,} different distances")
        if self.n == 1:
            yield from super().pairs()
            return
        total: dict[Fraction, int] = {}
        for ours, theirs in itertools.product(range(len(self.sizes)), repeat=2):
            shift = theirs - ours  # the halves are half a step further
            for left, right in itertools.product((0, 1), repeat=2):
                sign = (-1) ** (left * ours + right * theirs)
                words = _power(self._digit_pairs(shift, left, right), self.n)
                for squared, count in enumerate(words):
                    if count:  # in quarters, since (2 (x - y) - shift)^2 / 4 is counted
                        place = Fraction(squared, 4)
                        total[place] = total.get(place, 0) + sign * count
        apart = sorted(place for place, count in total.items() if place > 0 and count)
        # Counts and K may be beyond the largest float, their ratio is not.
        weight = np.array([total[place] / (4 * self.K) for place in apart])
        yield weight, np.sqrt([float(place) for place in apart]) * self.unit, None

    def _digit_pairs(self, shift: int, left: int, right: int) -> list[int]:
        """Coefficients of sum over digits a, b of signs times q^((2 (b - a) + shift)^2)."""
        L = self.levels
        out = [0] * ((2 * (L - 1) + abs(shift)) ** 2 + 1)
        for a, b in itertools.product(range(L), repeat=2):
            out[(2 * (b - a) + shift) ** 2] += (-1) ** (left * a + right * b)
        return out

    def decide(
        self, y: Float[np.ndarray, "rows n"], h: Float[np.ndarray, " rows"]
    ) -> Int[np.ndarray, " rows"]:
        return decide_by_nearest(self.nearest, y, h)

    # ---- Cuts made from this one ----------------------------------------------------------------

    def scaled(self, by: Any, over: Any = 1.0) -> LatticeCodebook:
        offset = None if self.offset is None else np.array(self.offset) / over * by
        return self._like(self.stretch / over * by, offset)

    def shifted(self, by: Float[Any, " n"], what: str = "shifted") -> LatticeCodebook:
        return self._like(self.stretch, np.array(self.offset or [0.0] * self.n) + by)

    @property
    def in_the_box(self) -> LatticeCodebook:
        """The same cut of [-1, 1]^n, where differences keep their digits."""
        return self._like(1.0, None)

    def _like(self, stretch: float, offset: Any) -> LatticeCodebook:
        kind: Any = self.lattice
        return LatticeCodebook(kind, self.levels, self.n, stretch=stretch, offset=offset)

    def with_prior(self, prior: Float[Any, " K"] | None) -> Codebook:
        return self if prior is None else super().with_prior(prior)

    def record(self) -> Record:
        header = {"lattice": self.lattice, "levels": self.levels, "n": self.n}
        offset = None if self.offset is None else np.array(self.offset)
        return {**header, "stretch": self.stretch}, {"offset": offset}

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfLattice, "the description")
        offset = read("offset", optional=True)
        levels, n = header["levels"], header["n"]
        if n > MAX_COORDINATES:
            reject("n", n, f"at most {MAX_COORDINATES:,}")
        return cls(header["lattice"], levels, n, stretch=header["stretch"], offset=offset)


def _power(coefficients: Sequence[int], n: int) -> list[int]:
    """Coefficients of the n-th power of a polynomial, exactly.

    Kronecker's substitution: one power of a whole number, the value at 2^bits, whose digits are the
    coefficients, each shifted by half of 2^bits to be positive.
    """
    size = (len(coefficients) - 1) * n + 1
    octets = (sum(map(abs, coefficients)).bit_length() * n + 2) // 8 + 1
    bits = 8 * octets
    value = sum(c << (bits * index) for index, c in enumerate(coefficients)) ** n
    half = 1 << (bits - 1)
    ones = ((1 << (bits * size)) - 1) // ((1 << bits) - 1)
    text = (value + half * ones).to_bytes(octets * size + 1, "little")
    parts = (text[index * octets : (index + 1) * octets] for index in range(size))
    return [int.from_bytes(part, "little") - half for part in parts]


def d_codebook(n: int, levels: int) -> LatticeCodebook:
    """The words of {0, ..., levels - 1}^n with an even sum, mapped to [-1, 1]^n; see there.

    Half the tokens of FSQ levels^n, rounded up; every nearest neighbour is at
    2 sqrt(2)/(levels - 1) (from n = 2 on), where FSQ has 2/(levels - 1). K may be astronomical.

    Raises:
        ValueError: n below 1 or levels below 2.

    Example:
        >>> d_codebook(4, 3).K
        41
    """
    return LatticeCodebook("D", levels, n)


# ---- On the command line ----------------------------------------------------------------------


def _cut_from_spec(lattice: Any, spec: str, rest: str) -> Codebook:
    head = lattice.lower()
    levels, caret, n = rest.partition("^")
    words = levels, n
    if not (caret and all(word.isascii() and word.isdigit() and len(word) < 6 for word in words)):
        reject("CODEBOOK", spec, f"{head}:LEVELS^N, such as {head}:4^24")
    if int(levels) < 2 or not 1 <= int(n) <= MAX_COORDINATES:
        expected = f"{head}:LEVELS^N with at least 2 levels and 1 to {MAX_COORDINATES} coordinates"
        reject("CODEBOOK", spec, expected)
    return LatticeCodebook(lattice, int(levels), int(n))


@register_spec("d", "d:LEVELS^N", "d:4^24")
def _d_from_spec(spec: str, rest: str) -> Codebook:
    return _cut_from_spec("D", spec, rest)


@register_spec("d+", "d+:LEVELS^N", "d+:3^8")
def _d_plus_from_spec(spec: str, rest: str) -> Codebook:
    return _cut_from_spec("D+", spec, rest)


@register_spec("e8", "e8", "e8")
def _e8_from_spec(spec: str, _: str) -> Codebook:
    if spec != "e8":
        reject("CODEBOOK", spec, "e8 alone, the cut of 6561 tokens; see d+:LEVELS^8 for others")
    return e8_codebook()


@register_spec("e6", "e6:K", "e6:729")
def _e6_from_spec(spec: str, rest: str) -> Codebook:
    if spec == "e6":
        return e6_codebook()
    if not (rest.isascii() and rest.isdigit() and len(rest) < 6 and 1 <= int(rest) <= 2000):
        reject("CODEBOOK", spec, "e6 or e6:K with a whole number K from 1 to 2000")
    return e6_codebook(int(rest))


@register_spec("ball", "ball:K:N", "ball:1024:8")
def _ball_from_spec(spec: str, rest: str) -> Codebook:
    words = rest.split(":")
    if len(words) != 2 or not all(w.isascii() and w.isdigit() and len(w) < 7 for w in words):
        reject("CODEBOOK", spec, "ball:K:N, such as ball:1024:8")
    return ball_codebook(*map(int, words))
