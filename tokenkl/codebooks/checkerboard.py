"""`Checkerboard`: every second token of a grid, whose numbers of levels may differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal, TypedDict, final

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from tokenkl._formats import FREE_NUMBERS, conform
from tokenkl._validation import (
    MAX_COORDINATES,
    MAX_ELEMENTS,
    as_float_array,
    check_choice,
    check_ids,
    check_levels,
    check_positive,
    check_vectors,
    reject,
)
from tokenkl.codebooks.base import Codebook, Reader, Record
from tokenkl.codebooks.digits import digits_of
from tokenkl.codebooks.lattice import decide_by_nearest, nearest_even
from tokenkl.codebooks.product import levels_from_spec, power_notation
from tokenkl.codebooks.registry import register, register_spec

Spacing = Literal["box", "equal"]


class _OfBoard(TypedDict):
    levels: list[int]


@final
@register
class Checkerboard(Codebook):
    """Words of {0..L_1 - 1} x ... x {0..L_n - 1} with an even sum; equal priors, any K.

    Half the tokens of a grid (one more than that half where all L_i are odd). Tokens that differ in
    one level only are never both there, so that with equal spacing u the smallest distance is
    sqrt(2) u. With equal L_i it is a cut of the lattice D_n, see `LatticeCodebook`; otherwise the
    same lattice, cut to a box of unequal sides. (Conway and Sloane, Sphere Packings, Lattices and
    Groups, chapter 4, section 7.)

    Ids count the even words in the order of the grid (last coordinate fastest). Points are never
    materialised unasked: `nearest` decodes without them, and accuracy is exact at any K.

    Args:
        levels: numbers of levels of two coordinates or more, each at least 2.
        spacing: "box" maps every coordinate to [-1, 1]; "equal" has the same spacing in all
            coordinates, the one with most levels on [-1, 1]; or n numbers above 0.
        centre: the middle of the box, an array of n numbers; None for the origin.

    Raises:
        ValueError: fewer than two coordinates, a number of levels below 2, an unknown spacing, or
            arrays of another shape.

    Example:
        >>> board = Checkerboard((7, 7, 7, 6))
        >>> board.K, round(board.min_distance(), 4)
        (1029, 0.4714)
    """

    levels: tuple[int, ...] = eqx.field(static=True)
    steps: tuple[float, ...] = eqx.field(static=True)
    centres: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        levels: Sequence[int],
        *,
        spacing: Spacing | Float[Any, " n"] = "box",
        centre: Float[Any, " n"] | None = None,
    ) -> None:
        self.levels = check_levels(levels)
        if len(self.levels) < 2 or min(self.levels) < 2:
            reject("levels", self.levels, "two coordinates or more, of two levels or more")
        tops = [L - 1 for L in self.levels]
        if isinstance(spacing, str):
            check_choice(spacing, ("box", "equal"), "spacing")
            widest = [max(tops)] * len(tops) if spacing == "equal" else tops
            self.steps = tuple(2 / top for top in widest)
        else:
            self.steps = tuple(
                check_positive(step, "every spacing") for step in self._numbers("spacing", spacing)
            )
        self.centres = (0.0,) * len(tops) if centre is None else self._numbers("centre", centre)

    def _numbers(self, name: str, given: Any) -> tuple[float, ...]:
        array = as_float_array(name, given)
        if array.shape != (self.n,):
            reject(name, f"shape {array.shape}", f"of shape ({self.n},)")
        return tuple(array.tolist())

    @property
    def K(self) -> int:
        return (math.prod(self.levels) + self._excess()) // 2

    @property
    def n(self) -> int:
        return len(self.levels)

    @property
    def label(self) -> str:
        words = power_notation(self.levels)
        return f"checkerboard {words}"

    @property
    def step_lengths(self) -> Float[np.ndarray, " n"]:
        """Length of a step from level to level in every coordinate."""
        return np.array(self.steps)

    def _excess(self, *without: int) -> int:
        """Words of even sum less those of odd sum, some coordinates left out."""
        rest = (L for axis, L in enumerate(self.levels) if axis not in without)
        return math.prod(L % 2 for L in rest)

    def _count(self, parity: int, *without: int) -> int:
        """Words of this parity, some coordinates left out."""
        rest = (L for axis, L in enumerate(self.levels) if axis not in without)
        return (math.prod(rest) + (-1) ** parity * self._excess(*without)) // 2

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        return self.points_of(self.words_at(ids))

    def words_at(self, ids: Int[Any, " *batch"]) -> Int[np.ndarray, "*batch n"]:
        """The digits of the tokens with these ids.

        Raises:
            ValueError: an id is not in 0 .. K - 1.
        """
        first = 2 * check_ids(ids, self.K).astype(np.uint64)
        # For even r the sums of words r and r + 1 differ in parity: behind the last
        # even number of levels all places count an odd number of words.
        odd = digits_of(first, self.levels).sum(axis=-1) % 2
        return digits_of(first + odd.astype(np.uint64), self.levels)

    def ids_of(self, words: Int[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        """The ids of these words; the inverse of `words_at`.

        Raises:
            ValueError: a digit out of its range, a sum that is odd, or more than 2**62 tokens.
        """
        words = np.asarray(words)
        if words.ndim == 0 or words.shape[-1] != self.n:
            reject("words", f"shape {words.shape}", f"an array whose last axis has length {self.n}")
        if self.K > 2**62:
            reject("K", f"{self.K:,}", "at most 2**62 for tokens to have ids; see nearest_points")
        columns = [
            check_ids(words[..., axis], L, f"words[..., {axis}]")
            for axis, L in enumerate(self.levels)
        ]
        if (np.stack(columns).sum(axis=0) % 2 != 0).any():
            reject("words", "a word with an odd sum", "words with even sums")
        number = np.zeros(columns[0].shape, dtype=np.uint64)
        for L, column in zip(self.levels, columns, strict=True):
            number = number * np.uint64(L) + column.astype(np.uint64)
        return (number // np.uint64(2)).astype(np.int64)

    def points_of(self, words: Any) -> Float[np.ndarray, "*batch n"]:
        """Where words are; not only those of tokens."""
        tops = np.array(self.levels) - 1
        points: np.ndarray = (2 * words - tops) * (self.step_lengths / 2)
        return points if not any(self.centres) else points + np.array(self.centres)

    def sample_points(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size n"]:
        """Points of tokens drawn from the prior, at any K."""
        if self.K <= 2**63:
            return super().sample_points(rng, size)
        words = rng.integers(np.array(self.levels), size=(size, self.n))
        while (odd := words.sum(axis=1) % 2 != 0).any():  # until all sums are right
            words[odd] = rng.integers(np.array(self.levels), size=(int(odd.sum()), self.n))
        return self.points_of(words)

    # ---- Decoding -------------------------------------------------------------------------------

    def nearest(self, x: Float[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        return self.ids_of(self._decode(x).astype(np.int64))

    def nearest_points(self, x: Float[Any, "*batch n"]) -> Float[np.ndarray, "*batch n"]:
        """The points of the tokens nearest to x, which may lie anywhere, at any K.

        Raises:
            ValueError: wrong last axis, or x not finite.
        """
        return self.points_of(self._decode(x))

    def _decode(self, x: Any) -> Float[np.ndarray, "*batch n"]:
        x = check_vectors("x", x, self.n)
        steps, tops = self.step_lengths, np.array(self.levels, dtype=float) - 1
        place = (x - np.array(self.centres)) / steps + tops / 2
        return nearest_even(place, 0, 0.0, tops, steps**2)

    def decide(
        self, y: Float[np.ndarray, "rows n"], h: Float[np.ndarray, " rows"]
    ) -> Int[np.ndarray, " rows"]:
        return decide_by_nearest(self.nearest, y, h)

    # ---- What the structure knows ---------------------------------------------------------------

    @property
    def knows_covariance(self) -> bool:
        return True

    @property
    def knows_distances(self) -> bool:
        diagonal, along = self._shortest()
        return diagonal <= along

    def _shortest(self) -> tuple[float, float]:
        """The shortest diagonal step, and the shortest of two steps along one coordinate."""
        steps = sorted(self.steps)
        long = [2 * u for u, L in zip(self.steps, self.levels, strict=True) if L > 2]
        return math.hypot(steps[0], steps[1]), min(long, default=math.inf)

    def nn_distances(self) -> Float[np.ndarray, " K"]:
        self._check_size(self.K, MAX_ELEMENTS, "nn_distances")
        if not self.knows_distances:
            return super().nn_distances()
        # From every level there is a step up or down, so that a diagonal one of any two is there.
        return np.full(self.K, self._shortest()[0])

    def min_distance(self) -> float:
        # Two steps along a coordinate are there from its lowest level, in words of either parity.
        return min(self._shortest())

    def mean_nn_distance(self) -> float:
        return self.min_distance() if self.knows_distances else super().mean_nn_distance()

    def diameter(self) -> float:
        tops = [L - 1 for L in self.levels]
        sides = [(u * top) ** 2 for u, top in zip(self.steps, tops, strict=True)]
        total = math.fsum(sides)
        if sum(tops) % 2:  # opposite corners are not both there: one coordinate is a step short
            pairs = zip(self.steps, tops, strict=True)
            total -= min(u * u * (top**2 - (top - 1) ** 2) for u, top in pairs)
        return math.sqrt(total)

    def half_widths(self) -> Float[np.ndarray, " n"]:
        return self.step_lengths * (np.array(self.levels) - 1) / 2

    def largest_coordinate(self) -> float:
        return float((self.half_widths() + np.abs(self.centres)).max())

    def _moments(self) -> tuple[list[Fraction], list[list[Fraction]]]:
        """Means and covariances of the digits, exactly, less the middle of their ranges.

        A digit matters for the others by its parity alone.
        """
        K, n = self.K, self.n
        sums = []  # over the digits of each parity
        for L in self.levels:
            values = [Fraction(2 * d - (L - 1), 2) for d in range(L)]
            sums.append([sum(values[p::2], Fraction(0)) for p in (0, 1)])
        means = [
            sum(((sums[i][p] * self._count(p, i)) for p in (0, 1)), Fraction(0)) / K
            for i in range(n)
        ]
        covariance = [[Fraction(0)] * n for _ in range(n)]
        for i, L in enumerate(self.levels):
            # Of whole numbers, twice the digits less the middle.
            squares = sum((2 * d - (L - 1)) ** 2 * self._count(d % 2, i) for d in range(L))
            covariance[i][i] = Fraction(squares, 4 * K) - means[i] ** 2
        for i, j in itertools.combinations(range(n), 2):
            mixed = Fraction(0)
            for p, q in itertools.product((0, 1), repeat=2):
                mixed += sums[i][p] * sums[j][q] * self._count((p + q) % 2, i, j)
            covariance[i][j] = covariance[j][i] = mixed / K - means[i] * means[j]
        return means, covariance

    def mean(self) -> Float[np.ndarray, " n"]:
        means = np.array([float(one) for one in self._moments()[0]])
        return means * self.step_lengths + np.array(self.centres)

    def average_power(self) -> float:
        covariance = self._moments()[1]
        return math.fsum(float(covariance[i][i]) * u * u for i, u in enumerate(self.steps))

    def covariance_eigenvalues(self) -> Float[np.ndarray, " m"]:
        covariance = np.array([[float(one) for one in row] for row in self._moments()[1]])
        scaled = covariance * np.outer(self.step_lengths, self.step_lengths)
        return np.asarray(np.linalg.eigvalsh(scaled))

    # ---- Boards made from this one --------------------------------------------------------------

    def scaled(self, by: Any, over: Any = 1.0) -> Checkerboard:
        return self._like(self.step_lengths / over * by, np.array(self.centres) / over * by)

    def shifted(self, by: Float[Any, " n"], what: str = "shifted") -> Checkerboard:
        return self._like(self.step_lengths, np.array(self.centres) + by)

    def _like(self, steps: Any, centres: Any) -> Checkerboard:
        return Checkerboard(self.levels, spacing=steps, centre=centres)

    def with_prior(self, prior: Float[Any, " K"] | None) -> Codebook:
        return self if prior is None else super().with_prior(prior)

    def record(self) -> Record:
        arrays = {"steps": self.step_lengths, "centres": np.array(self.centres)}
        return {"levels": list(self.levels)}, arrays

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfBoard, "the description")
        levels = header["levels"]
        if not 2 <= len(levels) <= MAX_COORDINATES or sum(levels) > FREE_NUMBERS:
            expected = f"2 to {MAX_COORDINATES:,}, of {FREE_NUMBERS:,} in all"
            reject("levels", levels, expected)
        return cls(levels, spacing=read("steps"), centre=read("centres"))


@register_spec("checker", "checker:LEVELS", "checker:7x7x7x6")
def _from_spec(spec: str, rest: str) -> Codebook:
    numbers, colon, spacing = rest.partition(":")
    expected = "checker:LEVELS such as checker:7,7,7,6 or checker:7^3x6:equal"
    levels = levels_from_spec(spec, numbers, expected)
    if (colon and spacing not in ("box", "equal")) or len(levels) < 2 or min(levels) < 2:
        reject("CODEBOOK", spec, f"{expected}, of two coordinates or more, with 2 levels or more")
    return Checkerboard(levels, spacing="equal" if spacing == "equal" else "box")
