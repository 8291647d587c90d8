"""Lower bounds on the error probability, from each token's nearest rivals."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_snr
from tokenkl.codebooks import Codebook
from tokenkl.estimate import Bound
from tokenkl.halfspaces.bonferroni import (
    Methods,
    bonferroni,
    de_caen,
    largest,
    lower_bounds,
)

#: What the bound by each method is called, and who proved it.
NAMES: dict[Any, tuple[str, str]] = {
    largest: ("largest pair", "monotonicity of probability"),
    bonferroni: (
        "Bonferroni, second order",
        "Bonferroni 1936; Galambos and Simonelli 1996, chapter 1",
    ),
    de_caen: ("de Caen", "de Caen 1997, Discrete Mathematics 169; Seguin 1998 for Gaussian noise"),
}


def pairwise_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """P_e >= sum_k pi_k max_j Q(r_kj): a union is at least as probable as its largest event.

    r_kj = h d_kj/2 + log(pi_k/pi_j)/(h d_kj), h = sqrt(snr). Holds for every codebook and prior;
    equal points are allowed. Cost: distances of all pairs of tokens.

    Args:
        codebook: any codebook of at most 2**15 tokens that can be materialised, or one-hot.
        snr: signal-to-noise ratios, at least 0; the result has their shape.

    Returns:
        A lower `Bound` on the error probability.

    Raises:
        ValueError: snr negative or not finite, or a codebook too large.

    Example:
        >>> import tokenkl as tk
        >>> cube = tk.FSQ((2, 2))
        >>> float(pairwise_bound(cube, 9.0).value) < float(tk.error_probability(cube, 9.0))
        True
    """
    return bounds_by_pairs(codebook, check_snr(snr), (largest,))[0]


def bonferroni_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """P_e >= sum_k pi_k max_J [sum_{j in J} P(H_kj) - sum_{i<j in J} P(H_ki and H_kj)].

    The second Bonferroni inequality, for each token with the best of the sets J that hold its most
    dangerous rivals (1, 2, ... up to 16 of them): never below `pairwise_bound`. The joint
    probabilities are exact bivariate normal ones with correlation <u_ki, u_kj>.

    Arguments, result and errors as in `pairwise_bound`.
    """
    return bounds_by_pairs(codebook, check_snr(snr), (bonferroni,))[0]


def de_caen_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """P_e >= sum_k pi_k sum_j P(H_kj)^2 / sum_i P(H_ki and H_kj), de Caen's inequality.

    For each token over the best of the sets of its most dangerous rivals (1, 2, ... up to 16 of
    them), with exact bivariate normal probabilities: never below `pairwise_bound`.

    Arguments, result and errors as in `pairwise_bound`.
    """
    return bounds_by_pairs(codebook, check_snr(snr), (de_caen,))[0]


def bounds_by_pairs(
    codebook: Codebook,
    snr: Float[np.ndarray, " *shape"],
    methods: Methods = (bonferroni, de_caen),
) -> list[Bound]:
    """The bounds by several methods at one go: they share the joint probabilities."""
    found = lower_bounds(codebook, snr.ravel(), methods)
    return [
        Bound(value.reshape(snr.shape), "lower", *NAMES[method], "error_probability")
        for value, method in zip(found.T, methods, strict=True)
    ]
