"""`Joint`: a law given as the table of all its sequences; bilinear energies make some."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl._validation import as_float_array, real_coordinates, reject
from tokenkl.sources.base import MOST_SEQUENCES, Source, check_laws


@final
class Joint(Source):
    """Any law of few sequences.

    Args:
        law: probabilities, an array with one axis of size K for every position; they may be 0.

    Raises:
        ValueError: axes of different sizes, more than 2**22 numbers, or no law.

    Example:
        >>> import tokenkl as tk
        >>> copied = tk.sources.Joint([[0.5, 0.0], [0.0, 0.5]])
        >>> round(copied.entropy(), 6)
        0.693147
    """

    law: Float[np.ndarray, "K*length"]

    def __init__(self, law: Any) -> None:
        array = as_float_array("law", law)
        if array.ndim < 1 or len(set(array.shape)) != 1:
            reject("law", f"an array of shape {array.shape}", "axes of one size, K")
        if array.size > MOST_SEQUENCES:
            reject("law", f"{array.size:,} sequences", f"at most {MOST_SEQUENCES:,}")
        self.law = check_laws("law", array.reshape(1, -1)).reshape(array.shape)

    @property
    def K(self) -> int:
        return int(self.law.shape[0])

    @property
    def length(self) -> int:
        return int(self.law.ndim)

    def log_prob(self, tokens: Int[Any, "N length"]) -> Float[np.ndarray, " N"]:
        with np.errstate(divide="ignore"):
            found: np.ndarray = np.log(self.law[tuple(self._check_tokens(tokens).T)])
        return found

    def joint(self) -> Float[np.ndarray, "K*length"]:
        return self.law


def bilinear(
    first: Float[Any, "K n"],
    second: Float[Any, "K m"],
    matrix: Float[Any, "n m"],
    *,
    base: Float[Any, "K K"] | None = None,
) -> Joint:
    """Two tokens with P(k, l) proportional to base(k, l) exp(u_k' A v_l).

    The law "lives" in the coordinates u and v: those of a codebook make it the codebook's own.

    Args:
        first, second: u and v, one row for every token.
        matrix: A.
        base: positive weights of every pair, such as products of priors; all 1 unless given.

    Raises:
        ValueError: shapes that do not fit, or weights that are not positive.

    Example:
        >>> import tokenkl as tk
        >>> u = tk.FSQ((2,)).points
        >>> tk.sources.bilinear(u, u, [[1.0]]).law.round(4).tolist()
        [[0.4404, 0.0596], [0.0596, 0.4404]]
    """
    u, v = (
        as_float_array(n, real_coordinates(p), ndim=2)
        for n, p in (("first", first), ("second", second))
    )
    A = as_float_array("matrix", matrix, ndim=2)
    if len(u) != len(v):
        reject("second", f"{len(v)} rows", f"{len(u)}, one for every token as in first")
    if A.shape != (u.shape[1], v.shape[1]):
        reject("matrix", f"of shape {A.shape}", f"of shape {(u.shape[1], v.shape[1])}")
    energy = u @ A @ v.T
    if base is not None:
        weights = as_float_array("base", base, ndim=2)
        if weights.shape != energy.shape or weights.min() <= 0:
            reject("base", f"an array of shape {weights.shape}", f"{energy.shape}, all positive")
        energy = energy + np.log(weights)
    return Joint(special.softmax(energy))
