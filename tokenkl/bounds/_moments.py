"""Bounds on MMSE and information from second moments, distances, the box and monotonicity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl._validation import check_positive, check_snr, reject
from tokenkl.bounds._inputs import LEVEL, check_tokens, high_end, how_sure, low_end
from tokenkl.codebooks import Codebook
from tokenkl.estimate import Bound

SQUARED = "squared distance"

I_MMSE = "Guo, Shamai and Verdu 2005, IEEE Trans. Inf. Theory 51"
#: The least positive float.
LEAST = 5e-324


# ---- Geometry -----------------------------------------------------------------------------------


def diameter(codebook: Codebook) -> float:
    """The largest distance of two tokens; above 8192 unstructured points an upper bound on it."""
    return codebook.diameter_bound()


def token_distance(codebook: Codebook) -> float:
    """The smallest distance of two tokens, or a lower bound on it; infinite for one token."""
    return math.inf if codebook.K < 2 else codebook.min_distance_bound()


# ---- MMSE ---------------------------------------------------------------------------------------


def linear_mmse_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """mmse <= tr Sigma (I + snr Sigma)^-1: the best linear denoiser is no better than the best.

    Sigma = Cov(e), weighted by the prior. Equality for Gaussian inputs only; the ratio tends to 1
    as snr tends to 0.

    Args:
        codebook: any codebook; equal points are allowed.
        snr: signal-to-noise ratios, at least 0; the result has their shape.

    Returns:
        An upper `Bound` on the MMSE, in squared distance.

    Raises:
        ValueError: snr negative or not finite, or a codebook that cannot be materialised.

    Example:
        >>> import tokenkl as tk
        >>> float(linear_mmse_bound(tk.FSQ((2, 2)), 1.0).value)
        1.0
    """
    snr = check_snr(snr)
    value, _ = codebook.second_order(snr.ravel())
    return Bound(
        value.reshape(snr.shape),
        "upper",
        "linear MMSE",
        "orthogonality principle; Kay 1993, chapter 12",
        "mmse",
        SQUARED,
    )


def mmse_above_sampling_error(
    codebook: Codebook, sampling_error: Any, *, level: float = LEVEL
) -> Bound:
    """mmse >= (d_min^2 / 2) S, with S = 1 - E sum_k p_k^2 and d_min the smallest distance.

    Cov of a law p on points has the trace (1/2) sum_ij p_i p_j |e_i - e_j|^2, of which S / 2 is the
    part with i != j where all distances are 1. Equality for one-hot tokens.

    Args:
        codebook: any codebook; 0 where two points are equal.
        sampling_error: S, a number, an array or an `Estimate`.
        level: confidence at which an `Estimate` enters.

    Returns:
        A lower `Bound` on the MMSE.

    Raises:
        ValueError: a number that is negative or not finite.
    """
    share = low_end(sampling_error, "sampling_error", level)
    value = share * (token_distance(codebook) ** 2 / 2 if codebook.K > 1 else 0.0)
    name = "smallest distance" + how_sure(sampling_error, level)
    return Bound(value, "lower", name, "covariance as a sum over pairs", "mmse", SQUARED)


def mmse_below_sampling_error(
    codebook: Codebook, sampling_error: Any, *, level: float = LEVEL
) -> Bound:
    """mmse <= (diam^2 / 2) S. Arguments and errors as in `mmse_above_sampling_error`; upper."""
    share = high_end(sampling_error, "sampling_error", level)
    name = "diameter" + how_sure(sampling_error, level)
    value = share * codebook.diameter_bound() ** 2 / 2
    return Bound(value, "upper", name, "covariance as a sum over pairs", "mmse", SQUARED)


def mmse_above_error(codebook: Codebook, error: Any, *, level: float = LEVEL) -> Bound:
    """mmse >= (d_min^2 / 2) P_e, since P_e <= S.

    Twice the (d_min^2 / 4) P_e that follows from decoding the posterior mean to its nearest point.
    Arguments and errors as in `mmse_above_sampling_error`, with P_e for S.
    """
    share = low_end(error, "error", level)
    value = share * (token_distance(codebook) ** 2 / 2 if codebook.K > 1 else 0.0)
    name = "smallest distance" + how_sure(error, level)
    return Bound(value, "lower", name, "covariance as a sum over pairs", "mmse", SQUARED)


def mmse_below_error(codebook: Codebook, error: Any, *, level: float = LEVEL) -> Bound:
    """mmse <= diam^2 (P_e - K/(2(K-1)) P_e^2) <= diam^2 P_e, by Cover and Hart's inequality.

    Arguments and errors as in `mmse_below_sampling_error`, with P_e for S.
    """
    from tokenkl.bounds._posterior import cover_hart_sampling_error

    share = cover_hart_sampling_error(error, codebook.K, level=level).value
    name = "diameter and Cover-Hart" + how_sure(error, level)
    value = share * codebook.diameter_bound() ** 2 / 2
    return Bound(value, "upper", name, "covariance as a sum over pairs", "mmse", SQUARED)


def mmse_decay_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """mmse >= tr Sigma exp(-snr diam^2 / 4): how fast the MMSE can fall at all.

    d mmse / d snr = -E |Cov(e|Y)|_F^2 (Guo, Wu, Shamai and Verdu 2011), and |Cov|_F^2 is at most
    the largest eigenvalue of Cov times its trace; along any direction the tokens are in an interval
    of length diam, so that the eigenvalue is at most diam^2 / 4 (Popoviciu). Then Gronwall.

    Arguments, result and errors as in `linear_mmse_bound`; lower.
    """
    snr = check_snr(snr)
    value = codebook.average_power() * np.exp(-snr * codebook.diameter_bound() ** 2 / 4)
    return Bound(
        value,
        "lower",
        "decay",
        "Guo, Wu, Shamai and Verdu 2011, proposition 9; Popoviciu; Gronwall",
        "mmse",
        SQUARED,
    )


# ---- Information --------------------------------------------------------------------------------


def prior_information_bound(codebook: Codebook) -> Bound:
    """I(k; Y) <= H(prior), in nats, at every SNR."""
    value = np.asarray(codebook.prior_entropy(), float)
    name = "entropy of the prior"
    return Bound(value, "upper", name, "conditioning", "mutual_information", "nats")


def gaussian_information_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """I(k; Y) <= (1/2) log det(I + snr Sigma), Sigma = Cov(e): Gaussian inputs tell the most.

    Arguments and errors as in `linear_mmse_bound`; an upper `Bound` on the information, in nats.

    Example:
        >>> import tokenkl as tk
        >>> round(float(gaussian_information_bound(tk.FSQ((2,)), 3.0).value), 12)  # log(4) / 2
        0.69314718056
    """
    snr = check_snr(snr)
    value = codebook.second_order(snr.ravel())[1] / 2
    return Bound(
        value.reshape(snr.shape),
        "upper",
        "Gaussian input, same covariance",
        "Cover and Thomas 2006, theorem 8.6.5",
        "mutual_information",
        "nats",
    )


def box_information_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """I(k; Y) <= sum_i (1/2) log(1 + snr b_i^2), b_i half the range of coordinate i.

    In the box [-1, 1]^n it is at most (n/2) log(1 + snr). `capacity_bound` is sharper. Arguments
    and errors as in `gaussian_information_bound`.
    """
    snr = check_snr(snr)
    half, counts = np.unique(codebook.half_widths(), return_counts=True)
    value = (counts * np.log1p(snr[..., None] * half**2)).sum(axis=-1) / 2
    citation = "Shannon 1948; a variable in [-b, b] has variance at most b^2 (Popoviciu)"
    return Bound(
        value, "upper", "Gaussian input in the box", citation, "mutual_information", "nats"
    )


def information_decay_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """I(k; Y) >= 2 (tr Sigma / diam^2) (1 - exp(-snr diam^2 / 4)): half the integral of
    `mmse_decay_bound`. Arguments and errors as there; a lower `Bound`, in nats.
    """
    snr = check_snr(snr)
    squared = codebook.diameter_bound() ** 2
    share = -np.expm1(-snr * squared / 4)
    value = share * (2 * codebook.average_power() / squared if squared > 0 else 0.0)
    citation = f"{I_MMSE}, and the decay of the MMSE"
    return Bound(value, "lower", "decay", citation, "mutual_information", "nats")


# ---- Monotonicity and convexity -----------------------------------------------------------------


def information_above_mmse(mmse: Any, snr: Any, *, level: float = LEVEL) -> Bound:
    """I >= (snr / 2) mmse, in nats: I is half the integral of the MMSE, which falls in the SNR.

    Args:
        mmse: at this SNR; a number, an array or an `Estimate`.
        snr: signal-to-noise ratios.
        level: confidence at which an `Estimate` enters.

    Raises:
        ValueError: a number that is negative or not finite.
    """
    value = check_snr(snr) * low_end(mmse, "mmse", level) / 2
    name = "MMSE falls" + how_sure(mmse, level)
    return Bound(value, "lower", name, I_MMSE, "mutual_information", "nats")


def mmse_below_information(information: Any, snr: Any, *, level: float = LEVEL) -> Bound:
    """mmse <= 2 I / snr: `information_above_mmse` read the other way; infinite at snr = 0.

    With I <= H(prior), no MMSE is above 2 H(prior) / snr.
    """
    snr, value = check_snr(snr), high_end(information, "information", level)
    with np.errstate(divide="ignore", invalid="ignore"):
        # What underflows has lost its digits, and counts as a few of the least floats more.
        value = np.where(snr > 0, 2 * (value + 16 * LEAST) / snr, np.inf)
    name = "MMSE falls" + how_sure(information, level)
    return Bound(value, "upper", name, I_MMSE, "mmse", SQUARED)


def tangent_entropy_bound(
    entropy: Any, mmse: Any, snr: Any, at: Any, *, level: float = LEVEL
) -> Bound:
    """H(at) >= H(snr) - (at - snr) mmse(snr) / 2, in nats: H is convex with slope -mmse / 2.

    Args:
        entropy: H at `snr`.
        mmse: the MMSE at `snr`.
        snr: where the two are known.
        at: where H is bounded, below or above.
        level: confidence at which estimates enter.

    Raises:
        ValueError: a number that is negative or not finite.
    """
    step = check_snr(at, "at") - check_snr(snr)
    slope = np.where(step > 0, high_end(mmse, "mmse", level), low_end(mmse, "mmse", level)) / 2
    value = np.maximum(low_end(entropy, "entropy", level) - step * slope, 0.0)
    name = "tangent" + (how_sure(entropy, level) or how_sure(mmse, level))
    return Bound(value, "lower", name, I_MMSE, "conditional_entropy", "nats")


def chord_entropy_bound(
    entropies: tuple[Any, Any], snrs: tuple[Any, Any], at: Any, *, level: float = LEVEL
) -> Bound:
    """H(at) <= the straight line through H at two SNRs around it, in nats: H is convex.

    Args:
        entropies: H at the two SNRs.
        snrs: two SNRs, the smaller one first.
        at: between them.
        level: confidence at which estimates enter.

    Raises:
        ValueError: SNRs not in order, or `at` outside of them.
    """
    low, high = (check_snr(one, "snrs") for one in snrs)
    at = check_snr(at, "at")
    if not ((low < high) & (low <= at) & (at <= high)).all():
        reject("at", at, "between the two SNRs, of which the smaller comes first")
    first, second = (high_end(one, "entropies", level) for one in entropies)
    share = (at - low) / (high - low)
    name = "chord" + (how_sure(entropies[0], level) or how_sure(entropies[1], level))
    value = (1 - share) * first + share * second
    return Bound(value, "upper", name, I_MMSE, "conditional_entropy", "nats")


# ---- Accuracy in the box ------------------------------------------------------------------------


def universal_accuracy(
    K: int,
    half_width: Float[Any, " n"],
    snr: Float[Any, " *shape"],
    largest_prior: float | None = None,
) -> Bound:
    """A <= max_k pi_k prod_i (1 + sqrt(2/pi) h b_i), for any K tokens in the box prod [-b_i, b_i].

    With equal priors in [-1, 1]^n: A <= (1 + sqrt(2/pi) h)^n / K, whatever the codebook.
    Proof: A = int max_k pi_k N(y; h e_k, I) dy <= max_k pi_k prod_i int max_{|x| <= b_i}
    phi(y_i - h x) dy_i, and each integral is 1 + 2 h b_i phi(0).

    Args:
        K: number of tokens.
        half_width: (n,) half the edges of the box.
        snr: signal-to-noise ratios; the result has their shape.
        largest_prior: the largest prior probability; 1/K without it.

    Returns:
        An upper `Bound` on the accuracy, at most 1.

    Raises:
        ValueError: K below 1, a number that is negative or not finite, or a largest prior outside
            of (0, 1].

    Example:
        >>> float(universal_accuracy(4, [1.0, 1.0], 0.0).value)
        0.25
    """
    snr = check_snr(snr)
    half, counts = np.unique(low_end(half_width, "half_width"), return_counts=True)
    if largest_prior is None:
        top = 1 / check_tokens(K)
    else:
        top = check_positive(largest_prior, "largest_prior")
        if top > 1:
            reject("largest_prior", top, "a probability, at most 1")
    growth = np.log1p(math.sqrt(2 / math.pi) * np.sqrt(snr)[..., None] * half)
    log_value = math.log(top) + (counts * growth).sum(axis=-1)
    return Bound(
        np.exp(np.minimum(log_value, 0.0)),
        "upper",
        "any tokens in the box",
        "maximum of the density over the box, coordinate by coordinate",
        "accuracy",
    )


def universal_accuracy_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """`universal_accuracy` of this codebook's number of tokens, bounding box and largest prior."""
    return universal_accuracy(codebook.K, codebook.half_widths(), snr, codebook.largest_prior())


def prior_error_bound(codebook: Codebook) -> Bound:
    """P_e <= 1 - max_k pi_k, at every SNR: the best guess without looking."""
    value = codebook.smaller_priors()
    name = "guess from the prior"
    return Bound(np.asarray(value), "upper", name, "conditioning", "error_probability")
