"""Sources out of data: smoothed n-grams of token sequences, and how well they foretell others."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, sparse, special

from tokenkl._random import generator, seed_of
from tokenkl._validation import MAX_ELEMENTS, array_of, check_count, check_ids, reject
from tokenkl.estimate import Estimate
from tokenkl.sources.markov import HiddenMarkov, Markov
from tokenkl.sources.matrices import Stochastic

#: Blocks that one long sequence is cut into, where sequences are left out or resampled.
BLOCKS = 64


def bigrams(tokens: Any, K: int, length: int) -> Markov:
    """The chain of smoothed counts of neighbours.

    P(l | k) = [max(c(k, l) - d, 0) + (s + d u(k)) p(l)] / (s + c(k)), with c(k, l) how often l
    came after k, u(k) how many different tokens did, and p(l) the law of single tokens, smoothed
    in the same way towards equal probabilities: interpolated absolute discounting (Ney, Essen and
    Kneser 1994) with a strength s, as in the mean of a Pitman-Yor process (Teh 2006). Discount d
    and strength s have the largest leave-one-out likelihood. Every probability is positive, and
    the matrix is sparse plus one rank-one term, so that thousands of tokens are no problem.

    Args:
        tokens: sequences of ids, a list of them or an (N, L) array; one array is one sequence.
        K: number of tokens.
        length: tokens in a sequence of the source. The first has the law that a step keeps.

    Raises:
        ValueError: no two neighbours, an id outside 0 .. K - 1, or no such numbers.

    Example:
        >>> import numpy as np
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.2, 0.8]], length=50)
        >>> found = tk.sources.bigrams(chain.sample(400, key=0), K=2, length=50)
        >>> bool(abs(found.transition.toarray() - chain.transition.toarray()).max() < 0.01)
        True
    """
    first, second = _fitted(tokens, K, 2)
    single = first.law(np.zeros(K, np.int64), np.arange(K), np.full(K, 1 / K))
    # Contexts are those tokens that occur, in their order.
    context, token = np.divmod(second.codes, K)
    kept = np.maximum(second.counts - second.discount, 0)
    totals = second.strength + second.followers
    rest = np.ones(K)
    rest[first.codes] = (second.strength + second.discount * second.distinct) / totals
    matrix = sparse.csr_array((kept / totals[context], (first.codes[context], token)), shape=(K, K))
    return Markov(Stochastic.mixed(matrix, rest[:, None], single[None]), length)


def ngrams(tokens: Any, K: int, length: int, order: int) -> HiddenMarkov:
    """The source of smoothed counts of `order` tokens in a row, as a chain of seen contexts.

    A state is the longest end of the past, of at most order - 1 tokens, that was seen; it shows
    its last token. Counts of longer contexts are smoothed towards those of shorter ones, as
    `bigrams` are, each length with its own discount and strength.

    Args:
        tokens, K, length: as for `bigrams`.
        order: at least 2.

    Raises:
        ValueError: as `bigrams`, or more than 2**26 numbers, contexts times tokens.

    Example:
        >>> import numpy as np
        >>> import tokenkl as tk
        >>> again = np.tile([0, 0, 1, 1], 500)  # two tokens say what comes next, one does not
        >>> source = tk.sources.ngrams(again, K=2, length=9, order=3)
        >>> bool(source.entropy() < 1.5)
        True
    """
    levels = _fitted(tokens, K, check_count(order, "order", 2))
    states = K + sum(level.codes.size for level in levels[1:-1])
    if states * K > MAX_ELEMENTS:
        expected = f"few enough for {MAX_ELEMENTS:,} numbers; see bigrams"
        reject("order", f"{order}, with {states:,} contexts of {K:,} tokens", expected)
    every = np.arange(K)
    single = levels[0].law(np.zeros(K, np.int64), every, np.full(K, 1 / K))
    # Number of a context in the counts of what follows it; single tokens may be unseen.
    seen: dict[tuple[int, ...], int] = {(): 0}
    seen.update({(k,): -1 for k in range(K)})
    seen.update({(int(k),): i for i, k in enumerate(levels[0].codes)})
    grams: list[tuple[int, ...]] = [(int(k),) for k in levels[0].codes]
    for level in levels[1:-1]:
        pairs = zip(*np.divmod(level.codes, K), strict=True)
        grams = [(*grams[place], int(token)) for place, token in pairs]
        seen.update({gram: i for i, gram in enumerate(grams)})
    number = {gram: i - 1 for i, gram in enumerate(seen)}  # of the states; shorter ones first
    longer: dict[tuple[int, ...], list[int]] = {gram: [] for gram in seen}
    for gram in seen:
        if len(gram) > 1:
            longer[gram[:-1]].append(number[gram])
    shown = np.array([gram[-1] for gram in seen if gram])
    law: dict[tuple[int, ...], np.ndarray] = {(): single}
    leads: dict[tuple[int, ...], np.ndarray] = {(): every}
    for gram, place in seen.items():
        if gram:
            law[gram] = levels[len(gram)].law(np.full(K, place), every, law[gram[1:]])
            leads[gram] = leads[gram[1:]].copy()
            leads[gram][shown[longer[gram]]] = longer[gram]
    data = np.concatenate([law[gram] for gram in seen if gram])
    columns = np.concatenate([leads[gram] for gram in seen if gram])
    starts = K * np.arange(states + 1)
    transition = sparse.csr_array((data, columns, starts), shape=(states, states))
    emission = sparse.csr_array((np.ones(states), (np.arange(states), shown)), shape=(states, K))
    return HiddenMarkov(transition, emission, length)


def held_out_entropy(
    tokens: Any, K: int, *, order: int = 2, folds: int = 5, key: Any = 0
) -> Estimate:
    """Nats that smoothed n-grams need for a token of sequences that they were not made from.

    An upper bound on the entropy rate, up to sampling error; less than that of order 1 says that
    neighbours tell something of each other. Sequences are dealt into folds, and those of each are
    foretold from the others. A single long sequence is cut into 64 blocks. The standard error is
    that over sequences (a ratio of sums); that the folds share what they learn from is not in it.

    Args:
        tokens, K: as for `bigrams`.
        order: tokens in a row that are counted; 1 foretells each by itself.
        folds: at least 2.
        key: deals the sequences.

    Raises:
        ValueError: fewer sequences than folds, or what `bigrams` raises.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.9, 0.1], [0.2, 0.8]], length=50)
        >>> low, high, _ = tk.sources.held_out_entropy(chain.sample(400, key=0), 2
        ... ).confidence_interval()
        >>> bool(low < chain.entropy() / 50 < high)
        True
    """
    order = check_count(order, "order")
    loss, size = [], []
    for kept, left in split_sequences(tokens, K, folds, key):
        levels = _fitted(kept, K, order)
        for one in left:
            loss.append(-_log_probs(levels, one, K).sum())
            size.append(one.size)
    losses, sizes = np.array(loss), np.array(size)
    value = losses.sum() / sizes.sum()
    away, count = losses - value * sizes, len(losses)
    return Estimate(
        value=value,
        standard_error=math.sqrt(count / (count - 1) * (away**2).sum()) / sizes.sum(),
        degrees_of_freedom=count - 1,
        n_samples=count,
        method=f"n-grams of order {order}, {folds} folds of sequences",
        seed=seed_of(key),
        quantity="cross-entropy",
        unit="nats",
    )


def as_sequences(tokens: Any, K: int) -> list[Int[np.ndarray, " tokens"]]:
    """Sequences of ids that were checked, without empty ones: of a list, or of rows of an array.

    Raises:
        ValueError: no token, more than two axes, or an id outside 0 .. K - 1.
    """
    K = check_count(K, "K")
    if isinstance(tokens, Sequence) and tokens and all(np.ndim(one) == 1 for one in tokens):
        rows = [check_ids(one, K, "tokens") for one in tokens]
    else:
        array = check_ids(array_of(tokens), K, "tokens")
        if array.ndim not in (1, 2):
            reject("tokens", f"an array with {array.ndim} axes", "sequences in rows, or in a list")
        rows = list(np.atleast_2d(array))
    rows = [row for row in rows if row.size]
    if not rows:
        reject("tokens", "no token", "at least one sequence")
    return rows


def split_sequences(
    tokens: Any, K: int, folds: int, key: Any
) -> list[tuple[list[np.ndarray], list[np.ndarray]]]:
    """For every fold the sequences outside it and those inside; one long one is cut into blocks.

    Raises:
        ValueError: fewer sequences than folds, or no sequences.
    """
    rows = as_sequences(tokens, K)
    folds = check_count(folds, "folds", 2)
    if len(rows) == 1:
        size = rows[0].size
        if folds > BLOCKS:
            reject("folds", folds, f"at most {BLOCKS} for one sequence, which is cut into as many")
        rows = [one for one in np.array_split(rows[0], BLOCKS) if one.size > 1]
        if len(rows) < folds:
            # Of blocks that differ by one token, so many are then longer than one.
            expected = (
                f"of at least {BLOCKS + folds:,} tokens where it is one, or several sequences"
            )
            reject("tokens", f"one sequence of {size:,}", expected)
    if len(rows) < folds:
        reject("tokens", f"{len(rows)} sequences", f"at least as many as folds, {folds}")
    fold = generator(key).permutation(len(rows)) % folds
    found = []
    for one in range(folds):
        outside = [row for row, of in zip(rows, fold, strict=True) if of != one]
        inside = [row for row, of in zip(rows, fold, strict=True) if of == one]
        found.append((outside, inside))
    return found


# ---- Counts of n-grams ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Level:
    """Counts of n-grams of one length, each a context (its number among shorter ones) and a token.

    `codes` are context * K + token, sorted, and their places are the numbers of these n-grams.
    """

    K: int
    codes: Int[np.ndarray, " grams"]
    counts: Int[np.ndarray, " grams"]
    followers: Float[np.ndarray, " contexts"]
    distinct: Float[np.ndarray, " contexts"]
    discount: float = 0.5
    strength: float = 1.0

    def find(self, context: np.ndarray, token: np.ndarray) -> np.ndarray:
        """Numbers of n-grams, -1 for one that was not seen."""
        code = np.where(context < 0, -1, context * self.K + token)
        place = np.minimum(np.searchsorted(self.codes, code), self.codes.size - 1)
        return np.where(self.codes[place] == code, place, -1)

    def law(self, context: np.ndarray, token: np.ndarray, below: np.ndarray) -> np.ndarray:
        """P(token | context), smoothed towards `below`, which stands for contexts not seen."""
        place = self.find(context, token)
        count = np.where(place < 0, 0, self.counts[place])
        kept = np.maximum(count - self.discount, 0)
        rest = self.strength + self.discount * self.distinct[context]
        found = (kept + rest * below) / (self.strength + self.followers[context])
        return np.where(context < 0, below, found)


def _fitted(tokens: Any, K: int, order: int) -> list[_Level]:
    """Counts of n-grams up to an order, each with its discount and strength."""
    rows = as_sequences(tokens, K)
    flat = np.concatenate(rows)
    place = np.concatenate([np.arange(row.size) for row in rows])
    levels: list[_Level] = []
    context, below = np.zeros(flat.size, np.int64), np.full(flat.size, 1 / K)
    here = np.arange(flat.size)  # where there are tokens enough before this one
    for depth in range(order):
        if depth:
            here = np.flatnonzero(place >= depth)
            if here.size == 0:
                reject("tokens", f"no {depth + 1} tokens in a row", "longer sequences")
        codes, first, number, counts = np.unique(
            context[here] * K + flat[here],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        contexts = levels[-1].codes.size if levels else 1
        of = codes // K
        level = _Level(
            K,
            codes,
            counts,
            np.bincount(of, counts, contexts),
            np.bincount(of, minlength=contexts).astype(float),
        )
        level, without = _with_parameters(level, below[here[first]])
        levels.append(level)
        # What the next length needs: the n-gram that ends before a token, and the law to back off
        # to, each without the occurrence that it is asked for.
        below = np.zeros(flat.size)
        below[here] = without[number]
        context = np.full(flat.size, -1)
        context[here[here + 1 < flat.size] + 1] = number[here + 1 < flat.size]
    return levels


def _with_parameters(level: _Level, below: np.ndarray) -> tuple[_Level, np.ndarray]:
    """The discount and strength of the largest leave-one-out likelihood.

    And what it says of every n-gram: its probability where one occurrence of it was not seen.
    """
    context = level.codes // level.K
    count = level.counts - 1.0
    distinct = level.distinct[context] - (level.counts == 1)
    followers = level.followers[context] - 1

    def without(parameters: np.ndarray) -> np.ndarray:
        discount, strength = special.expit(parameters[0]), math.exp(parameters[1])
        rest = strength + discount * distinct
        kept = np.maximum(count - discount, 0)
        found: np.ndarray = (kept + rest * below) / (strength + followers)
        return found

    def loss(parameters: np.ndarray) -> float:
        return -float(level.counts @ np.log(without(parameters))) / level.counts.sum()

    best = optimize.minimize(
        loss, [0.0, 1.0], method="Nelder-Mead", bounds=[(-8, 8), (-8, 16)], options={"xatol": 1e-3}
    ).x
    chosen = dataclasses.replace(
        level, discount=float(special.expit(best[0])), strength=math.exp(best[1])
    )
    return chosen, without(best)


def _log_probs(levels: list[_Level], tokens: np.ndarray, K: int) -> np.ndarray:
    """log P of every token of a sequence given those before it."""
    found = np.full(tokens.size, 1 / K)
    context = np.zeros(tokens.size, np.int64)
    for level in levels:
        found = level.law(context, tokens, found)
        number = level.find(context, tokens)
        context = np.concatenate([[-1], number[:-1]])
    return np.log(found)
