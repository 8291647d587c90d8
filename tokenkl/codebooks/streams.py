"""Streams of tokens: how an array of ids or of digits is read, and the prior that it gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from tokenkl._validation import MAX_ELEMENTS, array_of, as_float_array, check_ids, reject
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.codebooks.digits import ByDigits
from tokenkl.codebooks.vq import prior_from_tokens


class Stream(NamedTuple):
    """Tokens of a codebook, one by one: their ids, or a row of digits each, and how they came."""

    ids: Int[np.ndarray, " N"] | None
    digits: Int[np.ndarray, "N digits"] | None
    how: str

    @property
    def size(self) -> int:
        rows = self.digits if self.ids is None else self.ids
        assert rows is not None
        return len(rows)

    def one_by_one(self, codebook: Codebook) -> Int[np.ndarray, " N"] | None:
        """The ids of the tokens; None for digits of more tokens than were counted."""
        if self.digits is None or not isinstance(codebook, ByDigits):
            return self.ids
        return codebook.from_digits(self.digits) if self.size >= codebook.K else None


def read_stream(codebook: Codebook, tokens: Any, padding: int | None = None) -> Stream:
    """Which tokens of a codebook an array holds.

    - One axis: token ids, whole numbers (also as floats).
    - More axes, one of them as long as a token has digits, with values in their ranges: digits of a
      grid, of a product or of the stages of a residual codebook, in whatever place that axis is.
    - Otherwise, if the codebook is a grid or has no digits: ids, whatever the shape.

    Args:
        codebook: whose tokens they are.
        tokens: the array.
        padding: a number that stands for no token, such as -1; a token with such a digit is none.

    Raises:
        ValueError: numbers that are not whole or out of range, no token, two axes that both may
            hold the digits, or several axes none of which can.
    """
    array = _whole(tokens)
    kept = np.ones(array.shape, bool) if padding is None else array != padding
    shape, order = (codebook.shape, codebook.order) if isinstance(codebook, ByDigits) else ((), "C")
    if array.ndim > 1 and _are_one_hot(array, codebook.K):
        expected = "ids, not one-hot rows, of which argmax(-1) gives the ids"
        reject("tokens", f"an array of shape {array.shape}, with a 1 in each row", expected)
    places = [axis for axis in range(array.ndim) if _may_hold(shape, array, kept, axis)]
    if len(places) > 1:
        expected = f"of shape (N, {len(shape)}), so that it is clear which axis has the digits"
        reject("tokens", f"an array of shape {array.shape}", expected)
    if places:
        rows = np.moveaxis(array, places[0], -1).reshape(-1, len(shape))
        rows = rows[np.moveaxis(kept, places[0], -1).reshape(rows.shape).all(axis=1)]
        _check_any(rows)
        how = f"{len(rows):,} tokens of {len(shape)} digits each, along axis {places[0]}"
        return Stream(None, rows, how)
    several = sum(length > 1 for length in array.shape) > 1
    if several and len(shape) > 1 and codebook.as_grid is None:
        expected = f"flat ids, or digits along an axis of {len(shape)} with values below {shape}"
        reject("tokens", f"an array of shape {array.shape}", expected)
    least = int(array[kept].min(initial=0))
    if least < 0:
        reject(
            "tokens", least, f"from 0 to {codebook.K - 1}, unless padding={least} leaves them out"
        )
    ids = check_ids(array[kept], codebook.K, "tokens")
    _check_any(ids)
    counted = ", the first digit fastest" if order == "F" else ""
    return Stream(ids, None, f"{ids.size:,} token ids{counted}")


def with_token_prior(
    codebook: Codebook,
    tokens: Any,
    smoothing: float | None = None,
    *,
    used_only: bool = False,
    padding: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Codebook:
    """The codebook with the frequencies of some tokens as its prior.

    Digits give the law of all tokens where there are no more tokens than were counted, and else one
    law for each digit, as if they were independent.

    Args:
        codebook: whose tokens they are.
        tokens: ids or digits, as `read_stream` reads them.
        smoothing: added to every count (see `prior_from_tokens`); without it 1/2, and 0 with
            `used_only`. With 0, tokens that never occur are left out.
        used_only: leave out the tokens that never occur: a codebook with fewer tokens, in the order
            of their ids.
        padding: a number that stands for no token.
        tell: called with a sentence on how the tokens were read.

    Raises:
        ValueError: as `read_stream`, or a smoothing below 0.

    Example:
        >>> import tokenkl as tk
        >>> [round(float(p), 3) for p in with_token_prior(tk.FSQ((2, 2)), [0, 0, 3, 3]).prior]
        [0.417, 0.083, 0.083, 0.417]
    """
    say = tell or (lambda sentence: None)
    stream = read_stream(codebook, tokens, padding)
    amount = _amount(smoothing, used_only)
    ids = stream.one_by_one(codebook)
    if ids is None and stream.digits is not None and isinstance(codebook, ByDigits):
        if not used_only:
            say(f"{stream.how}: one prior for each digit, as if they were independent")
            columns = zip(stream.digits.T, codebook.shape, strict=True)
            return codebook.with_priors([prior_from_tokens(*pair, amount) for pair in columns])
        ids = codebook.from_digits(stream.digits)
    assert ids is not None
    used, counts = np.unique(ids, return_counts=True)
    if used.size < codebook.K and (used_only or amount == 0):
        return _of_used(codebook, used, counts + amount, say, stream.how)
    if codebook.K > MAX_ELEMENTS:
        expected = f"ids of at most {MAX_ELEMENTS:,} tokens, or read with used_only=True"
        reject("tokens", f"ids of {codebook.K:,} tokens", expected)
    say(stream.how)
    return codebook.with_prior(prior_from_tokens(ids, codebook.K, amount))


def with_counts(
    codebook: Codebook,
    counts: Any,
    smoothing: float | None = None,
    *,
    used_only: bool = False,
    tell: Callable[[str], None] | None = None,
) -> Codebook:
    """The codebook with a prior from how often each token occurs, or from sizes of clusters.

    Args:
        codebook: of K tokens.
        counts: K numbers, at least 0; they need not be whole.
        smoothing, used_only, tell: as for `with_token_prior`.

    Raises:
        ValueError: other counts, or a smoothing below 0.
    """
    array = as_float_array("counts", counts, ndim=1)
    if array.size != codebook.K or (array < 0).any() or not array.any():
        expected = f"{codebook.K:,} numbers, at least 0 and not all 0"
        reject("counts", f"{array.size:,} numbers from {array.min(initial=0):g}", expected)
    amount = _amount(smoothing, used_only)
    used = np.flatnonzero(array)
    if used.size < codebook.K and (used_only or amount == 0):
        say = tell or (lambda sentence: None)
        return _of_used(codebook, used, array[used] + amount, say, "counts")
    return codebook.with_prior(_shares(array + amount))


def _of_used(
    codebook: Codebook, used: np.ndarray, weights: np.ndarray, say: Any, how: str
) -> PointCodebook:
    """The codebook of some of the tokens."""
    say(f"{how}: {codebook.K - used.size:,} of {codebook.K:,} tokens never occur, and are left out")
    if used.size * codebook.n > MAX_ELEMENTS:
        expected = f"at most {MAX_ELEMENTS // codebook.n:,} different ones"
        reject("tokens", f"{used.size:,} different tokens", expected)
    name = f"{codebook.label}, used tokens"
    points = codebook.points_at(used)
    return PointCodebook(points, _shares(weights), name=name, allow_duplicates=True)


def _shares(weights: np.ndarray) -> np.ndarray:
    scaled = np.ldexp(weights, -np.frexp(weights.max())[1])  # so that the sum does not overflow
    return np.asarray(scaled / math.fsum(scaled))


def _amount(smoothing: float | None, used_only: bool) -> float:
    if smoothing is None:
        return 0.0 if used_only else 0.5
    if as_float_array("smoothing", smoothing, ndim=0) < 0:
        reject("smoothing", smoothing, "at least 0")
    return smoothing


def _are_one_hot(array: np.ndarray, K: int) -> bool:
    """Whether rows are as long as there are tokens and say which it is; ids by chance are not."""
    rows = array.reshape(-1, array.shape[-1])
    one_each = (np.count_nonzero(rows, axis=1) == 1) & (rows.max(axis=1, initial=0) == 1)
    return rows.shape[1] == K > 2 and len(rows) > 1 and bool(one_each.all())


def _may_hold(shape: tuple[int, ...], array: np.ndarray, kept: np.ndarray, axis: int) -> bool:
    """Whether an axis may be that of the digits."""
    if len(shape) < 2 or array.ndim < 2 or array.shape[axis] != len(shape):
        return False
    digits, counted = (np.moveaxis(one, axis, -1) for one in (array, kept))
    inside = (digits >= 0) & (digits < np.array(shape, dtype=object if max(shape) > 2**62 else int))
    return bool((inside | ~counted).all())


def _whole(tokens: Any) -> Int[np.ndarray, "*shape"]:
    array = array_of(tokens)
    if array.dtype.kind == "f" and (np.abs(array) < 2.0**53).all():
        if (array != np.rint(array)).any():
            reject("tokens", float(array[array != np.rint(array)].flat[0]), "whole numbers")
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        reject("tokens", f"an array of {array.dtype}", "whole numbers")
    return array


def _check_any(tokens: np.ndarray) -> None:
    if len(tokens) == 0:
        reject("tokens", "none", "at least one token")
