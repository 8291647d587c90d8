"""Choices that do not hang on the last digits of numbers, which differ between machines.

Sums of products are taken in another order by another processor, so that what is equal in exact
arithmetic is not, and the sign of a singular vector is whatever a library makes it.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

#: Of the largest of some numbers, what is rounding in them, and more.
LEVEL = 2.0**-26


def level(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Multiples of a power of two, 2^-27 to 2^-26 of the largest: ties are ties again.

    A number at the boundary between two multiples may still go either way: of rounding errors of
    1e-15 one number in ten million does.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0:
        return values
    unit = LEVEL * 2.0 ** math.floor(math.log2(largest))
    found: np.ndarray = np.rint(values / unit) * unit
    return found


def signs(columns: Float[np.ndarray, "K R"]) -> Float[np.ndarray, " R"]:
    """Of each column, what makes its first entry above 0.62 of the largest magnitude positive."""
    size = np.abs(columns)
    first = (size > 0.62 * size.max(axis=0)).argmax(axis=0)
    found: np.ndarray = np.where(columns[first, np.arange(columns.shape[1])] < 0, -1.0, 1.0)
    return found
