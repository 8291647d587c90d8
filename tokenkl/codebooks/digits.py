"""Tokens that are named by digits, one for each part that they are made of."""

from __future__ import annotations

import abc
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import check_ids, reject
from tokenkl.codebooks.base import Codebook

Order = Literal["C", "F"]


class ByDigits(Codebook):
    """A codebook whose token ids count through `shape`, one digit for each part.

    With order "C" the last digit varies fastest, with "F" the first.
    """

    order: eqx.AbstractVar[Order]

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """How many values every digit has."""

    @property
    def K(self) -> int:
        return math.prod(self.shape)

    def to_digits(self, ids: Int[Any, " *batch"]) -> Int[np.ndarray, "*batch digits"]:
        """The digits of these token ids.

        Raises:
            ValueError: an id is not in 0 .. K - 1.
        """
        return digits_of(check_ids(ids, self.K), self.shape, self.order)

    def from_digits(self, digits: Int[Any, "*batch digits"]) -> Int[np.ndarray, " *batch"]:
        """The token ids with these digits; the inverse of `to_digits`.

        Raises:
            ValueError: wrong number of digits, one that is out of its range, or more than 2**63
                tokens.
        """
        columns = self.check_digits(digits)
        if self.K > 2**63:
            reject("K", f"{self.K:,}", "at most 2**63 for the ids to be 64-bit integers")
        ids = np.zeros(columns[0].shape, dtype=np.int64)
        pairs = list(zip(self.shape, columns, strict=True))
        for size, column in pairs if self.order == "C" else reversed(pairs):
            # A digit of 2**63 values is the only one that counts: `ids` is 0 before it.
            ids = ids * min(size, 2**63 - 1) + column
        return ids

    def outer(
        self,
        columns: list[Float[Any, "*batch part"]],
        how: Callable[[Any, Any], Any] = operator.add,
    ) -> Float[Any, "*batch K"]:
        first, *others = columns if self.order == "C" else reversed(columns)
        for one in others:
            first = how(first[..., :, None], one[..., None, :])
            first = first.reshape(*first.shape[:-2], -1)
        return first

    def check_digits(self, digits: Int[Any, "*batch digits"]) -> list[Int[np.ndarray, " *batch"]]:
        """The digits one by one, each within its range.

        Raises:
            ValueError: wrong number of digits, or one that is out of its range.
        """
        digits = np.asarray(digits)
        if digits.ndim == 0 or digits.shape[-1] != len(self.shape):
            expected = f"an array whose last axis has length {len(self.shape)}"
            reject("digits", f"shape {digits.shape}", expected)
        return [
            check_ids(digits[..., place], size, f"digits[..., {place}]")
            for place, size in enumerate(self.shape)
        ]


def digits_of(
    ids: Int[np.ndarray, " *batch"], shape: Sequence[int], order: Order = "C"
) -> Int[np.ndarray, "*batch digits"]:
    """`np.unravel_index` without its limits on the number of axes and on the size of the grid."""
    digits = np.empty((*ids.shape, len(shape)), dtype=np.int64)
    places = range(len(shape))
    for place in reversed(places) if order == "C" else places:
        if shape[place] < 2**63:
            ids, digits[..., place] = np.divmod(ids, shape[place])
        else:  # no id of 64 bits goes beyond this digit
            ids, digits[..., place] = np.zeros_like(ids), ids
    return digits


def mean_of_smallest(columns: Sequence[Float[np.ndarray, " digit"]]) -> float:
    """Mean over all combinations of digits of the smallest of their numbers.

    A digit that has one value only does not count.
    """
    # Walk up the sorted numbers. Passing one of a digit's c remaining values multiplies the share
    # of tokens further out by (c - 1)/c; its logarithm is summed in extended precision.
    numbers, steps = [], []
    for column in columns:
        if column.size > 1:
            numbers.append(np.sort(column))
            left = np.arange(column.size, 1, -1, dtype=np.longdouble)
            steps.append(np.append(np.log1p(-1 / left), -np.inf))
    together = np.concatenate(numbers)
    rank = np.argsort(together, kind="stable")
    ascending = together[rank]
    shares = np.exp(np.cumsum(np.concatenate(steps)[rank]))[:-1].astype(float)
    return float(ascending[0] + math.fsum(np.diff(ascending) * shares))
