"""`Product`: every combination of the tokens of independent codebooks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._formats import conform
from tokenkl._validation import (
    MAX_COORDINATES,
    MAX_ELEMENTS,
    check_choice,
    check_vectors,
    is_traced,
    reject,
)
from tokenkl.codebooks.base import Codebook, Reader, Record, check_codebook
from tokenkl.codebooks.digits import ByDigits, Order, mean_of_smallest
from tokenkl.codebooks.product import ProductCodebook, combined_pairs, power_notation
from tokenkl.codebooks.registry import described, made_from, register

#: How deep products of products are read from a file.
MAX_DEPTH = 8


class _OfParts(TypedDict):
    name: str
    order: Literal["C", "F"]
    parts: list[dict[str, Any]]


@register
class Product(ByDigits):
    """All combinations of one token of each part; the points stand one behind the other.

    For quantizers that treat parts of a vector each by itself: product quantization, groups, heads.
    The prior is the product of those of the parts, so that the posterior is one, too: information,
    entropies and MMSE add, accuracies multiply, and each is found part by part, exactly where the
    part has an exact formula. K may be astronomically large: a Python integer, beyond the reach of
    64-bit ids. Tokens are then named by their digits, one token id for each part.

    Args:
        parts: codebooks of any kinds.
        order: "C" (the ids of the last part vary fastest) or "F" (those of the first).
        name: a label for tables and legends.

    Raises:
        ValueError: no part, one that is no codebook, or an unknown order.

    Example: product quantization of R^8 in four groups of 256.
        >>> import numpy as np
        >>> import tokenkl as tk
        >>> groups = [np.random.default_rng(s).normal(size=(256, 2)) for s in range(4)]
        >>> codebook = tk.Product([tk.PointCodebook(group) for group in groups])
        >>> codebook.K == 2**32, codebook.n
        (True, 8)
        >>> codebook.to_digits(257).tolist()
        [0, 0, 1, 1]
        >>> print(tk.accuracy(codebook, 4.0).method)
        exact, by part
    """

    given_parts: tuple[Codebook, ...]
    order: Order = eqx.field(static=True)
    name: str = eqx.field(static=True)

    def __init__(self, parts: Sequence[Codebook], *, order: Order = "C", name: str = "") -> None:
        if not isinstance(parts, (list, tuple)) or not parts:
            reject("parts", parts, "a list with at least one codebook")
        for index, part in enumerate(parts):
            check_codebook(part, f"parts[{index}]")
        self.given_parts = tuple(parts)
        self.order = check_choice(order, ("C", "F"), "order")  # type: ignore[assignment]
        self.name = name

    @property
    def parts(self) -> tuple[Codebook, ...]:
        return self.given_parts

    @property
    def shape(self) -> tuple[int, ...]:
        """How many tokens each part has."""
        return tuple(part.K for part in self.parts)

    @property
    def n(self) -> int:
        return sum(part.n for part in self.parts)

    @property
    def label(self) -> str:
        return self.name or "product " + power_notation(self.shape)

    @property
    def has_equal_priors(self) -> bool:
        return all(part.has_equal_priors for part in self.parts)

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        return self.points_of(self.to_digits(ids))

    def points_of(self, digits: Int[Any, "*batch parts"]) -> Float[Any, "*batch n"]:
        """Coordinates of the tokens with these ids in the parts, however large K is.

        Raises:
            ValueError: wrong number of digits, or an id that its part does not have.
        """
        pairs = zip(self.parts, self.check_digits(digits), strict=True)
        return self._joined([part.points_at(column) for part, column in pairs])

    def _joined(self, pieces: list[Any]) -> Any:
        return (jnp if is_traced(*pieces) else np).concatenate(pieces, axis=-1)

    def all_log_priors(self) -> Float[Any, " K"]:
        return self.outer([part.log_prior for part in self.parts])

    def prior_entropy(self) -> Any:
        return sum(part.prior_entropy() for part in self.parts)

    def largest_prior(self) -> float:
        return math.prod(part.largest_prior() for part in self.parts)

    def smaller_priors(self) -> float:
        rest = 0.0
        for part in self.parts:
            rest += (1 - rest) * part.smaller_priors()
        return rest

    def sample_ids(self, rng: np.random.Generator, size: int) -> Int[np.ndarray, " size"]:
        digits = [part.sample_ids(rng, size) for part in self.parts]
        return self.from_digits(np.stack(digits, axis=-1))

    def sample_points(self, rng: np.random.Generator, size: int) -> Float[np.ndarray, "size n"]:
        return np.concatenate([part.sample_points(rng, size) for part in self.parts], axis=-1)

    # ---- What the structure knows ---------------------------------------------------------------

    @property
    def as_grid(self) -> ProductCodebook | None:
        """The grid of all parts, where they are grids with product priors in the same order."""
        levels: list[Any] = []
        priors: list[Any] = []
        for part in self.parts:
            grid = part.factors
            if grid is None or (grid.n > 1 and grid.order != self.order):
                return None
            levels += grid.levels
            priors += grid.priors
        rest: dict[str, Any] = {"order": self.order, "name": self.label, "allow_duplicates": True}
        return ProductCodebook(levels, priors, **rest)

    @property
    def knows_distances(self) -> bool:
        return all(part.knows_distances for part in self.parts)

    @property
    def knows_pairs(self) -> bool:
        return self.has_equal_priors and all(part.knows_pairs for part in self.parts)

    @property
    def knows_covariance(self) -> bool:
        return all(part.knows_covariance or part.fits for part in self.parts)

    def mean(self) -> Float[np.ndarray, " n"]:
        return np.concatenate([part.mean() for part in self.parts])

    def average_power(self) -> float:
        return math.fsum(part.average_power() for part in self.parts)

    def covariance_eigenvalues(self) -> Float[np.ndarray, " m"]:
        return np.concatenate([part.covariance_eigenvalues() for part in self.parts])

    def second_order(
        self, snr: Float[np.ndarray, " s"]
    ) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
        linear, log_det = zip(*(part.second_order(snr) for part in self.parts), strict=True)
        return np.sum(linear, axis=0), np.sum(log_det, axis=0)

    def half_widths(self) -> Float[np.ndarray, " n"]:
        return np.concatenate([part.half_widths() for part in self.parts])

    def largest_coordinate(self) -> float:
        return max(part.largest_coordinate() for part in self.parts)

    def diameter(self) -> float:
        return math.hypot(*(part.diameter() for part in self.parts))

    def diameter_bound(self) -> float:
        return math.hypot(*(part.diameter_bound() for part in self.parts))

    @property
    def _several(self) -> list[Codebook]:
        """The parts that tell tokens apart."""
        return [part for part in self.parts if part.K > 1]

    def nn_distances(self) -> Float[np.ndarray, " K"]:
        self._check_size(self.K, MAX_ELEMENTS, "nn_distances")
        columns = [part.nn_distances() for part in self._several]
        return self.outer(columns, np.minimum)

    def min_distance(self) -> float:
        return min(part.min_distance() for part in self._several)

    def min_distance_bound(self) -> float:
        return min(part.min_distance_bound() for part in self._several)

    def mean_nn_distance(self) -> float:
        return mean_of_smallest([part.nn_distances() for part in self._several])

    def pairs(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        if self.knows_pairs:
            yield combined_pairs(map(_pairs_of, self.parts))
        else:
            yield from super().pairs()

    # ---- One observation ------------------------------------------------------------------------

    def logits(self, y: Float[Any, "*batch n"], h: Float[Any, " *batch"]) -> Float[Any, "*batch K"]:
        pairs = zip(self.parts, self.split(y), strict=True)
        return self.outer([part.logits(own, h) for part, own in pairs])

    def decide(
        self, y: Float[np.ndarray, "rows n"], h: Float[np.ndarray, " rows"]
    ) -> Int[np.ndarray, " rows"]:
        pairs = zip(self.parts, self.split(y), strict=True)
        return self.from_digits(np.stack([part.decide(own, h) for part, own in pairs], axis=-1))

    def nearest(self, x: Float[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        pairs = zip(self.parts, self.split(check_vectors("x", x, self.n)), strict=True)
        return self.from_digits(np.stack([part.nearest(own) for part, own in pairs], axis=-1))

    # ---- Products made from this one ------------------------------------------------------------

    def scaled(self, by: Any, over: Any = 1.0) -> Product:
        return self._of([part.scaled(by, over) for part in self.parts], f"{self.label}, scaled")

    def shifted(self, by: Float[Any, " n"], what: str = "shifted") -> Product:
        pairs = zip(self.parts, self.split(by), strict=True)
        moved = [part.shifted(own, what) for part, own in pairs]
        return self._of(moved, f"{self.label}, {what}")

    def with_prior(self, prior: Float[Any, " K"] | None) -> Codebook:
        """The same points; a joint law on the tokens needs points that can be listed."""
        if prior is not None:
            return super().with_prior(prior)
        return self._of([part.with_prior(None) for part in self.parts], self.label)

    def with_priors(self, priors: list[Any]) -> Product:
        if len(priors) != len(self.parts):
            expected = f"a list of {len(self.parts)}, one for each part"
            reject("priors", f"a list of {len(priors)}", expected)
        pairs = zip(self.parts, priors, strict=True)
        return self._of([part.with_prior(prior) for part, prior in pairs], self.label)

    def _of(self, parts: list[Codebook], name: str) -> Product:
        return Product(parts, order=self.order, name=name)

    def record(self) -> Record:
        parts: list[dict[str, Any]] = []
        arrays: dict[str, Any] = {}
        for index, part in enumerate(self.parts):
            header, own = described(part)
            parts.append(header)
            arrays |= {f"parts.{index}.{name}": array for name, array in own.items()}
        return {"name": self.name, "order": self.order, "parts": parts}, arrays

    @classmethod
    def from_record(cls, header: dict[str, Any], read: Reader) -> Codebook:
        conform(header, _OfParts, "the description")
        _check_nesting(header["parts"], MAX_DEPTH)

        def reader(index: int) -> Reader:
            return lambda name, optional=False: read(f"parts.{index}.{name}", optional=optional)

        parts = [made_from(part, reader(index)) for index, part in enumerate(header["parts"])]
        return cls(parts, order=header["order"], name=header["name"])


def _check_nesting(parts: list[Any], left: int) -> None:
    if left == 0 or len(parts) > MAX_COORDINATES:
        expected = f"at most {MAX_COORDINATES:,} of them, nested at most {MAX_DEPTH} times"
        reject("parts", f"a list of {len(parts)}", expected)
    for part in parts:
        inner = part.get("parts") if isinstance(part, dict) else None
        if isinstance(inner, list):
            _check_nesting(inner, left - 1)


def _pairs_of(part: Codebook) -> tuple[np.ndarray, np.ndarray]:
    pieces = list(part.pairs())
    squared = [np.ravel(distance) ** 2 for _, distance, _ in pieces]
    counts = [np.ravel(weight) for weight, _, _ in pieces]
    return np.concatenate([*squared, np.zeros(0)]), np.concatenate([*counts, np.zeros(0)])
