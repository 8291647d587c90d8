"""What a sample of discrete draws has not seen, and whether its error bar may leave that out.

A sample of a nearly deterministic law shows next to no variance, whatever the draws that it missed
would have said. Together these are about as probable as what was seen once (Good 1953, Biometrika
40). Where much was seen once, it stands for them, and a variance has them in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl.numerics.moments import MIN_CARRIERS

#: Expected number of draws of which none is seen with probability 5 %.
UNSEEN = 3.0


def labels_of(rows: Int[np.ndarray, "N length"]) -> Int[np.ndarray, " N"]:
    """Numbers that are the same for equal rows, and else differ but for one in 2^64.

    >>> first, second, third = labels_of(np.array([[0, 1], [1, 0], [0, 1]]))
    >>> bool(first == third), bool(first == second)
    (True, False)
    """
    factors = np.random.default_rng(0).integers(2**64, size=rows.shape[1:], dtype=np.uint64)
    found: np.ndarray = ((rows.astype(np.uint64) + np.uint64(1)) * factors).sum(axis=1)
    return found


def seen_once(labels: Int[np.ndarray, " N"]) -> int:
    """How many draws are like no other one.

    >>> seen_once(np.array([3, 5, 3, 7]))
    2
    """
    return int((np.unique(labels, return_counts=True)[1] == 1).sum())


def represented(
    once: int | Int[np.ndarray, "*shape"],
    draws: int | Int[np.ndarray, "*shape"],
    error: Float[np.ndarray, "*shape"],
    reach: float | Float[np.ndarray, "*shape"],
) -> Bool[np.ndarray, "*shape"]:
    """Whether a standard error covers what was not seen.

    Many draws were seen once, or what was not seen, with a probability of (once + 3) / draws at 95
    per cent and at most `reach` away, would move a mean by no more than that error.
    """
    missing: Any = (once + UNSEEN) / np.maximum(draws, 1)
    return np.asarray((once >= np.minimum(MIN_CARRIERS, draws)) | (error >= missing * reach))
