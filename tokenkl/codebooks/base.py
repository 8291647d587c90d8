"""`Codebook`, what every codebook offers, and `PointCodebook`, the one without structure."""

from __future__ import annotations

import abc
import math
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._formats import conform
from tokenkl._module import Module
from tokenkl._random import draw_ids
from tokenkl._validation import (
    MAX_ELEMENTS,
    check_ids,
    check_points,
    check_prior,
    check_vectors,
    first_duplicate,
    is_traced,
    real_coordinates,
    reject,
)
from tokenkl.codebooks.registry import register
from tokenkl.numerics.decisions import among_points
from tokenkl.numerics.distances import largest_distance, pairs_by_rows, squared_classes
from tokenkl.numerics.neighbours import nearest_distances

if TYPE_CHECKING:
    from tokenkl.codebooks.product import ProductCodebook

#: Points up to which the largest distance is looked for among all pairs where a bound would do.
MAX_ALL_PAIRS = 2**13
#: Scalar fields and arrays (None for one that is not there) that determine a codebook.
Record = tuple[dict[str, Any], dict[str, Any]]
#: Reads an array by its name; with `optional=True` None stands for one that is not there.
Reader = Callable[..., Any]


class Codebook(Module):
    """K tokens, each a point in R^n, with a strictly positive prior.

    Codebooks are immutable pytrees. Structured ones are lazy: `points` and `prior` are made only
    when asked for, and refuse above 2**26 elements; `points_at(ids)` gives any part at any size.

    A kind defines `K`, `n` and `points_at`; where its prior need not be equal also
    `has_equal_priors` and `all_log_priors`. All else follows from the points, at their cost and up
    to their size, and is overridden where the structure knows a shorter way. `register` makes a
    kind known to files and to the command line (docs/extending.md).
    """

    # ---- What a kind defines --------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def K(self) -> int:
        """Number of tokens."""

    @property
    @abc.abstractmethod
    def n(self) -> int:
        """Dimension of the space that the tokens sit in."""

    @abc.abstractmethod
    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        """Coordinates of the tokens with these ids, nothing else materialised.

        Raises:
            ValueError: an id is not in 0 .. K - 1.
        """

    @property
    def label(self) -> str:
        """A short name for tables and legends."""
        return type(self).__name__

    @property
    def has_equal_priors(self) -> bool:
        """Whether every token has prior probability 1/K."""
        return True

    def all_log_priors(self) -> Float[Any, " K"]:
        """Natural logarithms of the prior; `log_prior` asks for them once K is known to fit."""
        return np.full(self.K, -math.log(self.K))

    # ---- Structure that others may use ----------------------------------------------------------

    @property
    def as_grid(self) -> ProductCodebook | None:
        """The same tokens and prior, in the same order, as a grid; None where they are none."""
        return None

    @property
    def factors(self) -> ProductCodebook | None:
        """As `as_grid`, where the prior makes the coordinates independent; elsewhere None."""
        grid = self.as_grid
        return grid if grid is not None and grid.factorises else None

    @property
    def parts(self) -> tuple[Codebook, ...]:
        """Codebooks of which independent tokens, joined, are the tokens; (self,) where none are.

        The joint posterior is then the product of theirs.
        """
        return (self,)

    @property
    def has_parts(self) -> bool:
        """Whether the tokens are made of those of other codebooks."""
        return self.parts[0] is not self

    @property
    def smallest_parts(self) -> list[Codebook]:
        """The parts of the parts, down to those that have none."""
        if not self.has_parts:
            return [self]
        return [small for part in self.parts for small in part.smallest_parts]

    def split(self, x: Float[Any, "*batch n"]) -> list[Float[Any, "*batch part"]]:
        """The coordinates of each part."""
        ends = np.cumsum([part.n for part in self.parts])
        return [x[..., end - part.n : end] for part, end in zip(self.parts, ends, strict=True)]

    def outer(
        self,
        columns: list[Float[Any, "*batch part"]],
        how: Callable[[Any, Any], Any] = operator.add,
    ) -> Float[Any, "*batch K"]:
        """One number for every token, from one for every token of each part: their sums.

        `how` combines them otherwise.
        """
        return columns[0]

    @property
    def length(self) -> int:
        """How many tokens one is made of that are sampled together: 1, but for sequences."""
        return 1

    @property
    def fits(self) -> bool:
        """Whether all points can be materialised."""
        return self.K * self.n <= MAX_ELEMENTS

    @property
    def knows_distances(self) -> bool:
        """Whether diameter and nearest neighbours come from the structure, without points."""
        return False

    @property
    def common_distance(self) -> float | None:
        """That of any two tokens, where the structure says that all are equally far apart."""
        return None

    @property
    def knows_pairs(self) -> bool:
        """Whether `pairs` come from the structure, without points."""
        return False

    @property
    def knows_covariance(self) -> bool:
        """Whether `second_order` comes from the structure, without points."""
        return False

    # ---- Points and prior -----------------------------------------------------------------------

    def materialise(self, max_elements: int = MAX_ELEMENTS) -> Float[np.ndarray, "K n"]:
        """All K points; `max_elements` is the largest K * n that is accepted.

        Raises:
            ValueError: K * n is above `max_elements`.
        """
        self._check_size(self.K * self.n, max_elements, "points")
        return self.points_at(np.arange(self.K))

    @property
    def points(self) -> Float[np.ndarray, "K n"]:
        """All K points; refuses above 2**26 elements (512 MiB)."""
        return self.materialise()

    @property
    def log_prior(self) -> Float[np.ndarray, " K"]:
        """Natural logarithms of the prior probabilities; refuses above 2**26 tokens."""
        self._check_size(self.K, MAX_ELEMENTS, "log_prior")
        return self.all_log_priors()

    @property
    def prior(self) -> Float[np.ndarray, " K"]:
        """Prior probabilities of the tokens; refuses above 2**26 tokens."""
        log_prior = self.log_prior
        return (jnp if is_traced(log_prior) else np).exp(log_prior)

    @property
    def stated_prior(self) -> Float[Any, " K"] | None:
        """The prior, or None for equal priors that nobody had to write down."""
        return None if self.has_equal_priors else self.prior

    def prior_entropy(self) -> Any:
        """H(pi), in nats, without materialising the prior where structure allows it."""
        return math.log(self.K) if self.has_equal_priors else entropy(self.log_prior)

    def largest_prior(self) -> float:
        """max_k pi_k."""
        return 1 / self.K if self.has_equal_priors else float(np.exp(np.max(self.log_prior)))

    def smaller_priors(self) -> float:
        """1 - max_k pi_k, with its digits where one token is nearly certain."""
        if self.has_equal_priors:
            return (self.K - 1) / self.K
        return all_but_the_top(np.asarray(self.log_prior))

    def sample_ids(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, " size"]:
        """Ids of tokens drawn from the prior.

        Raises:
            ValueError: more than 2**63 tokens, or unequal priors too many to materialise.
        """
        if self.K > 2**63:
            reject("K", f"{self.K:,}", "at most 2**63 for tokens to have ids; see sample_points")
        return draw_ids(rng, None if self.has_equal_priors else self.prior, self.K, size)

    def sample_points(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size n"]:
        """Points of tokens drawn from the prior, also where ids would not fit 64 bits."""
        return np.asarray(self.points_at(self.sample_ids(rng, size)))

    # ---- Geometry -------------------------------------------------------------------------------

    def mean(self) -> Float[np.ndarray, " n"]:
        """sum_k pi_k e_k."""
        return mean_of(np.asarray(self.points), self.stated_prior)

    def average_power(self) -> float:
        """sum_k pi_k |e_k - mean|^2, the trace of Cov(e)."""
        return power_of(np.asarray(self.points), self.stated_prior)

    def covariance_eigenvalues(self) -> Float[np.ndarray, " m"]:
        """Eigenvalues of Cov(e), weighted by the prior; zeros may be left out."""
        prior = np.asarray(self.prior)
        weighted = np.sqrt(prior)[:, None] * away_from_mean(np.asarray(self.points), prior)
        return np.asarray(np.linalg.svd(weighted, compute_uv=False) ** 2)

    def second_order(
        self, snr: Float[np.ndarray, " s"]
    ) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
        """tr Sigma (I + snr Sigma)^-1 and log det(I + snr Sigma), Sigma = Cov(e)."""
        eigenvalues = self.covariance_eigenvalues()
        linear = [np.sum(eigenvalues / (1 + one * eigenvalues)) for one in snr]
        return np.array(linear), np.array([np.log1p(one * eigenvalues).sum() for one in snr])

    def half_widths(self) -> Float[np.ndarray, " n"]:
        """Half the range of every coordinate: after a shift, the tokens are in this box."""
        points = np.asarray(self.points)
        return np.asarray((points.max(axis=0) - points.min(axis=0)) / 2)

    def largest_coordinate(self) -> float:
        """The largest |coordinate| of any token."""
        return float(np.abs(self.points).max())

    def diameter(self) -> float:
        """Largest distance between two tokens."""
        return largest_distance(np.asarray(self.points))

    def diameter_bound(self) -> float:
        """The diameter, or above 8192 unstructured points an upper bound on it.

        That is the smaller of the diagonal of the bounding box and twice the largest distance from
        its centre.
        """
        if self.knows_distances or self.K <= MAX_ALL_PAIRS:
            return self.diameter()
        half, points = self.half_widths(), np.asarray(self.points)
        centre = (points.max(axis=0) + points.min(axis=0)) / 2
        radius = float(np.linalg.norm(points - centre, axis=1).max())
        return min(2 * radius, float(2 * np.linalg.norm(half)))

    def nn_distances(self) -> Float[np.ndarray, " K"]:
        """Distance of every token to the nearest other one, in the order of the ids; K >= 2."""
        return nearest_distances(np.asarray(self.points))

    def min_distance(self) -> float:
        """Smallest distance between two tokens; K >= 2."""
        return float(self.nn_distances().min())

    def min_distance_bound(self) -> float:
        """The smallest distance, or a lower bound on it where nobody can go through all pairs."""
        return self.min_distance()

    def mean_nn_distance(self) -> float:
        """Mean of `nn_distances`, every token counting equally; K >= 2."""
        distances = self.nn_distances()
        return math.fsum(distances) / distances.size

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Weights, distances and log-odds log(pi_k / pi_j) of ordered pairs of tokens k, j.

        In pieces; a weight is pi_k, summed over what is alike. Odds are None with equal priors.
        A distance may be lower than it is, by 1e-12 of it.
        """
        if self.has_equal_priors:
            for squared, count in squared_classes(np.asarray(self.points)):
                yield count / self.K, np.sqrt(squared), None
        else:
            log_prior = np.asarray(self.log_prior)
            yield from pairs_by_rows(log_prior, np.ones(self.K), np.asarray(self.points))

    # ---- One observation y = h e_k + eps --------------------------------------------------------

    def array_module(self, *values: Any) -> Any:
        """jax.numpy while the codebook or any of the values is traced, NumPy otherwise."""
        return jnp if is_traced(*values, *jax.tree_util.tree_leaves(self)) else np

    def logits(self, y: Float[Any, "*batch n"], h: Float[Any, " *batch"]) -> Float[Any, "*batch K"]:
        """log p(k | y) up to a constant for every y."""
        log_prior = self.log_prior
        xp = self.array_module(y, h)
        points = xp.asarray(self.points)
        centre = points.mean(axis=0)
        centred = points - centre
        along = (y - h[..., None] * centre) @ centred.T
        rough = h[..., None] * along - h[..., None] ** 2 * (centred**2).sum(axis=-1) / 2
        if xp is np:
            return rough + log_prior
        # In float32 the expanded square is off by up to a nat between near-duplicates at high SNR:
        # take differences to the nearest token first, of the coordinates as they were given (close
        # ones then subtract without rounding).
        nearest = points[xp.argmax(rough, axis=-1)]
        gap = h[..., None, None] * (points - nearest[..., None, :])
        residual = (y - h[..., None] * nearest)[..., None, :]
        return (gap * (residual - gap / 2)).sum(axis=-1) + log_prior

    def mean_under(self, p: Float[Any, "*batch K"]) -> Float[Any, "*batch n"]:
        """sum_k p_k e_k."""
        return p @ self.points

    def covariance_under(self, p: Float[Any, "*batch K"]) -> Float[Any, "*batch n n"]:
        """Covariance of the points under the law p."""
        points, mean = self.points, self.mean_under(p)
        # Around the mean itself, observation by observation: second moments would cancel.
        away = points - mean[..., None, :]
        return self.array_module(p).einsum("...k,...ki,...kj->...ij", p, away, away)

    def decide(
        self, y: Float[np.ndarray, "rows n"], h: Float[np.ndarray, " rows"]
    ) -> Int[np.ndarray, " rows"]:
        """argmax_k of the logits, exactly; `tokenkl.decide` checks its arguments first."""
        log_prior = None if self.has_equal_priors else np.asarray(self.log_prior)
        return among_points(np.asarray(self.points), log_prior, y, h)

    def nearest(self, x: Float[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        """Ids of the tokens nearest to x, exact to rounding; the smallest of several.

        Raises:
            ValueError: wrong last axis, x not finite, or tokens too many for what finds them.
        """
        x = check_vectors("x", x, self.n)
        rows = x.reshape(-1, self.n)
        found = among_points(np.asarray(self.points), None, rows, np.ones(len(rows)))
        return found.reshape(x.shape[:-1])

    # ---- Sequences, of which only single tokens are listed --------------------------------------

    def by_itself(self) -> Codebook:
        """One of the `length` tokens that this is made of, with its mean law."""
        return self

    def posterior_variances(
        self, rng: np.random.Generator, size: int, snr: Float[np.ndarray, " levels"]
    ) -> Float[np.ndarray, "levels size"]:
        """tr Cov(e | y) of sampled tokens and noise that all levels share; of sequences only."""
        reject("codebook", repr(self), "of sequences, see tk.sequence_codebook")

    # ---- Codebooks made from this one -----------------------------------------------------------

    def scaled(self, by: Any, over: Any = 1.0) -> Codebook:
        """Every coordinate divided by `over` and multiplied by `by`; prior and ids are kept."""
        return self._moved(np.asarray(self.points) / over * by, "scaled")

    def shifted(self, by: Float[Any, " n"], what: str = "shifted") -> Codebook:
        """Every token moved by the same vector; prior and ids are kept."""
        return self._moved(np.asarray(self.points) + by, what)

    def centred(self) -> Codebook:
        """Moved so that the mean is 0."""
        return self.shifted(-self.mean(), "centred")

    def with_prior(self, prior: Float[Any, " K"] | None) -> Codebook:
        """The same points in the same order, with this (K,) prior; None for equal ones."""
        return PointCodebook(self.points, prior, name=self.label, allow_duplicates=True)

    def with_priors(self, priors: list[Any]) -> Codebook:
        """The same points, with one prior for each independent part of the tokens.

        Raises:
            ValueError: a kind whose tokens have no parts, or not one prior for each.
        """
        reject("priors", repr(self), "given for a grid or a residual codebook, which have parts")

    def record(self) -> Record:
        """Scalar fields and arrays from which `from_record` makes the same codebook.

        Raises:
            ValueError: a kind that does not say how it is stored.
        """
        reject(
            "codebook",
            type(self).__name__,
            "a kind with record and from_record, registered by tk.register; save "
            "PointCodebook(codebook.points, codebook.prior) instead",
        )

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        """The inverse of `record`, from its fields and a reader of its arrays.

        Raises:
            ValueError: fields or arrays that make no such codebook, or a kind that is not read.
        """
        reject("kind", cls.__name__, "one that has from_record")

    # ---- Pieces ---------------------------------------------------------------------------------

    def _moved(self, points: Any, how: str) -> PointCodebook:
        name = f"{self.label}, {how}"
        return PointCodebook(points, self.stated_prior, name=name, allow_duplicates=True)

    def _check_size(self, elements: int, max_elements: int, name: str) -> None:
        if elements > max_elements:
            reject(
                name,
                f"{self.K:,} tokens in {self.n:,} dimensions",
                f"at most {max_elements:,} numbers to be materialised; ask for a part with "
                "points_at(ids), or raise the limit with materialise(max_elements=...)",
            )

    def __repr__(self) -> str:
        prior = "equal priors" if self.has_equal_priors else "unequal priors"
        return f"<{type(self).__name__} {self.label}: K = {self.K:,}, n = {self.n:,}, {prior}>"


def check_codebook(codebook: Any, name: str = "codebook") -> None:
    """Refuse what is no codebook, such as bare points."""
    if not isinstance(codebook, Codebook):
        reject(name, codebook, "a tokenkl codebook, such as tk.PointCodebook(points)")


def entropy(log_prior: Any) -> Any:
    """Entropy in nats of the law with these log-probabilities, up to a common constant.

    Summed relative to the most probable token, so that a nearly certain law keeps its digits.
    """
    xp = jnp if is_traced(log_prior) else np
    best = xp.argmax(log_prior)
    below = log_prior[best] - log_prior
    odds = xp.where(xp.arange(log_prior.shape[0]) == best, 0.0, xp.exp(-below))
    others = xp.sum(odds)
    return xp.log1p(others) + xp.sum(odds * below) / (1 + others)


def all_but_the_top(log_prior: Float[np.ndarray, " K"]) -> float:
    """1 - max_k pi_k as a sum, which keeps its digits where one token is nearly certain."""
    return float(np.exp(np.delete(log_prior, np.argmax(log_prior))).sum())


def mean_of(points: Float[np.ndarray, "K n"], prior: Any) -> Float[np.ndarray, " n"]:
    """The mean point; None stands for equal priors."""
    return np.asarray(points.mean(axis=0) if prior is None else np.asarray(prior) @ points)


def away_from_mean(points: Float[np.ndarray, "K n"], prior: Any) -> Float[np.ndarray, "K n"]:
    """e_k - mean, by way of the most probable point: a nearly certain law keeps its digits."""
    if prior is None:
        return np.asarray(points - points.mean(axis=0))
    offset = points - points[np.argmax(prior)]
    return np.asarray(offset - mean_of(offset, prior))


def power_of(points: Float[np.ndarray, "K n"], prior: Any) -> float:
    """Sum_k pi_k |e_k - mean|^2, by deviations, so that an offset does not cancel digits."""
    squares = np.square(away_from_mean(points, prior)).sum(axis=1)
    return float(squares.mean() if prior is None else np.asarray(prior) @ squares)


class _OfPoints(TypedDict):
    name: str
    allow_duplicates: bool


@register
class PointCodebook(Codebook):
    """Any K distinct points in R^n.

    Args:
        points: (K, n) coordinates, finite, distinct unless `allow_duplicates`. Complex ones count
            as two real ones each, their parts next to each other; a complex array may be (K,).
        prior: (K,) probabilities, strictly positive, summing to 1; equal when None.
        name: a label for tables and legends.
        allow_duplicates: accept equal points. All information quantities stay well defined (the
            token is then not determined even without noise); nearest-neighbour distances are 0.

    Raises:
        ValueError: wrong shape, a number that is not finite, equal points, or an invalid prior.
    """

    coordinates: Float[Any, "K n"]
    given_prior: Float[Any, " K"] | None
    name: str = eqx.field(static=True)

    def __init__(
        self,
        points: Float[Any, "K n"],
        prior: Float[Any, " K"] | None = None,
        *,
        name: str = "points",
        allow_duplicates: bool = False,
    ) -> None:
        points = real_coordinates(points)
        self.coordinates = check_points(points, allow_duplicates=allow_duplicates)
        self.given_prior = check_prior(prior, self.coordinates.shape[0])
        self.name = name

    @property
    def K(self) -> int:
        return self.coordinates.shape[0]

    @property
    def n(self) -> int:
        return self.coordinates.shape[1]

    @property
    def label(self) -> str:
        return self.name

    @property
    def has_equal_priors(self) -> bool:
        return is_equal(self.given_prior)

    @property
    def stated_prior(self) -> Float[Any, " K"] | None:
        return self.given_prior

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        return self.coordinates[check_ids(ids, self.K)]

    def materialise(self, max_elements: int = MAX_ELEMENTS) -> Float[np.ndarray, "K n"]:
        return self.coordinates

    def all_log_priors(self) -> Float[Any, " K"]:
        return log_of(self.given_prior, self.K)

    def prior_entropy(self) -> Any:
        return np.log(self.K) if self.given_prior is None else entropy(self.all_log_priors())

    def record(self) -> Record:
        has_duplicates = (
            not is_traced(self.coordinates) and first_duplicate(self.coordinates) is not None
        )
        header = {"name": self.name, "allow_duplicates": has_duplicates}
        return header, {"points": self.coordinates, "prior": self.given_prior}

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfPoints, "the description")
        duplicates = header["allow_duplicates"]
        points, prior = read("points"), read("prior", optional=True)
        return cls(points, prior, name=header["name"], allow_duplicates=duplicates)


def is_equal(prior: Any) -> bool:
    """Whether a given prior (None stands for equal) is the equal one, to rounding."""
    if prior is None:
        return True
    if is_traced(prior):
        return False
    return bool(np.ptp(prior) <= 4 * np.finfo(float).eps * prior[0])


def log_of(prior: Any, K: int) -> Any:
    """Log-probabilities of a given prior over K tokens; None stands for equal."""
    if prior is None:
        return np.full(K, -np.log(K))
    return (jnp if is_traced(prior) else np).log(prior)
