"""How much of a codebook is used: entropy and perplexity of token sequences, bias corrected."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.special import digamma

from tokenkl._validation import check_choice, check_count, check_ids, reject
from tokenkl.estimate import ConfidenceInterval, Estimate
from tokenkl.numerics.unseen import UNSEEN

#: Blocks that a single stream of tokens is cut into.
BLOCKS = 64

Correction = Literal["none", "miller-madow", "grassberger"]


def entropy_of_counts(counts: Int[Any, " K"], correction: Correction = "grassberger") -> float:
    """Entropy in nats of the law behind a table of counts of independent draws.

    - "none": of the relative frequencies; too small by about (used - 1) / (2 N).
    - "miller-madow": with that added (Miller 1955).
    - "grassberger": log N - (1/N) sum n G(n), G(n) = psi(n) + (-1)^n (psi((n+1)/2) - psi(n/2)) / 2
      (Grassberger 2003, arXiv physics/0307138); less biased where many tokens are seen once or
      twice, as with thousands of tokens. With a handful it is too large by 1 / (2 N).

    >>> round(entropy_of_counts([50, 50], "none") / math.log(2), 6)
    1.0

    Raises:
        ValueError: a count that is negative or not whole, no draw at all, or an unknown correction.
    """
    check_choice(correction, ("none", "miller-madow", "grassberger"), "correction")
    array = np.asarray(counts)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.size == 0 or array.min() < 0:
        reject("counts", counts, "one row of whole numbers, at least 0")
    total = sum(array.tolist())
    if total >= 2**53:  # the sum, and the logarithm, would be of other numbers
        reject("counts", f"{total} draws", "fewer than 2**53 of them")
    if total == 0:
        reject("counts", counts, "with at least one draw")
    array = array.astype(np.int64)  # products of smaller ones overflow
    used, terms = int((array > 0).sum()), float(_terms(correction)(array).sum())
    return max(_from_sum(terms, total, used, correction), 0.0)


def _terms(correction: Correction) -> Callable[[np.ndarray], np.ndarray]:
    """n times the estimate of log n, for every count; 0 for 0."""

    def plain(n: np.ndarray) -> np.ndarray:
        return n * np.log(np.maximum(n, 1))

    def grassberger(n: np.ndarray) -> np.ndarray:
        m = np.maximum(n, 1).astype(float)
        sign = np.where(n % 2 == 0, 0.5, -0.5)
        return n * (digamma(m) + sign * (digamma((m + 1) / 2) - digamma(m / 2)))

    return grassberger if correction == "grassberger" else plain


def _from_sum(total_terms: float, total: int, used: int, correction: Correction) -> float:
    entropy = math.log(total) - total_terms / total
    return entropy + (used - 1) / (2 * total) if correction == "miller-madow" else entropy


@dataclasses.dataclass(frozen=True, eq=False)
class Usage:
    """What a set of token sequences uses of a codebook.

    - `K`, `used`: tokens that there are, and that occur; `tokens`: how many were counted.
    - `entropy`: of one token, in nats, with the standard error of a jackknife over utterances,
      which, unlike the correction of the bias, does not take tokens for independent. What may be
      left of the bias, and of what was not seen, is in `numerical_error`, see `token_usage`.
    - `by_utterance`: the jackknife's value of every utterance; their mean is the entropy, and the
      variance of their mean is its squared standard error, so that utterances can be resampled.
    """

    K: int
    used: int
    tokens: int
    entropy: Estimate
    by_utterance: Float[np.ndarray, " utterances"]

    @property
    def perplexity(self) -> float:
        """exp(entropy): how many equally likely tokens would be as varied."""
        return math.exp(float(self.entropy.value))

    def perplexity_interval(self, level: float = 0.95) -> ConfidenceInterval:
        """Ends of the entropy's interval, as perplexities from 1 to K."""
        ends = self.entropy.confidence_interval(level)[:2]
        low, high = (min(max(float(end), 0.0), math.log(self.K)) for end in ends)
        return ConfidenceInterval(math.exp(low), math.exp(high), level)


def token_usage(
    sequences: Sequence[Int[Any, " tokens"]], K: int, correction: Correction = "grassberger"
) -> Usage:
    """Count tokens over utterances.

    The jackknife leaves out one utterance at a time. What may be left of the bias is in
    `numerical_error`. Relative frequencies have an entropy that is too small on average (Jensen),
    for independent tokens by at most log(1 + (K - 1) / N) (Paninski 2003, Neural Computation 15,
    proposition 1); where tokens depend on each other by more, which twice the jackknife's estimate
    stands for. What was not seen once in N independent tokens may have a probability of 3 / N (at
    95 %), and its entropy. With far fewer independent tokens than K, or rare tokens that come in
    runs, nobody knows the entropy from counts.

    Args:
        sequences: token ids of each utterance, at least two utterances.
        K: number of tokens.
        correction: of the bias, see `entropy_of_counts`.

    Raises:
        ValueError: fewer than two utterances, no token, or an id outside 0 .. K - 1.

    Example:
        >>> usage = token_usage([[0, 1, 1], [0, 2]], 4)
        >>> usage.used, usage.tokens
        (3, 5)
    """
    K = check_count(K, "K")
    if not hasattr(sequences, "__len__"):
        reject("sequences", sequences, "token ids of each utterance, in a list")
    if len(sequences) < 2:
        reject("sequences", f"{len(sequences)} of them", "at least two utterances")
    rows, counts = _counted([check_ids(one, K, "sequences").ravel() for one in sequences])
    value = entropy_of_counts(counts, correction)
    without = _without_each(rows, counts, correction)
    tokens, plain = int(counts.sum()), entropy_of_counts(counts, "none")
    shrunk = float(_without_each(rows, counts, "none").mean())
    bias = max(math.log1p((K - 1) / tokens), 2 * (len(rows) - 1) * (plain - shrunk))
    unseen = min(UNSEEN / tokens, 1.0)
    error = math.sqrt((len(rows) - 1) / len(rows) * float(((without - without.mean()) ** 2).sum()))
    estimate = Estimate(
        value=value,
        standard_error=error,
        numerical_error=max(value - plain, bias - (value - plain)) + unseen * math.log(K / unseen),
        degrees_of_freedom=len(rows) - 1,
        n_samples=len(rows),
        method=f"counts, {correction}; jackknife over utterances",
        quantity="entropy of one token",
        unit="nats",
    )
    by_utterance = value + (len(rows) - 1) * (without.mean() - without)
    return Usage(K, counts.size, tokens, estimate, by_utterance)


def stream_usage(ids: Int[Any, " tokens"], K: int, correction: Correction = "grassberger") -> Usage:
    """Count the tokens of one long stream, whose utterances are not known.

    As `token_usage`, for which one of 64 blocks of neighbouring tokens is an utterance, so that
    tokens may depend on others that are closer than a block is long.

    Args:
        ids: token ids in their order, any shape, at least two.
        K: number of tokens.
        correction: of the bias, see `entropy_of_counts`.

    Raises:
        ValueError: fewer than two tokens, or an id outside 0 .. K - 1.

    Example:
        >>> usage = stream_usage(np.arange(1000) % 8, 16)
        >>> low, high, _ = usage.perplexity_interval()
        >>> usage.used, low < 8 < high
        (8, True)
    """
    flat = check_ids(ids, check_count(K, "K")).ravel()
    if flat.size < 2:
        reject("ids", f"{flat.size} of them", "at least two tokens")
    blocks = np.array_split(flat, min(BLOCKS, flat.size))
    usage = token_usage(blocks, K, correction)
    method = f"counts, {correction}; jackknife over {len(blocks)} blocks"
    entropy = dataclasses.replace(usage.entropy, method=method)
    return dataclasses.replace(usage, entropy=entropy)


def _counted(rows: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Tokens renumbered by those that occur, however many there are, and their counts."""
    _, ids, counts = np.unique(np.concatenate(rows), return_inverse=True, return_counts=True)
    return np.split(ids, np.cumsum([row.size for row in rows[:-1]])), counts


def _without_each(
    rows: Sequence[np.ndarray], counts: np.ndarray, correction: Correction
) -> np.ndarray:
    """The entropy of these counts with one row of tokens left out, for each."""
    terms = _terms(correction)
    total, used = int(counts.sum()), int((counts > 0).sum())
    whole = float(terms(counts).sum())
    without = np.empty(len(rows))
    for index, row in enumerate(rows):
        if total == row.size:
            reject("sequences", "one utterance that holds every token", "at least two with tokens")
        ids, removed = np.unique(row, return_counts=True)
        left = counts[ids] - removed
        changed = whole + float((terms(left) - terms(counts[ids])).sum())
        without[index] = _from_sum(
            changed, total - row.size, used - int((left == 0).sum()), correction
        )
    return without
