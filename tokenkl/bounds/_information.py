"""Bounds on the information from all pairs of tokens; independent parts add up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial.distance import cdist

from tokenkl._validation import check_snr, reject
from tokenkl.codebooks import Codebook
from tokenkl.estimate import Bound
from tokenkl.numerics.distances import BLOCK_PAIRS
from tokenkl.numerics.threads import in_order

CITATION = "Kolchinsky and Tracey 2017, Entropy 19, 361"
#: Most tokens whose pairs are gone through, at every SNR.
MAX_TOKENS = 2**16
EPS = float(np.finfo(float).eps)
#: How far from each other two tokens are in the exponent, for either bound: snr d^2 over this.
DIVISORS = {"lower": 8.0, "upper": 2.0}


def distance_information_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """I(k; Y) >= - sum_k pi_k log sum_j pi_j exp(-snr d_kj^2 / 8), in nats.

    The law of Y is a mixture of Gaussians, whose entropy is bounded by the Bhattacharyya
    coefficients exp(-snr d^2 / 8) of its components. Independent parts add up, so that grids and
    products of codebooks are as large as they like; other tokens cost all pairs. Where the kind
    counts pairs by their distance (lattices) and the tokens are too many to list, the logarithm is
    taken of the average instead, which is lower.

    Args:
        codebook: any codebook whose parts have at most 65,536 tokens, are one-hot, or know their
            pairs and have equal priors; equal points are allowed.
        snr: signal-to-noise ratios, at least 0; the result has their shape.

    Returns:
        A lower `Bound` on the information, in nats.

    Raises:
        ValueError: snr negative or not finite, or a codebook too large.

    Example:
        >>> import tokenkl as tk
        >>> grid = tk.FSQ((3,) * 8)
        >>> low, high = (bound(grid, 4.0).value
        ...     for bound in (distance_information_bound, divergence_information_bound))
        >>> bool(low < tk.mutual_information(grid, 4.0).value < high)
        True
    """
    snr = check_snr(snr)
    return _bound(codebook, snr, "lower", "distances of pairs")


def divergence_information_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """I(k; Y) <= - sum_k pi_k log sum_j pi_j exp(-snr d_kj^2 / 2), in nats.

    snr d^2 / 2 is the Kullback-Leibler divergence of two tokens. Arguments and errors as in
    `distance_information_bound`, but that the tokens of each part have to be listed or one-hot; an
    upper `Bound`.
    """
    snr = check_snr(snr)
    return _bound(codebook, snr, "upper", "divergences of pairs")


def chi_squared_information_bound(codebook: Codebook, snr: Float[Any, " *shape"]) -> Bound:
    """I(k; Y) >= (1/2) log det(I + snr Sigma) - log(1 + chi^2), in nats.

    The information is that of a Gaussian input with the same covariance Sigma, less the divergence
    of the law of Y from the Gaussian, which is at most log(1 + chi^2); for a mixture the latter is
    a sum over pairs. Tight where the SNR is low, of no use where tokens are resolved; never below
    0. Arguments and errors as in `divergence_information_bound`, but that one-hot tokens have to be
    listed, too; a lower `Bound`.

    Example:
        >>> import tokenkl as tk
        >>> found = tk.mutual_information(tk.FSQ((4,)), 0.1).value
        >>> bool(0.9995 * found < chi_squared_information_bound(tk.FSQ((4,)), 0.1).value < found)
        True
    """
    snr = check_snr(snr)
    total = np.zeros(snr.size)
    for part in codebook.smallest_parts:
        if not (part.K <= MAX_TOKENS and part.fits):
            reject("codebook", repr(part), f"one whose parts have at most {MAX_TOKENS:,} tokens")
        points, prior = np.asarray(part.points), np.exp(np.asarray(part.log_prior))
        found = _below_gaussian(points, prior, snr.ravel())
        total += np.minimum(found, float(part.prior_entropy()))  # resolved tokens leave rounding
    name, value = "Gaussian input less chi-squared", total.reshape(snr.shape)
    citation = "Cover and Thomas 2006, theorem 8.6.5; Gibbs and Su 2002, D <= log(1 + chi^2)"
    return Bound(value, "lower", name, citation, "mutual_information", "nats")


def pairs_are_few(codebook: Codebook, most: int = MAX_TOKENS) -> bool:
    """Whether each part's tokens are equally far apart, or listed and at most so many."""
    return all(
        part.common_distance is not None or (most >= part.K and part.fits)
        for part in codebook.smallest_parts
    )


def pairs_are_counted(codebook: Codebook) -> bool:
    """Whether the kind counts pairs of tokens by their distance, all priors being equal."""
    return codebook.has_equal_priors and codebook.knows_pairs


def _bound(
    codebook: Codebook,
    snr: Float[np.ndarray, " *shape"],
    side: Literal["lower", "upper"],
    name: str,
) -> Bound:
    total = np.zeros(snr.size)
    exponents = snr.ravel() / DIVISORS[side]
    for part in codebook.smallest_parts:
        if pairs_are_few(part):
            total += _by_token(part, exponents)
        elif side == "lower" and pairs_are_counted(part):
            total += _by_distance(part, exponents)
        else:
            expected = f"one whose parts are one-hot or have at most {MAX_TOKENS:,} tokens"
            reject("codebook", repr(part), expected)
    value = total.reshape(snr.shape)
    return Bound(value, side, name, CITATION, "mutual_information", "nats")


def _by_token(part: Codebook, exponents: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """- sum_k pi_k log sum_j pi_j exp(-x d_kj^2), at every x."""
    log_prior = np.asarray(part.log_prior)
    if part.common_distance is not None:
        return _by_prior(np.exp(log_prior), exponents * part.common_distance**2)
    points, prior = np.asarray(part.points), np.exp(log_prior)

    def work(own: slice) -> Float[np.ndarray, " s"]:
        squared = cdist(points[own], points, "sqeuclidean")
        return np.array([prior[own] @ _minus_log(squared * one, prior) for one in exponents])

    blocks = in_order(work, len(points), max(1, BLOCK_PAIRS // len(points)))
    return np.sum(list(blocks), axis=0)


def _minus_log(x: Float[np.ndarray, "rows K"], prior: Float[np.ndarray, " K"]) -> np.ndarray:
    """-log sum_j pi_j exp(-x_j) of every row, by positive terms near 0 as far from it."""
    near = np.exp(-x) @ prior
    out = -np.log(near)
    rows = near > 0.5
    out[rows] = -np.log1p(np.expm1(-x[rows]) @ prior)
    return np.asarray(out)


def _by_prior(prior: Float[np.ndarray, " K"], apart: Float[np.ndarray, " s"]) -> np.ndarray:
    """The same where all pairs are equally far apart."""
    others = 1 - prior
    top = np.argmax(prior)
    others[top] = np.sum(np.delete(prior, top))  # keeps its digits where that token is certain
    total = np.empty(apart.size)
    for index, x in enumerate(apart):
        lost = -np.expm1(-x) * others
        total[index] = prior @ -np.where(
            lost < 0.5, np.log1p(-np.minimum(lost, 0.5)), np.log(prior + np.exp(-x) * others)
        )
    return total


def _by_distance(part: Codebook, exponents: Float[np.ndarray, " s"]) -> np.ndarray:
    """-log sum_kj pi_k pi_j exp(-x d_kj^2), no larger: the logarithm is concave (Jensen)."""
    lost, near = np.zeros(exponents.size), np.full(exponents.size, 1 / part.K)
    for weight, distance in _counted(part):
        for index, one in enumerate(exponents):
            lost[index] += weight @ -np.expm1(-one * distance**2)
            near[index] += weight @ np.exp(-one * distance**2)
    return -np.where(lost < 0.5, np.log1p(-np.minimum(lost, 0.5)), np.log(near))


def _counted(part: Codebook) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """pi_k pi_j, summed over pairs of one distance, and that distance."""
    for weight, distance, _ in part.pairs():
        yield np.ravel(weight) / part.K, np.ravel(distance)


def _below_gaussian(
    points: Float[np.ndarray, "K n"], prior: Float[np.ndarray, " K"], snr: Float[np.ndarray, " s"]
) -> Float[np.ndarray, " s"]:
    # From the most probable point, so that a nearly certain law keeps its digits.
    offset = points - points[np.argmax(prior)]
    centred = offset - prior @ offset
    _, singular, axes = np.linalg.svd(np.sqrt(prior)[:, None] * centred, full_matrices=False)
    # Axes that are nothing but rounding say nothing; without them the bound is as true.
    kept = singular > max(points.shape) * EPS * singular.max(initial=0.0)
    sd = singular[kept]
    along = centred @ axes[kept].T / sd  # principal axes, in units of the standard deviation
    total = np.empty(snr.size)
    for index, one in enumerate(snr):
        x = np.minimum(np.sqrt(one) * sd, 1e50) ** 2  # of a lower SNR the bound is as true
        # The integral of N(y; u) N(y; v) / N(y; 0, 1 + x) over y, one axis at a time, is
        # (1 + x) / sqrt(1 + 2 x) exp([2 u v - x (u - v)^2] / (2 + 4 x)).
        u = along * np.sqrt(x / (1 + 2 * x))
        more = _more_than_gaussian(u, u * np.sqrt(x / 2), prior)
        total[index] = np.log1p(x / (1 + x)).sum() / 2 - np.log1p(more)
    return np.where(total > 0, total, 0.0)


def _more_than_gaussian(
    u: Float[np.ndarray, "K n"], w: Float[np.ndarray, "K n"], prior: Float[np.ndarray, " K"]
) -> float:
    """The mean of exp(u_k u_l - |w_k - w_l|^2), less 1; infinite where the bound is of no use."""

    @np.errstate(over="ignore")
    def work(own: slice) -> float:
        apart = u[own] @ u.T - cdist(w[own], w, "sqeuclidean")
        return float(prior[own] @ np.expm1(apart) @ prior)

    return sum(in_order(work, prior.size, max(1, BLOCK_PAIRS // prior.size)))
