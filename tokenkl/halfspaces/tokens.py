"""Half-spaces of the noise on which a token is beaten, and draws from one of them.

Token j is at least as probable as the true token k where <eps, u_kj> >= r_kj. A pair (k, j) is
drawn with a probability proportional to pi_k Q(r_kj), and then eps given that half-space.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse, special
from scipy.spatial.distance import cdist

from tokenkl._random import draw_ids
from tokenkl.codebooks.base import Codebook
from tokenkl.halfspaces.thresholds import threshold
from tokenkl.numerics.moments import MIN_CARRIERS, MIN_EFFECTIVE
from tokenkl.numerics.neighbours import neighbourly, squared_distances
from tokenkl.numerics.unseen import seen_once

EPS, TINY = float(np.finfo(float).eps), float(np.finfo(float).tiny)
#: Tokens that share a cell of the k-d tree.
CELL = 512
#: Numbers in one array while samples are worked on (16 MiB).
WORK = 2**21
#: Posterior weights below exp(-NEGLECTED) / K of the drawn token's are left out.
NEGLECTED = 30.0
#: Tokens less likely than others by this factor are of another kind.
UNLIKELY = 100.0
#: Standard errors that a mean which is known is off where the draws have not seen what matters.
UNSEEN = 3.0


class Tokens(NamedTuple):
    """A codebook in k-d order, scaled by a power of two so that its largest coordinate is near 1.

    Distances are taken from `points`, by differences; products from `centred`. Tokens of one label
    are no rivals of each other; by default every token has its own.
    """

    points: Float[np.ndarray, "K n"]
    centred: Float[np.ndarray, "K n"]
    log_prior: Float[np.ndarray, " K"]
    ids: Int[np.ndarray, " K"]
    equal: bool
    exponent: int
    labels: Int[np.ndarray, " K"]

    @property
    def clustered(self) -> bool:
        """Whether some tokens share a label."""
        return bool(np.unique(self.labels).size < self.labels.size)


class Level(NamedTuple):
    """One noise level: the sums over pairs that `pair_sums` found there, and how far they reach.

    As many of the `totals` as are asked for; draws have as many columns.
    """

    tokens: Tokens
    rows: Float[np.ndarray, " K"]
    most: Float[np.ndarray, " K"]
    totals: Float[np.ndarray, " width"]
    h: float
    edge: float


class Draws(NamedTuple):
    """What each draw says the sums over pairs have in excess, and controls of mean 0.

    Draws of one kind (stratum) are a fixed part of all. `unseen` is the part of what is known of
    each control that comes from pairs which nobody drew, where few were drawn once.
    """

    excess: Float[np.ndarray, "p width"]
    controls: Float[np.ndarray, "p c"]
    stratum: Int[np.ndarray, " p"]
    faint: float = 0.0
    unseen: Float[np.ndarray, " c"] | float = 0.0

    @property
    def size(self) -> int:
        return len(self.excess)

    def merged(self, other: Draws) -> Draws:
        return Draws(
            np.concatenate([self.excess, other.excess]),
            np.concatenate([self.controls, other.controls]),
            np.concatenate([self.stratum, other.stratum]),
            max(self.faint, other.faint),
            np.minimum(self.unseen, other.unseen),
        )

    def summary(self) -> tuple[np.ndarray, ...]:
        """Means with their standard errors and skewness, and the draws that carry either.

        Controls are used unless few draws carry their spread, seen or not: a slope fitted to those
        would hide its own error. What the slope makes of pairs that nobody drew, and that it need
        not be right for, is part of the error; where that alone is more than without a control,
        there is none.
        """
        n = self.size
        scale = np.maximum(np.abs(self.excess).max(axis=0), TINY)
        excess = self.excess / scale
        largest = np.abs(self.controls).max(axis=0, initial=TINY)
        controls, unseen = self.controls / largest, self.unseen / largest
        away = controls - controls.mean(axis=0)
        seen = np.abs(controls.mean(axis=0)) <= UNSEEN * away.std(axis=0) / math.sqrt(n)
        used = seen & (_carriers(away) >= MIN_EFFECTIVE)
        plain = self._rest(excess)[1]
        while True:
            slope, _, rank, _ = np.linalg.lstsq(
                away[:, used], excess - excess.mean(axis=0), rcond=1e-10
            )
            rest = excess - controls[:, used] @ slope
            mean = rest.mean(axis=0)
            rest, error = self._rest(rest, rank)
            hidden = np.abs(slope) * unseen[used, None]
            if (hidden <= plain).all():
                break
            used[used] = (hidden <= plain).all(axis=1)
        error = np.hypot(error, hidden.sum(axis=0))
        squares = (rest**2).sum(axis=0)
        visible = squares > (1e-13 * mean) ** 2 * n  # more than rounding
        skewness = np.where(visible, (rest**3).sum(axis=0) / np.maximum(squares, 1e-30) ** 1.5, 0.0)
        effective = excess.sum(axis=0) ** 2 / np.maximum((excess**2).sum(axis=0), TINY)
        mean, error = scale * mean, scale * error
        return mean, error, skewness, effective, _carriers(rest)

    def _rest(
        self, values: Float[np.ndarray, "p width"], rank: int = 0
    ) -> tuple[Float[np.ndarray, "p width"], Float[np.ndarray, " width"]]:
        """Deviations from the means of strata, and the standard errors that these make."""
        rest = values.copy()
        for stratum in np.unique(self.stratum):
            own = self.stratum == stratum
            rest[own] -= rest[own].mean(axis=0)
            rank += 1
        squares = (rest**2).sum(axis=0)
        return rest, np.sqrt(squares / max(self.size - rank, 1) / self.size)


def _carriers(deviations: Float[np.ndarray, "p c"]) -> Float[np.ndarray, " c"]:
    """(sum d^2)^2 / sum d^4: how many draws carry the spread."""
    squares = deviations**2
    return np.asarray(squares.sum(axis=0) ** 2 / np.maximum((squares**2).sum(axis=0), TINY))


def make_tokens(codebook: Codebook, exponent: int | None = None) -> Tokens:
    """The tokens of a codebook; without an exponent that for which the largest is near 1."""
    points = np.asarray(codebook.points, dtype=float)
    log_prior = np.asarray(codebook.log_prior, dtype=float)
    ids = neighbourly(points, CELL)
    points, log_prior = points[ids], log_prior[ids]
    centred = points - points.mean(axis=0)
    if exponent is None:
        exponent = math.frexp(float(np.abs(centred).max()) or 1.0)[1]
    return Tokens(
        np.ldexp(points, -exponent),
        np.ldexp(centred, -exponent),
        log_prior,
        ids,
        codebook.has_equal_priors,
        exponent,
        np.arange(ids.size),
    )


def thresholds(
    tokens: Tokens, h: float, k: Any, j: Any, squared: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """h d and r of these pairs. Where h d is 0, r is -inf if j wins and inf if k does.

    Of equally probable tokens that nothing tells apart the one with the smaller id is guessed.
    """
    reach = h * np.sqrt(squared)
    odds = 0.0 if tokens.equal else tokens.log_prior[k] - tokens.log_prior[j]
    r = reach / 2 if tokens.equal else threshold(reach, odds)
    if reach.size and not reach.min() > 0:
        first = tokens.ids[k] < tokens.ids[j]
        loses = (odds < 0) | ((odds == 0) & ~first)
        r = np.where(reach == 0, np.where(loses, -np.inf, np.inf), r)
    return reach, r


def pair_terms(
    tokens: Tokens, h: float, k: Any, j: Any, squared: Float[np.ndarray, " p"]
) -> Float[np.ndarray, " p"]:
    """pi_k Q(r_kj) of these pairs."""
    _, r = thresholds(tokens, h, k, j, squared)
    tails = special.erfc(r * math.sqrt(0.5)) / 2  # three times as fast as ndtr
    prior = 1 / tokens.ids.size if tokens.equal else np.exp(tokens.log_prior[k])
    return np.asarray(prior * tails)


def _differences(points: Any, i: Any, j: Any) -> Float[np.ndarray, " p"]:
    """Squared distances of pairs of tokens, some at a time."""
    step = max(1, WORK // points.shape[1])
    parts = [
        squared_distances(points, i[s : s + step], j[s : s + step]) for s in range(0, i.size, step)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def ranks(log_prior: Float[np.ndarray, " K"]) -> Int[np.ndarray, " K"]:
    """0 for the likely tokens, 1 for those `UNLIKELY` times less likely, and so on."""
    return ((log_prior.max() - log_prior) / math.log(UNLIKELY)).astype(np.int64)


def _weights(level: Level) -> Float[np.ndarray, " K"]:
    """The part of every token in the sums over pairs, over the probability to draw it with.

    That is its part itself, but half of the draws are from every kind of tokens alike: what an
    unlikely kind adds, which is seldom drawn, would show neither in the mean nor in its error.
    """
    _, kind = np.unique(ranks(level.tokens.log_prior), return_inverse=True)
    own = np.bincount(kind, level.rows / level.rows.sum())
    counts = own > EPS  # the others add rounding
    if counts.sum() == 1:
        return np.ones(kind.size)
    more = np.where(counts, 1 / np.where(counts, own, 1.0), 0.0) / counts.sum()
    return np.asarray(2 / (1 + more))[kind]


def singles(level: Level, size: int, rng: np.random.Generator, moments: bool) -> Draws:
    """Draws from one half-space each.

    y then has the density f(y) M(y) / B, with the mean rank M = sum_k p(k|y) S_k(y) of the true
    token. Against g(y) / M(y) stands what the pair (k, j) that was drawn would have alone, whose
    mean over all is the sum over pairs; the difference is the excess.
    """
    tokens = level.tokens
    K, n = tokens.points.shape
    weights, whole = _weights(level), float(level.rows.sum())
    k = draw_ids(rng, level.rows / whole / weights, K, size)
    total = whole * weights[k, None]
    uniform = rng.random((2, size))
    uniform[1] = 1 - uniform[1]  # in (0, 1]: its logarithm is taken
    noise = rng.standard_normal((size, n))
    step = max(1, WORK // K)
    ratios, alone = np.zeros((size, level.totals.size)), np.ones((size, level.totals.size))
    j = np.zeros_like(k)
    for start in range(0, size, step):
        part = slice(start, start + step)
        found = _singles(level, k[part], uniform[:, part], noise[part], moments)
        ratios[part], alone[part], j[part] = found
    if not moments:
        ratios[:, 1:] = alone[:, 1:] = 0.0
    # The sampling error is no control: where distances are nearly the same it is nearly that of the
    # variance, and the slopes for their difference would magnify errors of the quadrature.
    known, unseen = np.zeros((size, 0)), np.zeros(0)
    if moments:
        known, unseen = (total * alone - level.totals)[:, 1:3], _unseen(level, k, j)
    if np.ptp(weights) > 0:
        known, unseen = np.hstack([known, total - whole]), np.append(unseen, 0.0)
    return Draws(total * (alone - ratios), known, np.zeros(size, dtype=int), unseen=unseen)


def _unseen(
    level: Level, k: Int[np.ndarray, " p"], j: Int[np.ndarray, " p"]
) -> Float[np.ndarray, " 2"]:
    """The part of the sums for entropy and MMSE that is not of any of these pairs.

    0 where many of them were drawn once, which then stand for those that were not.
    """
    tokens, K = level.tokens, level.tokens.ids.size
    pairs = np.minimum(k, j) * K + np.maximum(k, j)
    if seen_once(pairs) >= MIN_CARRIERS:
        return np.zeros(2)
    from tokenkl.halfspaces.pair_sums import pair_integrals

    first, second = np.divmod(np.unique(pairs), K)
    squared = squared_distances(tokens.points, first, second)
    odds = tokens.log_prior[first] - tokens.log_prior[second]
    found = [pair_integrals(*one) for one in zip(level.h * np.sqrt(squared), odds, strict=True)]
    prior = np.exp((tokens.log_prior[first] + tokens.log_prior[second]) / 2)
    seen = (prior * np.array(found).T * np.stack([np.ones(squared.size), squared])).sum(axis=1)
    return np.maximum(level.totals[1:3] - seen, 0.0)


def _singles(
    level: Level, k: Int[np.ndarray, " p"], uniform: Any, noise: Any, mmse: bool
) -> tuple[Float[np.ndarray, "p width"], Float[np.ndarray, "p width"], Int[np.ndarray, " p"]]:
    """A partner j and a noise vector for each k; g / M there, and the same for k and j alone."""
    tokens, h = level.tokens, level.h
    points, centred, size = tokens.points, tokens.centred, k.size
    each = np.arange(size)
    squared = cdist(points[k], points, "sqeuclidean")
    row, column, within, starts = _partners(tokens, h, level.edge, squared, k)
    j = column[_pick(within, starts, row.size, uniform[0])]

    squares = squared[each, j]
    reach, r = thresholds(tokens, h, k, j, squares)
    t = np.maximum(upper_tail(r, uniform[1]), r)
    unit = (points[j] - points[k]) / np.where(squares > 0, np.sqrt(squares), 1.0)[:, None]
    along = np.einsum("pn,pn->p", noise, unit)
    noise = noise + np.where(squares > 0, t - along, 0.0)[:, None] * unit

    # Logarithms of the posterior weights, relative to token k.
    logits = noise @ centred.T
    logits -= np.einsum("pn,pn->p", noise, centred[k])[:, None]
    logits *= h
    logits -= h**2 / 2 * squared
    if not tokens.equal:
        logits += tokens.log_prior - tokens.log_prior[k][:, None]
    with np.errstate(invalid="ignore"):
        odds = np.where(reach > 0, reach * (t - r), tokens.log_prior[j] - tokens.log_prior[k])
    odds = np.maximum(odds, 0.0)
    less = np.exp(-odds)
    alone = np.ones((size, level.totals.size))
    alone[:, 1] = (1 + less) * _log1p_over(less) + odds
    alone[:, 2] = squares / (1 + less)
    alone[:, 3:] = (2 / (1 + less))[:, None]
    ratios = (_cluster_ratios if tokens.clustered else _ratios)(tokens, logits, mmse)
    return ratios[:, : alone.shape[1]], alone, j


def _partners(
    tokens: Tokens, h: float, cut: float, squared: Float[np.ndarray, "p K"], k: Any
) -> tuple[Any, Any, Any, Any]:
    """The pairs of each k within the radius: row, partner, probability in the row, row starts."""
    rivals = tokens.labels[k, None] != tokens.labels
    rivals &= squared <= cut * (1 + 1e-12)  # no pair of the pass is missed
    row, column = np.nonzero(rivals)
    terms = pair_terms(tokens, h, k[row], column, squared[row, column])
    starts = np.searchsorted(row, np.arange(k.size))
    return row, column, terms / np.add.reduceat(terms, starts)[row], starts


def _pick(within: Any, starts: Any, size: int, uniform: Any) -> Int[np.ndarray, " p"]:
    """One index for each row, drawn with the probabilities of its part of `within`."""
    edges = np.cumsum(within)  # each row adds 1
    chosen = np.searchsorted(edges, np.arange(starts.size) + uniform, side="right")
    return np.clip(chosen, starts, np.append(starts[1:], size) - 1)  # edges are rounded


def upper_tail(r: Any, uniform: Any) -> Any:
    """t with P(T > t | T > r) = uniform for a standard normal T, by logarithms."""
    return -special.ndtri_exp(np.log(uniform) + special.log_ndtr(-r))


def _log1p_over(x: Any) -> Any:
    """log(1 + x) / x, with its limit at 0."""
    small = np.maximum(x, 1e-9)
    return np.where(x > 1e-9, np.log1p(small) / small, 1.0)


def _ratios(
    tokens: Tokens, logits: Float[np.ndarray, "p K"], mmse: bool
) -> Float[np.ndarray, "p 4"]:
    """1 - max p, entropy, variance and 1 - sum p^2 of the posterior, each over its mean rank.

    With s_i the weight of the token of rank i relative to that of rank 1, the second best, w the
    second best's relative to the best and W = w sum_{i>=1} s_i, these are sum s_i,
    (1 + W) log(1 + W) / w + sum s_i log(p_0/p_i),
    sum s_i d_i0^2 - w |sum s_i (e_i - e_0)|^2 / (1 + W) and
    sum s_i + sum s_i (1 - w s_i) / (1 + W), over sum i s_i: nothing cancels. Without `mmse` the
    variance is 0.
    """
    size = logits.shape[0]
    row, column = np.nonzero(logits >= -NEGLECTED - math.log(tokens.ids.size))
    values = logits[row, column]
    order = np.lexsort((-values, row))
    column, values = column[order], values[order]
    starts = np.searchsorted(row, np.arange(size))
    rank = np.arange(row.size) - starts[row]
    best, second = starts, starts + 1
    above = values[best][row] - values
    s = np.where(rank == 0, 0.0, np.exp(np.minimum(values - values[second][row], 0.0)))
    w = np.exp(values[second] - values[best])
    sums = np.add.reduceat(s, starts)
    W = w * sums
    ranks = np.add.reduceat(rank * s, starts)
    entropy = (1 + W) * _log1p_over(W) * sums + np.add.reduceat(s * above, starts)
    variance = np.zeros(size)
    if mmse:  # about the best token of each row
        top = column[best]
        if 8 * row.size > logits.size:
            squared = cdist(tokens.points[top], tokens.points, "sqeuclidean")[row, column]
        else:
            squared = _differences(tokens.points, top[row], column)
        weights = sparse.csr_array((s, column, np.append(starts, row.size)), logits.shape)
        mean = weights @ tokens.centred - sums[:, None] * tokens.centred[top]
        length = np.einsum("pn,pn->p", mean, mean)
        variance = np.add.reduceat(s * squared, starts) - w / (1 + W) * length
        variance = np.maximum(variance, 0.0)  # of tokens at one place it is rounding
    split = np.add.reduceat(s * (1 - w[row] * s), starts)
    share = sums + split / (1 + W)
    return np.stack([sums, entropy, variance, share], axis=1) / ranks[:, None]


def _cluster_ratios(
    tokens: Tokens, logits: Float[np.ndarray, "p K"], mmse: bool
) -> Float[np.ndarray, "p 4"]:
    """What not knowing the cluster adds to the posterior's statistics, over the mean rank.

    With q_c the probability of a cluster and m_c its mean, that is for the error
    sum_c max_{k in c} p_k - max_k p_k, for the entropy H(q), for the variance
    sum_c q_c |m_c - m|^2 and for the sampling error sum_c (1 - q_c) sum_{k in c} p_k^2 / q_c.
    Ranks count tokens of other clusters only. The best token is ahead of all those, so that the
    mean rank is at least the probability that its cluster, `home`, is wrong.
    """
    size, K = logits.shape
    order = np.argsort(tokens.labels, kind="stable")
    starts = np.flatnonzero(np.diff(tokens.labels[order], prepend=-1))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))[:, order]
    p /= p.sum(axis=1, keepdims=True)
    q, tops = np.add.reduceat(p, starts, axis=1), np.maximum.reduceat(p, starts, axis=1)
    each, home = np.arange(size), tops.argmax(axis=1)
    own = q[each, home]
    q[each, home] = tops[each, home] = 0.0
    others = q.sum(axis=1)
    entropy = own * np.log1p(others / own) - special.xlogy(q, q).sum(axis=1)
    alike = np.add.reduceat(p**2, starts, axis=1)
    share = others * alike[each, home] / own
    share += np.divide((1 - q) * alike, q, out=np.zeros(q.shape), where=q > 0).sum(axis=1)
    variance = np.zeros(size)
    if mmse:
        squares, shift = np.zeros(q.shape), np.zeros(size)
        for coordinate in tokens.centred[order].T:
            sums = np.add.reduceat(p * coordinate, starts, axis=1)
            away = sums - q * (sums[each, home] / own)[:, None]
            away[each, home] = 0.0
            squares += away**2
            shift += away.sum(axis=1) ** 2
        variance = np.divide(squares, q, out=np.zeros(q.shape), where=q > 0).sum(axis=1) - shift
    # Ranks among all tokens, less those within each cluster.
    places = np.arange(K)
    rank = np.sort(p, axis=1)[:, ::-1] @ places
    for start, stop in zip(starts, np.append(starts[1:], K), strict=True):
        if stop - start > 1:
            rank -= np.sort(p[:, start:stop], axis=1)[:, ::-1] @ places[: stop - start]
    rank = np.maximum(rank, others)
    return np.stack([tops.sum(axis=1), entropy, variance, share], axis=1) / rank[:, None]
