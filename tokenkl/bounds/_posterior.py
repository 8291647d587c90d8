"""From one property of the posterior to another: error, sampling error and entropy.

All of these hold for every joint law of a token among K and an observation; nothing here knows of
the channel. Each is an inequality between functions of a probability vector p, averaged by Jensen.

Besides the error probability P_e = 1 - E max_k p_k and the entropy H there is the *sampling error*
S = 1 - E sum_k p_k^2: the probability that a token drawn from the posterior is wrong. (Its
complement is E p(k | Y), the mean posterior probability of the true token.)

Every function takes a number, an array or an `Estimate`; of an estimate it uses the end of the
confidence interval that keeps the bound true.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import special

from tokenkl.bounds._inputs import LEVEL, check_tokens, high_end, how_sure, low_end
from tokenkl.estimate import Bound

COVER_HART = "Cover and Hart 1967, IEEE Trans. Inf. Theory 13"
KOVALEVSKY = "Kovalevsky 1965; Feder and Merhav 1994, IEEE Trans. Inf. Theory 40"
FANO = "Fano 1961; Cover and Thomas 2006, theorem 2.10.1"
HELLMAN_RAVIV = "Hellman and Raviv 1970, IEEE Trans. Inf. Theory 16"
JENSEN = "Renyi entropies fall in their order (min-entropy <= Shannon entropy), and Jensen"


# ---- Error probability and sampling error -------------------------------------------------------


def error_below_sampling_error(sampling_error: Any, *, level: float = LEVEL) -> Bound:
    """P_e <= S, from sum_k p_k^2 <= max_k p_k: guessing beats drawing from the posterior.

    Args:
        sampling_error: S, in [0, 1].
        level: confidence at which an `Estimate` enters.

    Returns:
        An upper `Bound` on the error probability.

    Raises:
        ValueError: a number that is negative or not finite.
    """
    value = np.minimum(high_end(sampling_error, "sampling_error", level), 1.0)
    name = "sum p^2 <= max p" + how_sure(sampling_error, level)
    return Bound(value, "upper", name, COVER_HART, "error_probability")


def error_above_sampling_error(sampling_error: Any, *, level: float = LEVEL) -> Bound:
    """P_e >= 1 - sqrt(1 - S), from max_k p_k <= sqrt(sum_k p_k^2). `cover_hart_error` is sharper.

    Arguments and errors as in `error_below_sampling_error`; a lower `Bound`.
    """
    share = np.minimum(low_end(sampling_error, "sampling_error", level), 1.0)
    # 1 - sqrt(1 - S) without cancellation.
    value = share / (1 + np.sqrt(1 - share))
    name = "max p <= sqrt(sum p^2)" + how_sure(sampling_error, level)
    return Bound(value, "lower", name, "norm inequality and Jensen", "error_probability")


def cover_hart_error(sampling_error: Any, K: int, *, level: float = LEVEL) -> Bound:
    """P_e >= (K-1)/K (1 - sqrt(1 - K S/(K-1))), Cover and Hart's inequality solved for P_e.

    Arguments and errors as in `error_below_sampling_error`, and K, the number of tokens.
    """
    rest = (check_tokens(K) - 1) / K
    share = np.minimum(low_end(sampling_error, "sampling_error", level), rest)
    ratio = share / rest if rest else 0.0 * share
    value = rest * ratio / (1 + np.sqrt(1 - ratio))
    name = "Cover-Hart" + how_sure(sampling_error, level)
    return Bound(value, "lower", name, COVER_HART, "error_probability")


def cover_hart_sampling_error(error: Any, K: int, *, level: float = LEVEL) -> Bound:
    """S <= 2 P_e - K/(K-1) P_e^2: given max p, sum p^2 is smallest where the rest is even.

    The right side grows up to P_e = (K-1)/K, which no error probability exceeds.

    Args:
        error: P_e.
        K: number of tokens.
        level: confidence at which an `Estimate` enters.

    Returns:
        An upper `Bound` on the sampling error.

    Raises:
        ValueError: a number that is negative or not finite, or K below 1.
    """
    rest = (check_tokens(K) - 1) / K
    value = np.minimum(high_end(error, "error", level), rest)
    ratio = value / rest if rest else 0.0 * value
    name = "Cover-Hart" + how_sure(error, level)
    return Bound(value * (2 - ratio), "upper", name, COVER_HART, "sampling_error")


def sampling_error_above_error(error: Any, *, level: float = LEVEL) -> Bound:
    """S >= P_e: the other way to read `error_below_sampling_error`."""
    value = np.minimum(low_end(error, "error", level), 1.0)
    name = "sum p^2 <= max p" + how_sure(error, level)
    return Bound(value, "lower", name, COVER_HART, "sampling_error")


# ---- Error probability and entropy --------------------------------------------------------------


def jensen_error(entropy: Any, *, level: float = LEVEL) -> Bound:
    """P_e <= 1 - exp(-H), that is A = E max p >= E exp(-H(p)) >= exp(-H).

    Args:
        entropy: H(k | Y) in nats.
        level: confidence at which an `Estimate` enters.

    Returns:
        An upper `Bound` on the error probability. `kovalevsky_error` is sharper.

    Raises:
        ValueError: a number that is negative or not finite.
    """
    value = -np.expm1(-high_end(entropy, "entropy", level))
    return Bound(value, "upper", "Jensen" + how_sure(entropy, level), JENSEN, "error_probability")


def jensen_entropy(error: Any, *, level: float = LEVEL) -> Bound:
    """H >= -log(1 - P_e), in nats: `jensen_error` read the other way.

    Raises:
        ValueError: an error probability that is negative, not finite, or 1 and above.
    """
    value = -np.log1p(-_below_one(low_end(error, "error", level)))
    name = "Jensen" + how_sure(error, level)
    return Bound(value, "lower", name, JENSEN, "conditional_entropy", "nats")


def hellman_raviv_error(entropy: Any, *, level: float = LEVEL) -> Bound:
    """P_e <= H / (2 log 2), half the entropy in bits. Arguments as in `jensen_error`."""
    value = np.minimum(high_end(entropy, "entropy", level) / (2 * math.log(2)), 1.0)
    name = "Hellman-Raviv" + how_sure(entropy, level)
    return Bound(value, "upper", name, HELLMAN_RAVIV, "error_probability")


def hellman_raviv_entropy(error: Any, *, level: float = LEVEL) -> Bound:
    """H >= 2 log 2 P_e, in nats. Arguments as in `jensen_entropy`."""
    value = 2 * math.log(2) * np.minimum(low_end(error, "error", level), 1.0)
    name = "Hellman-Raviv" + how_sure(error, level)
    return Bound(value, "lower", name, HELLMAN_RAVIV, "conditional_entropy", "nats")


def kovalevsky_entropy(error: Any, *, level: float = LEVEL) -> Bound:
    """The largest convex lower bound on H given P_e, in nats:

        H >= log i + i (i+1) log((i+1)/i) (P_e - (i-1)/i)   for (i-1)/i <= P_e <= i/(i+1),

    i = 1, 2, ... It joins the points (1 - 1/i, log i) of -log(1 - P_e) by straight lines, so that
    it is above `jensen_entropy` and, in its first piece, equal to `hellman_raviv_entropy`.

    Arguments and errors as in `jensen_entropy`.
    """
    value = _below_one(low_end(error, "error", level))
    i = np.maximum(np.floor(1 / (1 - value) + 1e-12), 1.0)
    # P_e - (i-1)/i in all digits: the slope that it is multiplied by is about i.
    above = np.where(i == 1, value, 1 / i - (1 - value))
    bound = np.log(i) + i * (i + 1) * np.log1p(1 / i) * above
    name = "Kovalevsky" + how_sure(error, level)
    return Bound(bound, "lower", name, KOVALEVSKY, "conditional_entropy", "nats")


def kovalevsky_error(entropy: Any, *, level: float = LEVEL) -> Bound:
    """The largest P_e that `kovalevsky_entropy` allows. Arguments as in `jensen_error`."""
    value = high_end(entropy, "entropy", level)
    # Beyond e^340 the bound is 1 to the last bit, and i (i + 1) would overflow.
    i = np.maximum(np.floor(np.exp(np.minimum(value, 340.0)) * (1 + 1e-15)), 1.0)
    above = np.where(i == 1, value, value - np.log(i))
    bound = np.where(i == 1, 0.0, (i - 1) / i) + above / (i * (i + 1) * np.log1p(1 / i))
    name = "Kovalevsky" + how_sure(entropy, level)
    return Bound(np.minimum(bound, 1.0), "upper", name, KOVALEVSKY, "error_probability")


def fano_entropy(error: Any, K: int, *, level: float = LEVEL) -> Bound:
    """Fano's inequality: H <= h_b(P_e) + P_e log(K - 1), in nats, h_b the binary entropy.

    The right side grows up to P_e = (K-1)/K, where it is log K; no error probability is larger.

    Args:
        error: P_e.
        K: number of tokens.
        level: confidence at which an `Estimate` enters.

    Returns:
        An upper `Bound` on the conditional entropy.

    Raises:
        ValueError: a number that is negative or not finite, or K below 1.

    Example:
        >>> round(float(fano_entropy(0.5, 3).value), 4)
        1.0397
    """
    value = np.minimum(high_end(error, "error", level), (check_tokens(K) - 1) / K)
    name = "Fano" + how_sure(error, level)
    return Bound(_fano(value, K), "upper", name, FANO, "conditional_entropy", "nats")


def fano_error(entropy: Any, K: int, *, level: float = LEVEL) -> Bound:
    """The smallest P_e that Fano's inequality allows, found by bisection; a lower `Bound`.

    Args:
        entropy: H(k | Y) in nats; above log K, which no entropy exceeds, log K is used.
        K: number of tokens.
        level: confidence at which an `Estimate` enters.

    Raises:
        ValueError: a number that is negative or not finite, or K below 1.

    Example:
        >>> round(float(fano_error(fano_entropy(0.1, 9).value, 9).value), 12)
        0.1
    """
    rest = (check_tokens(K) - 1) / K
    target = np.minimum(low_end(entropy, "entropy", level), math.log(K))
    # In log P_e, so that tiny probabilities keep their digits: `low` always satisfies the bound.
    low, high = np.full(target.shape, -745.0), np.full(target.shape, math.log(max(rest, 1e-320)))
    for _ in range(64):
        middle = (low + high) / 2
        fits = _fano(np.exp(middle), K) <= target
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    reachable = (target > 0) & (_fano(np.exp(low), K) <= target)
    value = np.where(reachable, np.minimum(np.exp(low), rest), 0.0)
    name = "Fano" + how_sure(entropy, level)
    return Bound(value, "lower", name, FANO, "error_probability")


def _fano(error: np.ndarray, K: int) -> np.ndarray:
    """h_b(P) + P log(K - 1), with 12 digits for small P."""
    binary = special.entr(error) - special.xlog1py(1 - error, -error)
    return np.asarray(binary + error * math.log(max(K - 1, 1)))


def _below_one(value: np.ndarray) -> np.ndarray:
    if (value >= 1).any():
        from tokenkl._validation import reject

        reject("error", float(value.max()), "below 1 everywhere")
    return value
