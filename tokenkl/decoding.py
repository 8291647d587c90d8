"""The MAP decision: the most probable token given an observation, exact for every codebook.

Given Y = h e_k + eps with h = sqrt(snr), the decision maximises log pi_k - |y - h e_k|^2 / 2. No
posterior is normalised, and structured codebooks are never materialised: every kind decides in its
own way (`Codebook.decide`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tokenkl._validation import (
    check_snr,
    check_vectors,
    is_traced,
    reject,
)
from tokenkl.codebooks import Codebook
from tokenkl.codebooks.base import check_codebook


def decide(
    codebook: Codebook, y: Float[Any, "*batch n"], snr: Float[Any, " *batch"]
) -> Int[np.ndarray, " *batch"]:
    """The most probable token given each observation: argmax_k log pi_k - |y - h e_k|^2 / 2.

    With h = sqrt(snr). Exact up to rounding: the token returned has the largest logit, or one that
    double precision cannot tell from it. Of tokens whose computed logits are equal, such as equal
    points with equal priors, the smallest id.

    Args:
        codebook: any codebook; grids with product priors, one-hot and lattice codebooks stay lazy.
        y: observations in noise units, as `channel.sample` draws them, anywhere in R^n.
        snr: signal-to-noise ratios, at least 0, that broadcast against the other axes of y. Points
            without structure are searched fastest at few different ones.

    Returns:
        Token ids, of the broadcast shape.

    Raises:
        ValueError: wrong last axis of y, an argument that is not finite or that JAX traces, snr
            below 0, points too many to materialise, or more than 2**63 tokens.

    Example:
        >>> import tokenkl as tk
        >>> decide(tk.FSQ((3, 3)), [[0.9, -2.0], [0.1, 0.2]], 4.0)
        array([3, 4])
    """
    check_codebook(codebook)
    import jax

    if is_traced(y, snr, *jax.tree_util.tree_leaves(codebook)):
        reject("y", "a traced value", "concrete, because decisions are made in NumPy")
    y, h = check_vectors("y", y, codebook.n), np.sqrt(check_snr(snr))
    try:
        shape = np.broadcast_shapes(y.shape[:-1], h.shape)
    except ValueError:
        reject("snr", f"an array of shape {h.shape}", f"one that broadcasts to {y.shape[:-1]}")
    rows = np.broadcast_to(y, (*shape, codebook.n)).reshape(-1, codebook.n)
    h = np.broadcast_to(h, shape).reshape(-1)
    if h.size == 0:
        return np.zeros(shape, dtype=np.int64)
    return codebook.decide(rows, h).reshape(shape)
