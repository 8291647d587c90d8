"""Canonical variates of two tokens: what one of them says of the other, in order of strength."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize, sparse
from scipy.sparse.linalg import LinearOperator, svds

from tokenkl._random import generator
from tokenkl._validation import check_count, reject
from tokenkl.numerics.reproducible import signs
from tokenkl.sources import Source
from tokenkl.sources.counts import as_sequences, split_sequences

#: Tokens up to which all variates are found, from the whole matrix.
MOST_DENSE = 1024
#: Added to how often each token occurs, before canonical variates are made of counts.
ADDED = 5.0
#: Variates that are kept of more tokens, unless a number is given.
RANK = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Variates:
    """P(k, l) = pi_k pi'_l (1 + sum_r s_r f_r(k) g_r(l)), the canonical form that every law has.

    - `correlations`: s_1 >= s_2 >= ..., of at most 1; their squares add up to chi-squared, the
      squared distance of the law from independence.
    - `first`, `second`: f and g in columns, of mean 0 and variance 1 and uncorrelated, under the
      laws `marginals` of the two tokens.
    """

    correlations: Float[np.ndarray, " r"]
    first: Float[np.ndarray, "K r"]
    second: Float[np.ndarray, "K r"]
    marginals: tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]

    @property
    def K(self) -> int:
        """Number of tokens."""
        return int(self.first.shape[0])


def canonical_variates(
    source: Source, first: int = 0, second: int = 1, *, rank: int | None = None
) -> Variates:
    """Canonical variates of the tokens at two positions of a sequence.

    The singular value decomposition of P(k, l) / sqrt(pi_k pi'_l), without its first term: by the
    whole matrix for up to 1024 tokens, beyond by its products with vectors (`pair_operator`).

    Args:
        source: law of the sequences.
        first, second: positions, the first before the second.
        rank: how many; all for up to 1024 tokens and 64 beyond, unless given.

    Raises:
        ValueError: no two such positions, or a rank not below K.

    Example:
        >>> import tokenkl as tk
        >>> u = tk.FSQ((2, 2)).points
        >>> law = tk.sources.bilinear(u, u, [[0.5, 0.0], [0.0, 0.0]])
        >>> tk.context.canonical_variates(law).correlations.round(6).tolist()
        [0.462117, 0.0, 0.0]
    """
    if source.K < 2:
        reject("source", f"a law of {source.K} token", "one of at least 2 tokens")
    marginals = source.marginals()
    pair = (source.pair if source.K <= MOST_DENSE else source.pair_operator)(first, second)
    return _decomposed(pair, (marginals[first], marginals[second]), rank)


def _decomposed(
    pair: np.ndarray | LinearOperator,
    laws: tuple[np.ndarray, np.ndarray],
    rank: int | None,
) -> Variates:
    """Canonical variates of a joint law, as a matrix or as what multiplies vectors."""
    K = laws[0].size
    if rank is not None:
        rank = check_count(rank, "rank", maximum=K - 1)
    roots = [np.sqrt(law) for law in laws]
    scales = [np.divide(1, root, out=np.zeros(K), where=root > 0) for root in roots]
    if isinstance(pair, np.ndarray):
        # In the complement of the roots, the term that is taken away: where correlations are 0,
        # singular vectors of the whole may be any mixture with it.
        bases = [_complement(root) for root in roots]
        matrix = scales[0][:, None] * pair * scales[1]
        left, s, right = np.linalg.svd(bases[0].T @ matrix @ bases[1])
        kept = slice(0, rank)
        left, s, right = bases[0] @ left[:, kept], s[kept], bases[1] @ right.T[:, kept]
    else:
        left, s, right = _largest(pair, scales, roots, min(rank or RANK, K - 1))
    s = np.minimum(s, 1.0)  # beyond 1 by rounding
    turned = signs(left)
    left, right = left * turned, right * turned
    return Variates(s, scales[0][:, None] * left, scales[1][:, None] * right, laws)


def _complement(unit: Float[np.ndarray, " K"]) -> Float[np.ndarray, "K K-1"]:
    """An orthonormal basis of what is orthogonal to a unit vector of numbers >= 0.

    By Householder's reflection to its largest coordinate, with the sign that does not cancel.
    """
    top = int(np.argmax(unit))
    away = unit.copy()
    away[top] += 1.0
    reflection = np.eye(unit.size) - np.outer(away, away) * (2 / (away @ away))
    return np.delete(reflection, top, axis=1)


def counted_variates(
    tokens: Any, K: int, *, gap: int = 1, rank: int | None = None, key: Any = 0
) -> Variates:
    """Canonical variates of tokens that are `gap` places apart in sequences.

    Those of counts to which five are added for every token, evenly over what it may be next to, so
    that rare tokens do not make variates of their own. Correlations are found anew: in a sample of
    few tokens chance correlates variates, too. Of each half of the sequences variates are made, and
    their correlations are those over the other half, about 0 where there is nothing. They decrease
    with r, by isotonic regression; variates whose correlation is then not above 0 are left out.

    Args:
        tokens, K: as for `bigrams`.
        gap: places between the two tokens.
        rank: at most so many, as for `canonical_variates`.
        key: of the halves.

    Raises:
        ValueError: fewer than two sequences with tokens so far apart, an id outside 0 .. K - 1, or
            a gap that is no whole number above 0.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.6, 0.4], [0.4, 0.6]], length=50)
        >>> found = tk.context.counted_variates(chain.sample(2000, key=0), 2)
        >>> bool(abs(found.correlations[0] - 0.2) < 0.01)
        True
    """
    rows, gap = as_sequences(tokens, K), check_count(gap, "gap")

    def pairs(some: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        found = [(row[:-gap], row[gap:]) for row in some if row.size > gap]
        if not found:
            reject("tokens", f"no two of a half {gap} apart", "longer sequences")
        return tuple(np.concatenate(ids) for ids in zip(*found, strict=True))

    def variates(some: list[np.ndarray]) -> Variates:
        k, later = pairs(some)
        counts = sparse.csr_array((np.ones(k.size), (k, later)), shape=(K, K))
        total = k.size + K * ADDED
        added = ADDED / K / total
        first, second = ((np.bincount(ids, minlength=K) + ADDED) / total for ids in (k, later))
        laws = first, second
        if K <= MOST_DENSE:
            return _decomposed(counts.toarray() / total + added, laws, rank)
        scaled = counts / total
        operator = LinearOperator(
            (K, K),
            matvec=lambda v: scaled @ v + added * v.sum(),
            rmatvec=lambda v: scaled.T @ v + added * v.sum(),
            dtype=float,
        )
        return _decomposed(operator, laws, rank)

    told = []
    for kept, left in split_sequences(rows, K, 2, key):
        told.append(_correlations(variates(kept), *pairs(left)))
    s = optimize.isotonic_regression(np.mean(told, axis=0), increasing=False).x
    whole = variates(rows)
    used = slice(0, max(1, int((s > 0).sum())))
    return Variates(
        np.clip(s[used], 0.0, 1.0), whole.first[:, used], whole.second[:, used], whole.marginals
    )


def _correlations(
    variates: Variates, k: Int[np.ndarray, " N"], later: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " r"]:
    """Of f_r and g_r over pairs of tokens."""
    first = np.bincount(k, minlength=variates.K) / k.size
    second = np.bincount(later, minlength=variates.K) / k.size
    f, g = variates.first - first @ variates.first, variates.second - second @ variates.second
    pairs = sparse.csr_array((np.full(k.size, 1 / k.size), (k, later)), shape=(len(f), len(g)))
    spread = (first @ f**2) * (second @ g**2)
    found: np.ndarray = (f * (pairs @ g)).sum(axis=0) / np.sqrt(np.maximum(spread, 1e-300))
    return found


def weighted_features(
    variates: list[Variates], weights: list[float]
) -> tuple[Float[np.ndarray, "K R"], Float[np.ndarray, " K"]]:
    """What neighbours are told by a token, s_r f_r and s_r g_r of all pairs, and how often it is.

    The square of a weight is how much the pair counts.
    """
    law = np.mean([one for pair in variates for one in pair.marginals], axis=0)
    columns = [
        weight * pair.correlations * side
        for pair, weight in zip(variates, weights, strict=True)
        for side in (pair.first, pair.second)
    ]
    features = np.concatenate(columns, axis=1)
    return features - law @ features, law


@dataclasses.dataclass(frozen=True, eq=False)
class StructureTest:
    """Whether neighbours tell anything of each other.

    - `p_value`: the chance of a first correlation as large as this, were tokens exchangeable.
    - `correlations`: of shrunk counts, largest first; `null`: the largest of each permutation.
    """

    p_value: float
    correlations: Float[np.ndarray, " r"]
    null: Float[np.ndarray, " permutations"]

    @property
    def significant(self) -> int:
        """How many correlations exceed those of 95 % of the permutations."""
        place = math.ceil(0.95 * (self.null.size + 1)) - 1
        if place >= self.null.size:
            return 0
        return int((self.correlations > np.sort(self.null)[place]).sum())


def structure_test(
    tokens: Any, K: int, *, gap: int = 1, permutations: int = 99, rank: int = 16, key: Any
) -> StructureTest:
    """Test that tokens tell nothing of those `gap` places on.

    The statistic is the largest correlation of counts that are shrunk by their mean, so that rare
    pairs count little. Its law where nothing is told is found by permuting all tokens among their
    places: exact, whatever their frequencies. The chance of a p-value of at most a, where tokens
    are exchangeable, is at most a. Sequences that differ in their frequencies of tokens are
    structure, too: neighbours then tell of it.

    Args:
        tokens, K: as for `tokenkl.sources.bigrams`.
        gap: places between the two tokens.
        permutations: at least 19; the least p-value is 1 / (permutations + 1).
        rank: correlations that are given back.
        key: of the permutations.

    Raises:
        ValueError: no tokens so far apart, an id outside 0 .. K - 1, or no such numbers.

    Example:
        >>> import tokenkl as tk
        >>> chain = tk.sources.Markov([[0.6, 0.4], [0.4, 0.6]], length=50)
        >>> tk.context.structure_test(chain.sample(100, key=0), 2, key=1).p_value
        0.01
    """
    rows = as_sequences(tokens, K)
    gap, permutations = check_count(gap, "gap"), check_count(permutations, "permutations", 19)
    flat = np.concatenate(rows)
    place = np.concatenate([np.arange(row.size) for row in rows])
    later = np.flatnonzero(place >= gap)
    if later.size == 0:
        reject("tokens", f"no two of them {gap} apart", "longer sequences")
    # Tokens that occur, renumbered: permutations keep them.
    ids = np.unique(flat, return_inverse=True)[1]
    size = int(ids.max()) + 1
    if size < 2:
        return StructureTest(1.0, np.zeros(0), np.zeros(permutations))
    rng = generator(key)

    def correlations(order: np.ndarray, count: int) -> np.ndarray:
        matrix = sparse.csr_array(
            (np.ones(later.size), (order[later - gap], order[later])), shape=(size, size)
        )
        laws = [np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0)]
        scales = [1 / np.sqrt(law + later.size / size) for law in laws]
        roots = [
            scale * law / math.sqrt(later.size) for scale, law in zip(scales, laws, strict=True)
        ]
        if size <= MOST_DENSE // 4:
            whole = scales[0][:, None] * matrix.toarray() * scales[1] - np.outer(*roots)
            return np.linalg.svd(whole, compute_uv=False)[:count]
        operator = sparse.linalg.aslinearoperator(matrix)
        return _largest(operator, scales, roots, count)[1]

    seen = correlations(ids, min(check_count(rank, "rank"), size - 1))
    null = np.array([correlations(rng.permutation(ids), 1)[0] for _ in range(permutations)])
    # Ties, which rounding may break, count against structure.
    above = int((null >= seen[0] * (1 - 1e-9)).sum())
    return StructureTest((1 + above) / (1 + permutations), seen, null)


def _largest(
    pair: LinearOperator,
    scales: Sequence[np.ndarray],
    roots: Sequence[np.ndarray],
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Singular triples of the pair's law, scaled, minus the product of roots, largest first."""
    left, right = scales

    def onward(column: np.ndarray) -> np.ndarray:
        flat = column.ravel()
        found: np.ndarray = left * (pair @ (right * flat)) - roots[0] * (roots[1] @ flat)
        return found

    def back(column: np.ndarray) -> np.ndarray:
        flat = column.ravel()
        found: np.ndarray = right * (pair.T @ (left * flat)) - roots[1] * (roots[0] @ flat)
        return found

    operator = LinearOperator(pair.shape, matvec=onward, rmatvec=back, dtype=float)
    start = np.random.default_rng(0).standard_normal(min(pair.shape))
    u, s, vt = svds(operator, k=count, v0=start)
    order = np.argsort(-s)
    return u[:, order], s[order], vt[order].T
