"""Grids: `ProductCodebook`, and `FSQ` with the published conventions of its levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import (
    as_float_array,
    check_choice,
    check_ids,
    check_levels,
    check_points,
    check_prior,
    is_traced,
    reject,
)
from tokenkl.codebooks.base import Codebook, entropy, is_equal, log_of

Order = Literal["C", "F"]

#: Largest |log joint - sum of log marginals| at which a prior on the grid counts as a product.
FACTORISATION_TOLERANCE = 1e-13


class ProductCodebook(Codebook):
    """All combinations of one array of levels for each coordinate.

    The prior is a product (`priors`, one array for each coordinate), or any law on the grid
    (`prior`, one probability for each token). A law on the grid that does factorise, to rounding,
    is stored as its factors; one that does not is kept whole, and the product formulas are then
    never used.

    Token ids count through the grid: with ``order="C"`` the last coordinate varies fastest, with
    ``order="F"`` the first (least significant digit first, as common FSQ libraries count).

    Args:
        levels: one array of distinct numbers for each coordinate.
        priors: one probability vector for each coordinate, or None for equal ones; the list may
            hold None for single coordinates.
        prior: (K,) joint probabilities, in the order of the ids; not together with `priors`.
        order: "C" or "F".

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
                f"{len(priors)} entries",
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
        axes = range(len(self.shape))
        marginals = tuple(
            grid.sum(axis=tuple(other for other in axes if other != axis)) for axis in axes
        )
        gap = np.log(grid)
        for axis, marginal in enumerate(marginals):
            gap = gap - np.log(marginal).reshape([-1 if a == axis else 1 for a in axes])
        return marginals if np.abs(gap).max() <= FACTORISATION_TOLERANCE * len(self.shape) else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of levels of each coordinate."""
        return tuple(column.shape[0] for column in self.levels)

    @property
    def K(self) -> int:
        return math.prod(self.shape)

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

    def to_digits(self, ids: Int[Any, " *batch"]) -> Int[np.ndarray, "*batch n"]:
        """The level index of every coordinate for these token ids.

        Raises:
            ValueError: an id is not in 0 .. K - 1.
        """
        return digits_of(check_ids(ids, self.K), self.shape, self.order)

    def from_digits(self, digits: Int[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        """The token ids with these level indices; the inverse of `to_digits`.

        Raises:
            ValueError: wrong number of coordinates, a digit outside its coordinate's levels, or
                more than 2**63 tokens.
        """
        digits = np.asarray(digits)
        if digits.ndim == 0 or digits.shape[-1] != self.n:
            reject(
                "digits", f"shape {digits.shape}", f"an array whose last axis has length {self.n}"
            )
        if self.K > 2**63:
            reject("K", f"{self.K:,}", "at most 2**63 for the ids to be 64-bit integers")
        columns = [
            check_ids(digits[..., axis], size, f"digits[..., {axis}]")
            for axis, size in enumerate(self.shape)
        ]
        ids = np.zeros(digits.shape[:-1], dtype=np.int64)
        for axis in range(self.n) if self.order == "C" else reversed(range(self.n)):
            ids = ids * self.shape[axis] + columns[axis]
        return ids

    def points_at(self, ids: Int[Any, " *batch"]) -> Float[Any, "*batch n"]:
        digits = self.to_digits(ids)
        xp = jnp if is_traced(*self.levels) else np
        columns = [column[digits[..., axis]] for axis, column in enumerate(self.levels)]
        return xp.stack(columns, axis=-1)

    def nearest(self, x: Float[Any, "*batch n"]) -> Int[np.ndarray, " *batch"]:
        """Ids of the tokens nearest to these points, exactly, one coordinate at a time.

        Raises:
            ValueError: the last axis of x does not have length n, or x is not finite.
        """
        x = as_float_array("x", x)
        if x.ndim == 0 or x.shape[-1] != self.n:
            reject("x", f"shape {x.shape}", f"an array whose last axis has length {self.n}")
        digits = np.empty(x.shape, dtype=np.int64)
        for axis, column in enumerate(self.levels):
            rank = np.argsort(column)
            ascending = column[rank]
            middles = (ascending[1:] + ascending[:-1]) / 2
            digits[..., axis] = rank[np.searchsorted(middles, x[..., axis])]
        return self.from_digits(digits)

    def coordinate_log_prior(self, axis: int) -> Float[Any, " L"]:
        """Log-probabilities of the levels of one coordinate; only where the prior factorises."""
        return log_of(self.priors[axis], self.shape[axis])

    def _log_prior(self) -> Float[Any, " K"]:
        if self.joint_prior is not None:
            return log_of(self.joint_prior, self.K)
        xp = jnp if is_traced(*self.priors) else np
        total = xp.zeros(1)
        for axis in range(self.n):
            part = self.coordinate_log_prior(axis)
            if self.order == "C":
                total = (total[:, None] + part).ravel()
            else:
                total = (part[:, None] + total).ravel()
        return total

    def prior_entropy(self) -> Any:
        if self.joint_prior is not None:
            return entropy(self._log_prior())
        return sum(entropy(self.coordinate_log_prior(axis)) for axis in range(self.n))


def digits_of(
    ids: Int[np.ndarray, " *batch"], shape: Sequence[int], order: Order = "C"
) -> Int[np.ndarray, "*batch n"]:
    """`np.unravel_index` without its limits on the number of axes and on the size of the grid."""
    digits = np.empty((*ids.shape, len(shape)), dtype=np.int64)
    axes = range(len(shape))
    for axis in reversed(axes) if order == "C" else axes:
        ids, digits[..., axis] = np.divmod(ids, shape[axis])
    return digits


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


GRIDS = {"symmetric": symmetric_levels, "rounding": rounding_levels}


class FSQ(ProductCodebook):
    """Finite scalar quantization: equispaced levels in every coordinate.

    Args:
        levels: number of levels of each coordinate, such as ``(3,) * 8`` or ``(8, 5, 5, 5)``.
        prior: (K,) joint probabilities in the order of the ids, or None for equal priors.
        grid: "symmetric" (equispaced on [-1, 1], both ends included) or "rounding" (the FSQ
            paper's and vector-quantize-pytorch's: even L gives -1 .. 1 - 2/L); see
            `symmetric_levels` and `rounding_levels`. They differ only for even L.
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
        grid: Literal["symmetric", "rounding"] = "symmetric",
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
