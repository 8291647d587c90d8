"""Grids: `ProductCodebook`, and `FSQ` with the published conventions of its levels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypedDict

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._formats import FREE_NUMBERS, conform
from tokenkl._random import draw_ids
from tokenkl._validation import (
    MAX_COORDINATES,
    MAX_ELEMENTS,
    check_choice,
    check_levels,
    check_points,
    check_prior,
    check_vectors,
    is_traced,
    reject,
)
from tokenkl.codebooks.base import (
    Codebook,
    Reader,
    Record,
    all_but_the_top,
    entropy,
    is_equal,
    log_of,
    power_of,
)
from tokenkl.codebooks.digits import ByDigits, Order, mean_of_smallest
from tokenkl.codebooks.registry import register, register_spec
from tokenkl.numerics.decisions import on_a_line
from tokenkl.numerics.distances import cut
from tokenkl.numerics.neighbours import level_gaps

#: Largest |log joint - sum of log marginals| at which a prior on the grid counts as a product.
FACTORISATION_TOLERANCE = 1e-13
#: Most different distances that a grid's spectrum keeps before neighbours are merged downwards.
MAX_CLASSES = 2**20
#: Most sums of distances in two parts that are looked at together.
MAX_OUTER = 2**26


class _OfProduct(TypedDict):
    order: Literal["C", "F"]
    name: str
    coordinates: int


class _OfLevels(_OfProduct, total=False):
    allow_duplicates: bool  # not in older files


class _OfGrid(TypedDict):
    order: Literal["C", "F"]
    levels: list[int]
    grid: str


@register
class ProductCodebook(ByDigits):
    """All combinations of one array of levels for each coordinate.

    The prior is a product (`priors`, one array for each coordinate), or any law on the grid
    (`prior`, one probability for each token). A law on the grid that does factorise, to rounding,
    is stored as its factors; one that does not is kept whole, and the product formulas are then
    never used.

    Token ids count through the grid: with ``order="C"`` the last coordinate varies fastest, with
    ``order="F"`` the first (least significant digit first, as common FSQ libraries count).

    Args:
        levels: one array of numbers for each coordinate, distinct unless `allow_duplicates`.
        priors: one probability vector for each coordinate, or None for equal ones; the list may
            hold None for single coordinates.
        prior: (K,) joint probabilities, in the order of the ids; not together with `priors`.
        order: "C" or "F".
        allow_duplicates: accept equal levels in a coordinate, such as those of a residual FSQ, the
            sums of whose stages coincide. All quantities stay exact.

    Raises:
        ValueError: levels not distinct or not finite, or an invalid prior.
    """

    levels: tuple[Float[Any, " L"], ...]
    priors: tuple[Float[Any, " L"] | None, ...]
    joint_prior: Float[Any, " K"] | None
    order: Order = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __init__(
        self,
        levels: Sequence[Float[Any, " L"]],
        priors: Sequence[Float[Any, " L"] | None] | None = None,
        prior: Float[Any, " K"] | None = None,
        *,
        order: Order = "C",
        name: str = "",
        allow_duplicates: bool = False,
    ) -> None:
        if not isinstance(levels, (list, tuple)) or not levels:
            reject("levels", levels, "a list with one array of numbers for each coordinate")
        columns = []
        for axis, values in enumerate(levels):
            label = f"levels[{axis}]"
            if np.ndim(values) != 1:
                reject(label, f"{np.ndim(values)} axes", "an array with one axis")
            columns.append(
                check_points(
                    values[:, None] if hasattr(values, "shape") else np.asarray(values)[:, None],
                    allow_duplicates=allow_duplicates,
                    name=label,
                )[:, 0]
            )
        self.levels = tuple(columns)
        check_choice(order, ("C", "F"), "order")
        self.order = order
        self.name = name
        if priors is not None and prior is not None:
            reject(
                "prior", "both prior and priors", "given alone: either joint or one per coordinate"
            )
        if priors is not None and len(priors) != len(self.levels):
            reject(
                "priors",
                f"a list of {len(priors)}",
                f"a list of {len(self.levels)}, one a coordinate",
            )
        factors: list[Any] = list(priors) if priors is not None else [None] * len(self.levels)
        self.priors = tuple(
            check_prior(factor, column.shape[0], f"priors[{axis}]")
            for axis, (factor, column) in enumerate(zip(factors, self.levels, strict=True))
        )
        joint = None
        if prior is not None:
            joint = check_prior(prior, math.prod(self.shape))
            # Equal priors are looked for first: sums over a large grid would blur the equality.
            if is_equal(joint):
                joint = None
            marginals = None if joint is None or is_traced(joint) else self._factorise(joint)
            if marginals is not None:
                self.priors = tuple(check_prior(one, one.size) for one in marginals)
                joint = None
        self.joint_prior = joint

    def _factorise(self, joint: np.ndarray) -> tuple[np.ndarray, ...] | None:
        """The marginals if the joint law is their product, to rounding."""
        grid = joint.reshape(self.shape, order=self.order)
        marginals = tuple(marginals_of(joint, self.shape, self.order))
        gap = np.log(grid)
        for axis, marginal in enumerate(marginals):
            gap = gap - np.log(marginal).reshape([-1 if a == axis else 1 for a in range(self.n)])
        return marginals if np.abs(gap).max() <= FACTORISATION_TOLERANCE * len(self.shape) else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of levels of each coordinate."""
        return tuple(column.shape[0] for column in self.levels)

    @property
    def n(self) -> int:
        return len(self.levels)

    @property
    def factorises(self) -> bool:
        """Whether the prior is a product over coordinates, so that the exact formulas hold."""
        return self.joint_prior is None

    @property
    def has_equal_priors(self) -> bool:
        return is_equal(self.joint_prior) and all(is_equal(prior) for prior in self.priors)

    @property
    def label(self) -> str:
        return self.name or "grid " + power_notation(self.shape)

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        digits = self.to_digits(ids)
        xp = jnp if is_traced(*self.levels) else np
        columns = [column[digits[..., axis]] for axis, column in enumerate(self.levels)]
        return xp.stack(columns, axis=-1)

    def nearest(self, x: Float[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        """Ids of the tokens nearest to these points, exactly, one coordinate at a time.

        The smallest of several.

        Raises:
            ValueError: the last axis of x does not have length n, or x is not finite.
        """
        x = check_vectors("x", x, self.n)
        digits = np.empty(x.shape, dtype=np.int64)
        for axis, column in enumerate(self.levels):
            ascending, rank = np.unique(column, return_index=True)
            middles = (ascending[1:] + ascending[:-1]) / 2
            below = rank[np.searchsorted(middles, x[..., axis])]
            above = rank[np.searchsorted(middles, x[..., axis], side="right")]
            digits[..., axis] = np.minimum(below, above)
        return self.from_digits(digits)

    def coordinate_log_prior(self, axis: int) -> Float[Any, " L"]:
        """Log-probabilities of the levels of one coordinate; only where the prior factorises."""
        return log_of(self.priors[axis], self.shape[axis])

    def all_log_priors(self) -> Float[Any, " K"]:
        if self.joint_prior is not None:
            return log_of(self.joint_prior, self.K)
        xp = jnp if is_traced(*self.priors) else np
        columns = [xp.asarray(self.coordinate_log_prior(axis)) for axis in range(self.n)]
        return self.outer(columns)

    def prior_entropy(self) -> Any:
        if self.joint_prior is not None:
            return entropy(self.all_log_priors())
        return sum(entropy(self.coordinate_log_prior(axis)) for axis in range(self.n))

    def level_weights(self) -> list[Float[np.ndarray, " L"]]:
        """Probabilities of the levels of every coordinate, whatever the prior."""
        if self.joint_prior is not None:
            return marginals_of(self.joint_prior, self.shape, self.order)
        return [
            np.full(size, 1 / size) if prior is None else np.asarray(prior)
            for size, prior in zip(self.shape, self.priors, strict=True)
        ]

    # ---- What the structure knows ---------------------------------------------------------------

    @property
    def as_grid(self) -> ProductCodebook:
        return self

    @property
    def has_parts(self) -> bool:
        return self.n > 1 and self.factorises

    @property
    def parts(self) -> tuple[Codebook, ...]:
        if not self.has_parts:
            return (self,)
        return tuple(
            ProductCodebook([column], [prior], name=self.label, allow_duplicates=True)
            for column, prior in zip(self.levels, self.priors, strict=True)
        )

    @property
    def coincides(self) -> bool:
        """Whether a coordinate has equal levels."""
        if is_traced(*self.levels):
            return False
        return any(level_gaps(column).min() == 0 for column in self.levels)

    @property
    def knows_distances(self) -> bool:
        return True

    @property
    def knows_pairs(self) -> bool:
        return self.has_equal_priors

    @property
    def knows_covariance(self) -> bool:
        return self.factorises

    def largest_prior(self) -> float:
        if self.has_equal_priors or not self.factorises:
            return super().largest_prior()
        tops = [self.coordinate_log_prior(axis).max() for axis in range(self.n)]
        return float(np.exp(np.sum(tops)))

    def smaller_priors(self) -> float:
        if self.has_equal_priors or not self.factorises:
            return super().smaller_priors()
        rests = [all_but_the_top(self.coordinate_log_prior(axis)) for axis in range(self.n)]
        return -math.expm1(math.fsum(math.log1p(-rest) for rest in rests))

    def sample_ids(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, " size"]:
        if self.has_equal_priors or not self.factorises:
            return super().sample_ids(rng, size)
        return self.from_digits(self._sample_digits(rng, size))

    def sample_points(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size n"]:
        if self.K <= 2**63 or not self.factorises:
            return super().sample_points(rng, size)
        digits = self._sample_digits(rng, size)
        return np.stack([u[d] for u, d in zip(self.levels, digits.T, strict=True)], axis=-1)

    def _sample_digits(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, "size n"]:
        digits = [
            draw_ids(rng, np.exp(self.coordinate_log_prior(axis)), count, size)
            for axis, count in enumerate(self.shape)
        ]
        return np.stack(digits, axis=-1)

    def mean(self) -> Float[np.ndarray, " n"]:
        pairs = zip(self.levels, self.level_weights(), strict=True)
        return np.array([math.fsum(column * weight) for column, weight in pairs])

    def average_power(self) -> float:
        return math.fsum(self._variances())

    def _variances(self) -> list[float]:
        pairs = zip(self.levels, self.level_weights(), strict=True)
        return [power_of(column[:, None], weight) for column, weight in pairs]

    def covariance_eigenvalues(self) -> Float[np.ndarray, " m"]:
        if not self.factorises:
            return super().covariance_eigenvalues()
        return np.array(self._variances())

    def half_widths(self) -> Float[np.ndarray, " n"]:
        return np.array([np.ptp(column) / 2 for column in self.levels])

    def largest_coordinate(self) -> float:
        return float(max(np.abs(column).max() for column in self.levels))

    def diameter(self) -> float:
        return math.sqrt(math.fsum(float(np.ptp(column)) ** 2 for column in self.levels))

    def nn_distances(self) -> Float[np.ndarray, " K"]:
        self._check_size(self.K, MAX_ELEMENTS, "nn_distances")
        return self.outer([level_gaps(column) for column in self.levels], np.minimum)

    def min_distance(self) -> float:
        return float(min(level_gaps(column).min() for column in self.levels))

    def mean_nn_distance(self) -> float:
        return mean_of_smallest([level_gaps(column) for column in self.levels])

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        if not self.has_equal_priors:
            yield from super().pairs()
            return
        yield combined_pairs(_line_pairs(column) for column in self.levels)

    def decide(
        self, y: Float[np.ndarray, "rows n"], h: Float[np.ndarray, " rows"]
    ) -> Int[np.ndarray, " rows"]:
        if not self.factorises:
            return super().decide(y, h)
        digits = np.empty(y.shape, dtype=np.int64)
        for axis, levels in enumerate(self.levels):
            log_prior = np.asarray(self.coordinate_log_prior(axis))
            # Of equal levels the most probable is chosen, the first of several.
            ranked = np.argsort(-log_prior, kind="stable")
            kept = np.sort(ranked[np.unique(levels[ranked], return_index=True)[1]])
            found = on_a_line(np.asarray(levels)[kept], log_prior[kept], y[:, axis], h)
            digits[:, axis] = kept[found]
        return self.from_digits(digits)

    # ---- Grids made from this one ---------------------------------------------------------------

    def scaled(self, by: Any, over: Any = 1.0) -> ProductCodebook:
        levels = [column / over * by for column in self.levels]
        return self._with_levels(levels, f"{self.label}, scaled")

    def shifted(self, by: Float[Any, " n"], what: str = "shifted") -> ProductCodebook:
        levels = [column + step for column, step in zip(self.levels, by, strict=True)]
        return self._with_levels(levels, f"{self.label}, {what}")

    def _with_levels(self, levels: list[Any], name: str) -> ProductCodebook:
        priors = None if self.joint_prior is not None else self.priors
        return self._changed(levels, priors, self.joint_prior, name)

    def with_prior(self, prior: Float[Any, " K"] | None) -> ProductCodebook:
        return self._changed(list(self.levels), None, prior, self.label)

    def with_priors(self, priors: list[Any]) -> ProductCodebook:
        return self._changed(list(self.levels), priors, None, self.label)

    def _changed(self, levels: list[Any], priors: Any, prior: Any, name: str) -> ProductCodebook:
        rest: dict[str, Any] = {"order": self.order, "allow_duplicates": True}
        return ProductCodebook(levels, priors, prior, name=name, **rest)

    def record(self) -> Record:
        header: dict[str, Any] = {"order": self.order, "name": self.name, "coordinates": self.n}
        header["allow_duplicates"] = self.coincides
        levels = {f"levels.{axis}": column for axis, column in enumerate(self.levels)}
        return header, levels | self._priors_of_record()

    def _priors_of_record(self) -> dict[str, Any]:
        priors = {f"priors.{axis}": prior for axis, prior in enumerate(self.priors)}
        return {"prior": self.joint_prior, **priors}

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfLevels, "the description")
        levels = [read(f"levels.{axis}") for axis in range(header["coordinates"])]
        factors, prior = _priors_from_record(len(levels), read)
        made: dict[str, Any] = {"order": header["order"], "name": header["name"]}
        made["allow_duplicates"] = header.get("allow_duplicates", False)
        return cls(levels, factors, prior, **made)


def combined_pairs(
    parts: Iterable[tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]],
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"], None]:
    """`Codebook.pairs` with equal priors, of tokens made of parts: a convolution, without points.

    From the squared distances of pairs of different tokens in each part, and how many others a
    token has at each on average. More than float64 reaches count as about its largest number.
    """
    squared, count = np.zeros(1), np.ones(1)
    together = 0.0  # other tokens at the place of one
    for apart, times in parts:
        equal = float(times[apart == 0].sum())
        together = together * (1 + equal) + equal
        apart, times = np.append(apart, 0.0), np.append(times, 1.0)
        squared, count = _fewer(squared, count, MAX_OUTER // apart.size)
        squared = np.add.outer(squared, apart).ravel()
        with np.errstate(over="ignore"):
            count = np.multiply.outer(count, times).ravel()
        # Sums of equal distances may differ in their last bits; rank by what is left after a cut.
        squared, where = np.unique(cut(squared), return_inverse=True)
        squared, count = _fewer(squared, np.bincount(where, count), MAX_CLASSES)
        count = np.minimum(count, np.finfo(float).max / count.size)  # so that sums are finite
    # Those of a token with itself are none.
    count[0] = min(together, np.finfo(float).max / count.size)
    return count, np.sqrt(squared), None


def _line_pairs(
    levels: Float[np.ndarray, " L"],
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    gaps = np.subtract.outer(levels, levels)[~np.eye(levels.size, dtype=bool)] ** 2
    return gaps, np.full(gaps.size, 1 / levels.size)


def _fewer(
    squared: Float[np.ndarray, " p"], count: Float[np.ndarray, " p"], most: int
) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """About so many different distances: neighbours are merged, to the lower one."""
    step = -(-squared.size // max(most, 2))
    starts = np.append(0, np.arange(1, squared.size, step))  # distance 0 stays by itself
    return squared[starts], np.add.reduceat(count, starts)


def _priors_from_record(n: int, read: Reader) -> tuple[list[Any] | None, Any]:
    prior = read("prior", optional=True)
    if prior is not None:
        return None, prior
    return [read(f"priors.{axis}", optional=True) for axis in range(n)], None


def marginals_of(joint: Any, shape: tuple[int, ...], order: Order = "C") -> list[np.ndarray]:
    """The laws of the coordinates of a law on a grid."""
    grid = np.asarray(joint).reshape(shape, order=order)
    axes = range(len(shape))
    return [grid.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes]


def power_notation(shape: Sequence[int]) -> str:
    """Level counts written compactly: 3^8, or 8x5x5x5."""
    if len(shape) > 1 and len(set(shape)) == 1:
        return f"{shape[0]}^{len(shape)}"
    return "x".join(str(size) for size in shape)


def symmetric_levels(count: int) -> Float[np.ndarray, " L"]:
    """`count` equispaced levels on [-1, 1], both ends included; 0 alone for one level."""
    # Counting by 2 from -(L - 1) keeps the levels exactly symmetric about 0.
    return (2.0 * np.arange(count) - (count - 1)) / max(count - 1, 1)


def rounding_levels(count: int) -> Float[np.ndarray, " L"]:
    """The grid that rounding gives: integers -(L // 2) .. (L - 1) // 2, divided by L // 2.

    For odd L this is the symmetric grid on [-1, 1]; for even L it reaches -1 but not 1, as in the
    FSQ paper (Mentzer et al. 2023, arXiv 2309.15505) and vector-quantize-pytorch.
    """
    half = count // 2
    return (np.arange(count) - half) / max(half, 1.0)


def midpoint_levels(count: int) -> Float[np.ndarray, " L"]:
    """The middles of `count` equal parts of [-1, 1], as finite scalar perturbation has them."""
    return (2.0 * np.arange(count) - (count - 1)) / count


GRIDS = {
    "symmetric": symmetric_levels,
    "rounding": rounding_levels,
    "midpoint": midpoint_levels,
}


@register
class FSQ(ProductCodebook):
    """Finite scalar quantization: equispaced levels in every coordinate.

    Args:
        levels: number of levels of each coordinate, such as ``(3,) * 8`` or ``(8, 5, 5, 5)``.
        prior: (K,) joint probabilities in the order of the ids, or None for equal priors.
        grid: "symmetric" (equispaced on [-1, 1], both ends included) or "rounding" (the FSQ
            paper's and vector-quantize-pytorch's: even L gives -1 .. 1 - 2/L); they differ only for
            even L. "midpoint" has the middles of L equal parts of [-1, 1].
        order: "C" (last coordinate fastest) or "F" (first coordinate fastest: least significant
            digit first, as in the FSQ paper, vector-quantize-pytorch and CosyVoice 2).
        priors: one probability vector for each coordinate, instead of `prior`.

    Raises:
        ValueError: a level count below 1, an unknown grid or order, or an invalid prior.
    """

    grid: str = eqx.field(static=True)

    def __init__(
        self,
        levels: Sequence[int],
        prior: Float[Any, " K"] | None = None,
        *,
        grid: Literal["symmetric", "rounding", "midpoint"] = "symmetric",
        order: Order = "C",
        priors: Sequence[Float[Any, " L"] | None] | None = None,
    ) -> None:
        counts = check_levels(levels)
        self.grid = check_choice(grid, tuple(GRIDS), "grid")
        super().__init__(
            [GRIDS[grid](count) for count in counts],
            priors,
            prior,
            order=order,
            name="FSQ " + power_notation(counts),
        )

    @property
    def is_plain(self) -> bool:
        """Whether the levels are still those that `grid` says; they may have been replaced."""
        if is_traced(*self.levels):
            return False
        make = GRIDS[self.grid]
        return all(np.array_equal(column, make(column.shape[0])) for column in self.levels)

    def record(self) -> Record:
        if not self.is_plain:
            header, arrays = super().record()
            return header | {"kind": "ProductCodebook"}, arrays
        header = {"order": self.order, "levels": list(self.shape), "grid": self.grid}
        return header, self._priors_of_record()

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfGrid, "the description")
        levels, n = header["levels"], len(header["levels"])
        if n > MAX_COORDINATES or sum(levels) > FREE_NUMBERS:
            reject("levels", levels, f"at most {MAX_COORDINATES:,}, of {FREE_NUMBERS:,} in all")
        factors, prior = _priors_from_record(n, read)
        return cls(levels, prior, grid=header["grid"], order=header["order"], priors=factors)


def levels_from_spec(spec: str, numbers: str, expected: str, name: str = "CODEBOOK") -> list[int]:
    """Numbers of levels as they are typed: 3^8, 8x5x5x5, or 8,5^3."""
    levels: list[int] = []
    for factor in numbers.replace(",", "x").split("x"):
        count, caret, power = factor.strip().partition("^")
        times = power if caret else "1"
        if not all(word.isascii() and word.isdigit() and len(word) < 10 for word in (count, times)):
            reject(name, spec, expected)
        if int(count) < 1 or int(times) < 1:
            reject(name, spec, f"{expected}, with every number at least 1")
        if len(levels) + int(times) > MAX_COORDINATES:
            reject(name, spec, f"{expected}, with at most {MAX_COORDINATES} coordinates")
        levels += [int(count)] * int(times)
    return levels


@register_spec("fsq", "fsq:LEVELS", "fsq:3^8")
def _from_spec(spec: str, rest: str) -> Codebook:
    numbers, *words = rest.split(":")
    expected = "fsq:LEVELS such as fsq:3^8, fsq:8x5x5x5 or fsq:8,5,5,5:rounding"
    grid = words.pop(0) if words and words[0] not in ("C", "F") else "symmetric"
    if grid not in GRIDS:
        reject("CODEBOOK", spec, f"{expected}, with the grid {' or '.join(GRIDS)}")
    # The libraries with the other grids count with the first coordinate fastest.
    order = words.pop(0) if words else "C" if grid == "symmetric" else "F"
    if words or order not in ("C", "F"):
        reject("CODEBOOK", spec, f"{expected}, and then the order of the ids, C or F")
    levels = levels_from_spec(spec, numbers, expected)
    return FSQ(levels, grid=grid, order=order)  # type: ignore[arg-type]


@register_spec("bsq", "bsq:BITS", "bsq:18")
def _from_bits(spec: str, rest: str) -> Codebook:
    """Binary spherical quantization: +-1/sqrt(BITS) in each coordinate; LFQ is fsq:2^BITS."""
    if not (rest.isascii() and rest.isdigit() and len(rest) < 6 and int(rest) > 0):
        reject("CODEBOOK", spec, "bsq:BITS with a whole number above 0, such as bsq:18")
    level = 1 / math.sqrt(int(rest))
    return ProductCodebook([[-level, level]] * int(rest), name=f"BSQ {int(rest)}")
