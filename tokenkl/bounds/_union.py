"""The union bound on the error probability, for codebooks of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_snr
from tokenkl.codebooks import Codebook
from tokenkl.estimate import Bound
from tokenkl.halfspaces.union import union_sum


def union_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """Union bound on the Bayes error probability:

        P_e <= sum_k pi_k sum_{j != k} Q(h d_kj / 2 + log(pi_k / pi_j) / (h d_kj)),

    with h = sqrt(snr), d_kj = |e_k - e_j| and Q the upper tail of the normal law; never above 1.
    It holds for every codebook and prior: the best guess of k fails only where some j is at least
    as probable, and each term is the probability of that for one j. As h grows the ratio of the two
    sides tends to 1 where tokens have few nearest neighbours that block each other's view.

    Pairs at one distance are counted once, so that lattices and grids are cheap; a grid with equal
    priors and a lattice cut are never materialised. Other codebooks cost K^2 normal tails for each
    SNR where the sum stays below 1. Floating-point rounding adds a relative error of about 1e-11 or
    less.

    Args:
        codebook: any codebook; equal points are allowed.
        snr: signal-to-noise ratios, at least 0; the result has their shape.

    Returns:
        An upper `Bound` on the error probability.

    Raises:
        ValueError: snr negative or not finite, or points too many to materialise.

    Example:
        >>> import tokenkl as tk
        >>> cube = tk.FSQ((2, 2))
        >>> float(union_bound(cube, 9.0).value) > float(tk.error_probability(cube, 9.0))
        True

    Source: Boole's inequality on pairwise errors; Proakis and Salehi (2008), Digital
    Communications, section 4.2.
    """
    snr = check_snr(snr)
    total = union_sum(codebook, np.sqrt(snr.ravel()))
    return Bound(
        np.minimum(total, 1.0).reshape(snr.shape),
        "upper",
        "union bound",
        "Boole's inequality on pairwise errors; Proakis and Salehi 2008, section 4.2",
        quantity="error_probability",
    )
