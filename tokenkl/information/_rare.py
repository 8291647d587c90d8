"""Rare errors of any codebook, down to 1e-300: sampling observations where a guess goes wrong.

Plain Monte-Carlo sees an error of 1e-9 once in 1e9 draws. Here every draw is an error. Token j is
at least as probable as the true token k on the half-space of the noise

    H_kj = {<eps, u_kj> >= r_kj},  u_kj = (e_j - e_k) / d,  r_kj = h d / 2 + log(pi_k/pi_j) / (h d)

with d = |e_j - e_k|, h = sqrt(snr). A pair (k, j) is drawn with probability pi_k Q(r_kj) / B, where
B is the union bound sum_kj pi_k Q(r_kj), and then eps given H_kj (ALOE, "at least one rare event":
Owen, Maimounov and Chertkov 2019, Electronic Journal of Statistics 13, arXiv:1710.06965). In this
joint law (k, y) has the density pi_k f_k(y) S_k(y) / B, where S_k counts the tokens that beat k. So
y has the density f(y) M(y) / B with the mean rank M = sum_k p(k|y) S_k(y) of the true token in the
posterior (0 for the most probable one), and for any statistic g of the posterior

    E g(Y) = B E_ALOE[g(Y) / M(Y)].

ALOE's own estimate of the error probability, B / S_k, averaged over k given y, is the case
g = 1 - max_k p(k|y). Entropy and posterior variance come from the same draws. All three ratios stay
moderate: the first is in (0, 1], and is 1 wherever only two tokens matter. A function of the
component <eps, u_kj> alone, the ratio that two tokens would have, has a known mean and serves as
control variate: where errors are rare hardly any variance is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse, special
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from tokenkl._neighbours import _lower_bound_factors, _squares
from tokenkl._random import draw_ids, generator
from tokenkl._validation import check_choice, check_count, check_positive, reject
from tokenkl.codebooks.base import Codebook
from tokenkl.information._montecarlo import MIN_EFFECTIVE

EPS, TINY = float(np.finfo(float).eps), float(np.finfo(float).tiny)
#: What the samples give, in this order.
STATISTICS = ("error_probability", "conditional_entropy", "mmse")
#: What is found for each of them, beside the sample count and the union bound.
FIELDS = (
    "value",
    "standard_error",
    "numerical_error",
    "skewness",
    "interval_supported",
    "sample_range",
)
#: Pairs farther apart than a radius are never drawn; what they add to the union bound is at most
#: this part of it, for small codebooks and for large ones. The number of pairs to be gone through
#: grows as the n-th power of the radius, and its square as the logarithm of this number.
TRUNCATION, LARGE_TRUNCATION = 1e-9, 1e-6
LARGE = 2**13
#: Tokens that share a cell of the k-d tree, and columns of a block of pairs.
CELL, COLUMNS = 512, 4096
#: Numbers in one array while samples are worked on (16 MiB).
WORK = 2**21
#: Posterior weights below exp(-NEGLECTED) / K of the drawn token's are left out.
NEGLECTED = 30.0
#: Pairs for the second Bonferroni sum, which bounds what no sample has seen.
OVERLAPS = 1024
#: Below this union bound a given relative error takes less time here than by plain Monte-Carlo
#: (measured at K = 64, 512, 4096, 6561: equal between 0.1 and 0.3). For K above LARGE the pass over
#: pairs takes a minute and more at moderate errors, so that plain samples are kept for longer.
HAND_OVER, HAND_OVER_LARGE = 0.1, 1e-3
#: Rows from which the union bound is guessed.
PROBES = 32
#: Most samples when a relative error is asked for.
MAX_SAMPLES = 2**20

# Gauss-Legendre nodes on (0, 1) to the fourth power, which tames the logarithm at 0 of what is
# integrated: relative error below 1e-12 where r >= 0 and h d <= STEEP max(r, 1/2).
_nodes, _weights = np.polynomial.legendre.leggauss(48)
NODES = ((_nodes + 1) / 2) ** 4
WEIGHTS = _weights / 2 * 4 * ((_nodes + 1) / 2) ** 3
STEEP = 20


class _Tokens(NamedTuple):
    """A codebook in k-d order, scaled by a power of two so that its largest coordinate is near 1.

    Distances are taken from `points`, by differences; products from `centred`.
    """

    points: Float[np.ndarray, "K n"]
    centred: Float[np.ndarray, "K n"]
    log_prior: Float[np.ndarray, " K"]
    ids: Int[np.ndarray, " K"]
    equal: bool
    exponent: int


class _Union(NamedTuple):
    """The union bound at every level, token by token, and the mean traits of its pairs."""

    rows: Float[np.ndarray, "levels K"]
    total: Float[np.ndarray, " levels"]
    traits: Float[np.ndarray, "levels 3"]
    cut: Float[np.ndarray, " levels"]
    dropped: Float[np.ndarray, " levels"]


def rare_error_probability(
    codebook: Codebook,
    snr: Float[np.ndarray, " s"],
    *,
    n_samples: int = 2000,
    rtol: float | None = None,
    key: Any,
    truncation: float | None = None,
) -> dict[str, Any]:
    """Bayes error probability P_e = sum_k pi_k P(union_{j != k} H_kj), however small.

    Unbiased up to `numerical_error`. The relative variance of one sample is at most B / P_e - 1,
    with B the union bound: 1 % of relative error takes a few thousand samples wherever B is below
    about 1, and the error vanishes with the noise. See the head of this file for the estimator.

    Args:
        codebook: any codebook whose points can be materialised.
        snr: signal-to-noise ratios, at least 0.
        n_samples: independent samples for every SNR; the least number where `rtol` is given.
        rtol: sample on until the standard error is below this part of the value (at most about a
            million samples).
        key: integer seed or JAX key. The samples of all SNRs come from the same random numbers.
        truncation: part of the union bound that may be left to pairs too far apart to be drawn;
            1e-9 when None, 1e-6 for more than 8192 tokens.

    Returns:
        Arrays over `snr`: `value`, `standard_error`, `numerical_error` (dropped pairs, overlaps
        of half-spaces too small to be seen by the sample, rounding), `n_samples`, and
        `union_bound`, an upper bound that may exceed 1. Also `skewness` of the mean,
        `interval_supported` and `sample_range`, as in `Estimate`.

    Raises:
        ValueError: an argument out of its range, or points too many to materialise.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> found = rare_error_probability(tk.FSQ((2, 2, 2)), np.array([144.0]), key=0)
        >>> bool(abs(found["value"] / tk.error_probability(tk.FSQ((2, 2, 2)), 144.0) - 1) < 1e-9)
        True

    Source: Owen, Maximov and Chertkov 2019, arXiv:1710.06965, theorem 1.
    """
    names = ("error_probability",)
    found = rare_profile(
        codebook, snr, names, n_samples=n_samples, rtol=rtol, key=key, truncation=truncation
    )
    return found["error_probability"]


def rare_profile(
    codebook: Codebook,
    snr: Float[np.ndarray, " s"],
    quantities: Sequence[str] = (*STATISTICS, "accuracy", "mutual_information"),
    *,
    n_samples: int = 2000,
    rtol: float | None = None,
    key: Any,
    truncation: float | None = None,
) -> dict[str, dict[str, Any]]:
    """What `rare_error_probability` returns, for any of the five information quantities.

    Arguments and errors as there; `rtol` holds for each of error probability, conditional entropy
    and MMSE that is asked for (an accuracy or a mutual information asks for its complement).
    """
    needed = {"accuracy": "error_probability", "mutual_information": "conditional_entropy"}
    for name in quantities:
        check_choice(name, (*STATISTICS, *needed), "quantities")
    check_count(n_samples, "n_samples", 64)
    if rtol is not None:
        check_positive(rtol, "rtol")
    if truncation is None:
        truncation = TRUNCATION if codebook.K <= LARGE else LARGE_TRUNCATION
    if not 0 < truncation < 1:
        reject("truncation", truncation, "strictly between 0 and 1")
    snr = np.asarray(snr, dtype=float)
    watched = [STATISTICS.index(needed.get(name, name)) for name in quantities]
    with threadpool_limits(1, "blas"):  # products whose bits do not depend on the threads
        tokens = _tokens(codebook)
        h = np.ldexp(np.sqrt(snr), tokens.exponent)
        union = _union(tokens, h, truncation)
        levels = [
            _level(tokens, union, index, root, watched, n_samples, rtol, key)
            for index, root in enumerate(h)
        ]
    out: dict[str, dict[str, Any]] = {}
    for name in quantities:
        index = STATISTICS.index(needed.get(name, name))
        fields = {field: np.array([level[field][index] for level in levels]) for field in FIELDS}
        if name in needed:
            whole = 1.0 if name == "accuracy" else float(codebook.prior_entropy())
            fields["value"] = whole - fields["value"]
            fields["skewness"] = -fields["skewness"]
            fields["numerical_error"] = fields["numerical_error"] + 2 * EPS * whole
        fields["n_samples"] = np.array([level["n_samples"] for level in levels])
        fields["union_bound"] = union.total + union.dropped
        out[name] = fields
    return out


def rare_is_better(codebook: Codebook, snr: Float[np.ndarray, " s"]) -> Bool[np.ndarray, " s"]:
    """Whether `rare_profile` is the better way at each SNR, from the geometry alone.

    That is where the union bound is below `HAND_OVER` (less for large K), as far as that can be
    told without a pass over all pairs: by the pairs of a few rows and by the nearest pairs inside
    cells of the k-d tree. Nothing random is involved, so the choice biases no estimate.
    """
    if codebook.K < 2:
        return np.zeros(np.shape(snr), dtype=bool)
    tokens = _tokens(codebook)
    h = np.ldexp(np.sqrt(np.asarray(snr, dtype=float)), tokens.exponent)
    K = tokens.ids.size
    rows = np.unique(np.linspace(0, K - 1, PROBES).astype(int))
    squared = cdist(tokens.points[rows], tokens.points, "sqeuclidean")
    row, column = np.nonzero(np.arange(K) != rows[:, None])
    guess = np.zeros(h.size)
    for index, root in enumerate(h):
        terms, _ = _terms(tokens, root, rows[row], column, squared[row, column])
        guess[index] = terms.sum() * K / rows.size
    most = HAND_OVER if K <= LARGE else HAND_OVER_LARGE
    return np.asarray(np.maximum(guess, _nearest_terms(tokens, h)) < most)


def _tokens(codebook: Codebook) -> _Tokens:
    from tokenkl.information._kernel import _neighbourly  # brings in Numba

    points = np.asarray(codebook.points, dtype=float)
    log_prior = np.asarray(codebook.log_prior, dtype=float)
    ids = _neighbourly(points, CELL)
    points, log_prior = points[ids], log_prior[ids]
    centred = points - points.mean(axis=0)
    _, exponent = math.frexp(float(np.abs(centred).max()) or 1.0)
    return _Tokens(
        np.ldexp(points, -exponent),
        np.ldexp(centred, -exponent),
        log_prior,
        ids,
        codebook.has_equal_priors,
        exponent,
    )


def _thresholds(
    tokens: _Tokens, h: float, k: Any, j: Any, squared: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """h d and r of these pairs. Where h d is 0, r is -inf if j wins and inf if k does.

    Of equally probable tokens that nothing tells apart the one with the smaller id is guessed.
    """
    reach = h * np.sqrt(squared)
    r = reach / 2
    if not tokens.equal:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            r = r + (tokens.log_prior[k] - tokens.log_prior[j]) / reach
    if reach.size and not reach.min() > 0:
        odds = tokens.log_prior[k] - tokens.log_prior[j]
        first = tokens.ids[k] < tokens.ids[j]
        loses = (odds < 0) | ((odds == 0) & ~first)
        r = np.where(reach == 0, np.where(loses, -np.inf, np.inf), r)
    return reach, r


def _terms(
    tokens: _Tokens, h: float, k: Any, j: Any, squared: Float[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, " p"], tuple[Any, Any, Any]]:
    """pi_k Q(r_kj) of these pairs, and their traits: what tells pairs apart."""
    reach, r = _thresholds(tokens, h, k, j, squared)
    tails = special.erfc(r * math.sqrt(0.5)) / 2  # three times as fast as ndtr
    prior = 1 / tokens.ids.size if tokens.equal else np.exp(tokens.log_prior[k])
    return prior * tails, _traits(squared, reach, r)


def _traits(squared: Any, reach: Any, r: Any) -> tuple[Any, Any, Any]:
    """d^2, h d and r, the last 0 where it is infinite."""
    return squared, reach, np.where(np.isfinite(r), r, 0.0)


def _nearest_terms(tokens: _Tokens, h: Float[np.ndarray, " s"]) -> Float[np.ndarray, " s"]:
    """A lower bound on the union bound: of every token the nearest pair within its cell."""
    K = tokens.ids.size
    near = np.zeros(K, dtype=int)
    squared = np.zeros(K)
    for start in range(0, K, CELL):
        cell = slice(start, start + CELL)
        block = cdist(tokens.points[cell], tokens.points[cell], "sqeuclidean")
        if block.shape[0] == 1:  # a cell of its own, whose token stands for no pair
            block = cdist(tokens.points[cell], tokens.points[:1], "sqeuclidean")
            near[cell], squared[cell] = 0, block[:, 0]
            continue
        np.fill_diagonal(block, np.inf)
        near[cell] = start + block.argmin(axis=1)
        squared[cell] = block.min(axis=1)
    every = np.arange(K)
    return np.array([_terms(tokens, root, every, near, squared)[0].sum() for root in h])


def _union(tokens: _Tokens, h: Float[np.ndarray, " s"], truncation: float) -> _Union:
    """One pass over the pairs, for all levels together.

    Left out are pairs beyond a radius. Each of them adds at most sqrt(pi_k pi_j) exp(-h^2 d^2 / 8),
    half of it where r_kj >= 0: then Q(r) <= exp(-r^2/2) / 2 and pi_k exp(-r_kj^2 / 2) is at most
    that; otherwise pi_k <= pi_j exp(-h^2 d^2 / 2), and Q(r) <= 1.
    """
    K = tokens.ids.size
    mass = max(float(np.exp(tokens.log_prior / 2).sum()) ** 2 - 1, TINY)
    scale = mass / 2 if tokens.equal else mass
    at_least = np.maximum(_nearest_terms(tokens, h), TINY)
    with np.errstate(divide="ignore", over="ignore"):
        cut = 8 / h**2 * np.log(scale / (truncation * at_least))
    cut = np.where(h > 0, np.minimum(cut, 1e300), 1e300)
    rows = np.zeros((h.size, K))
    kept = np.zeros(h.size)
    traits = np.zeros((h.size, 3))
    for start, first, row, column, squared in _close_pairs(tokens, float(cut.max(initial=0.0))):
        for index, root in enumerate(h):
            inside = squared <= cut[index]
            k, j, some = start + row[inside], first + column[inside], squared[inside]
            kept[index] += 2 * some.size
            there, of_there = _terms(tokens, root, k, j, some)
            back, of_back = there, of_there
            if not (tokens.equal and some.size and root > 0 and some.min() > 0):
                back, of_back = _terms(tokens, root, j, k, some)
            traits[index] += [there @ x + back @ y for x, y in zip(of_there, of_back, strict=True)]
            sums = np.bincount(k - start, there)
            rows[index, start : start + sums.size] += sums
            sums = np.bincount(j - first, back)
            rows[index, first : first + sums.size] += sums
    # All dropped pairs together weigh no more than all pairs, and each no more than the largest.
    left = (K * (K - 1.0) - kept) * np.exp(tokens.log_prior.max()) / (2 if tokens.equal else 1)
    dropped = np.minimum(scale, left) * np.exp(-np.minimum(h**2 * cut / 8, 740))
    dropped = np.where(kept == K * (K - 1.0), 0.0, dropped)
    total = rows.sum(axis=1)
    return _Union(rows, total, traits / np.maximum(total, TINY)[:, None], cut, dropped)


def _close_pairs(tokens: _Tokens, cut: float) -> Iterator[tuple[int, int, Any, Any, Any]]:
    """Every pair k < j whose squared distance is at most `cut`, in blocks, and a few others.

    Each block: its first row and column, and of its pairs the rows and columns from there and the
    squared distances, by differences.
    """
    points = tokens.points
    K, n = points.shape
    starts = list(range(0, K, CELL))
    low = np.stack([tokens.centred[s : s + CELL].min(axis=0) for s in starts])
    high = np.stack([tokens.centred[s : s + CELL].max(axis=0) for s in starts])
    norms = np.einsum("kn,kn->k", tokens.centred, tokens.centred)
    left, right = _lower_bound_factors(tokens.centred, norms, np.float32)
    limit = np.nextafter(np.float32(min(cut, 1e30) * (1 + (n + 4) * EPS)), np.float32(np.inf))
    for a, start in enumerate(starts):
        own = slice(start, min(start + CELL, K))
        size = own.stop - own.start
        # Cells farther than the radius from this one, box to box, are passed by.
        apart = np.maximum(np.maximum(low[a:] - high[a], low[a] - high[a:]), 0.0)
        near = np.flatnonzero((apart**2).sum(axis=1) * (1 - 1e-12) <= cut) + a
        for run in np.split(near, np.flatnonzero(np.diff(near) > 1) + 1):
            for first in range(starts[run[0]], min(starts[run[-1]] + CELL, K), COLUMNS):
                stop = min(first + COLUMNS, starts[run[-1]] + CELL, K)
                # A product in single precision, lowered by its error, says which pairs to look at.
                lower = left[own] @ right[:, first:stop]
                if first < own.stop:
                    lower[np.arange(start, own.stop)[:, None] >= np.arange(first, stop)] = np.inf
                found = np.flatnonzero(lower <= limit)
                row, column = np.divmod(found, stop - first)
                if 8 * found.size > size * (stop - first):
                    squared = cdist(points[own], points[first:stop], "sqeuclidean").ravel()[found]
                else:
                    squared = _differences(points, start + row, first + column)
                yield start, first, row, column, squared


def _differences(points: Any, i: Any, j: Any) -> Float[np.ndarray, " p"]:
    """Squared distances of pairs of tokens, some at a time."""
    step = max(1, WORK // points.shape[1])
    parts = [_squares(points, i[s : s + step], j[s : s + step]) for s in range(0, i.size, step)]
    return np.concatenate(parts) if parts else np.zeros(0)


class _Samples(NamedTuple):
    """Draws at one level: g / M for every statistic, controls of mean 0, and traits of pairs."""

    ratios: Float[np.ndarray, "p 3"]
    controls: Float[np.ndarray, "p 2"]
    traits: Float[np.ndarray, "p 3"]

    def __add__(self, other: Any) -> _Samples:
        return _Samples(*(np.concatenate(both) for both in zip(self, other, strict=True)))


def _level(
    tokens: _Tokens,
    union: _Union,
    index: int,
    h: float,
    watched: Sequence[int],
    n_samples: int,
    rtol: float | None,
    key: Any,
) -> dict[str, Any]:
    """Sample at one level until the target is met, and summarise."""
    total, dropped, cut = union.total[index], union.dropped[index], union.cut[index]
    units = np.array([1.0, 1.0, 4.0**tokens.exponent])
    K, mmse = tokens.ids.size, 2 in watched
    if total <= TINY:  # below what a float can hold
        return {
            "value": np.full(3, total),
            "standard_error": np.zeros(3),
            "numerical_error": (total + dropped + TINY) * np.array([1.0, 1e3, units[2] * 8]),
            "skewness": np.zeros(3),
            "interval_supported": np.ones(3, dtype=bool),
            "sample_range": total * np.array([1.0, 1e3, units[2] * 8]),
            "n_samples": 0,
        }
    share = union.rows[index] / total
    samples = _draw(tokens, h, cut, share, n_samples, generator(key, 0), mmse)
    block = 1
    while True:
        mean, error, skewness, seen, unknown = _summary(samples, union.traits[index])
        n = len(samples.ratios)
        if rtol is None or n >= MAX_SAMPLES:
            break
        excess = max(error[i] / max(rtol * mean[i], TINY) for i in watched)
        if excess <= 1:
            break
        more = min(math.ceil(min(1.1 * excess**2, 4.0) * n), MAX_SAMPLES) - n
        samples += _draw(tokens, h, cut, share, more, generator(key, block), mmse)
        block += 1
    # What few or no samples saw: overlaps of half-spaces. They are at most `_overlap` of the union
    # bound, and at most 3 / n of it unless a chance of 1 in 20 has come true.
    unseen = 0.0
    if seen < MIN_EFFECTIVE and K > 2:
        double = _overlap(tokens, h, cut, share, generator(key, 0, 1))
        unseen = min(2 * double, 3 / n)
    ratios = samples.ratios
    second = (ratios**2).mean(axis=0)
    hidden = unseen * np.array([1.0, 3.0, 3.0]) * np.sqrt(second)
    hidden += unknown * np.array([0.0, 1.0, 1.0]) * np.abs(mean)
    # Dropped pairs carry at most the part p of the draws. There g / M is at most 1; for the entropy
    # on average 1 + 2 log K + log(K / (p B)), since E[1/p(k|Y)] <= K / B; for the variance at most
    # the squared diameter.
    part = max(dropped / total, TINY)
    widest = 4 * float((tokens.centred**2).sum(axis=1).max())
    log_term = 1 + 2 * math.log(K) + max(math.log(K) - math.log(total) - math.log(part), 0.0)
    most = np.array([1.0, log_term, widest])
    bias = dropped / total * most
    # 2e-12 for the quadrature. Rounding of a distance moves Q by about r^2 as much relatively, and
    # r^2 / 2 is about -log B.
    rounding = EPS * (2**13 + 4 * (tokens.points.shape[1] + 8) * (1 - math.log(min(total, 1.0))))
    effective = n * ratios.mean(axis=0) ** 2 / np.maximum(second, TINY)
    factor = total * units
    return {
        "value": factor * mean,
        "standard_error": factor * error,
        "numerical_error": factor * (hidden + bias + rounding * np.abs(mean)) + TINY,
        "skewness": skewness,
        "interval_supported": effective >= min(MIN_EFFECTIVE, n),
        "sample_range": factor * most,
        "n_samples": n,
    }


def _summary(
    samples: _Samples, traits: Float[np.ndarray, " 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Means with their standard errors and skewness, and two sizes of what was not seen.

    The first is the number of samples that saw an overlap; the second a relative error. Traits have
    known means and so are control variates, unless few samples carry the spread: a slope fitted to
    those would hide their own error. Then the distance between the known mean of the trait and that
    of the sample says by how much odd kinds of pairs were missed.
    """
    ratios, n = samples.ratios, len(samples.ratios)
    off = samples.traits - traits
    spread = (off - off.mean(axis=0)) ** 2
    carriers = spread.sum(axis=0) ** 2 / np.maximum((spread**2).sum(axis=0), TINY)
    visible = spread.mean(axis=0) > (1e-9 * np.abs(samples.traits).max(axis=0)) ** 2  # not rounding
    usable = (carriers >= MIN_EFFECTIVE) & visible
    missed = np.abs(off.mean(axis=0)) / np.maximum(np.abs(traits), TINY)
    unknown = float(np.where(usable, 0.0, missed)[:2].max())
    controls = np.column_stack([samples.controls, off[:, usable]])
    scale = np.abs(controls).max(axis=0)
    controls = controls[:, scale > 0] / scale[scale > 0]
    centred = controls - controls.mean(axis=0)
    slope, _, rank, _ = np.linalg.lstsq(centred, ratios - ratios.mean(axis=0), rcond=1e-10)
    rest = ratios - controls @ slope
    mean = rest.mean(axis=0)
    rest = rest - mean
    squares = (rest**2).sum(axis=0)
    error = np.sqrt(squares / (n - 1 - rank) / n)
    floor = (1e-13 * np.abs(mean)) ** 2 * n + 1e-200  # below which deviations are rounding
    third = (rest**3).sum(axis=0)
    skewness = np.where(squares > floor, third / np.maximum(squares, floor) ** 1.5, 0.0)
    lost = 1 - ratios[:, 0]
    seen = float(lost.sum() ** 2 / max((lost**2).sum(), TINY))
    return mean, error, skewness, seen, unknown


def _draw(
    tokens: _Tokens,
    h: float,
    cut: float,
    share: Float[np.ndarray, " K"],
    size: int,
    rng: np.random.Generator,
    mmse: bool,
) -> _Samples:
    K, n = tokens.points.shape
    k = draw_ids(rng, share, K, size)
    uniform = rng.random((2, size))
    uniform[1] = 1 - uniform[1]  # in (0, 1]: its logarithm is taken
    noise = rng.standard_normal((size, n))
    step = max(1, WORK // K)
    parts = []
    for start in range(0, size, step):
        part = slice(start, start + step)
        parts.append(_block(tokens, h, cut, k[part], uniform[:, part], noise[part], mmse))
    return _Samples(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _block(
    tokens: _Tokens,
    h: float,
    cut: float,
    k: Int[np.ndarray, " p"],
    uniform: Float[np.ndarray, "2 p"],
    noise: Float[np.ndarray, "p n"],
    mmse: bool,
) -> _Samples:
    """A partner j and a noise vector for each k, and what the posterior looks like there."""
    points, centred, size = tokens.points, tokens.centred, k.size
    each = np.arange(size)
    squared = cdist(points[k], points, "sqeuclidean")
    squared[each, k] = np.inf
    row, column, within, starts = _partners(tokens, h, cut, squared, k)
    j = column[_pick(within, starts, row.size, uniform[0])]

    squares = squared[each, j]
    reach, r = _thresholds(tokens, h, k, j, squares)
    traits = np.stack(_traits(squares, reach, r), axis=1)
    t = np.maximum(_tail(r, uniform[1]), r)
    unit = (points[j] - points[k]) / np.where(squares > 0, np.sqrt(squares), 1.0)[:, None]
    along = np.einsum("pn,pn->p", noise, unit)
    noise = noise + (t - along)[:, None] * unit

    # Logarithms of the posterior weights, relative to token k.
    logits = noise @ centred.T
    logits -= np.einsum("pn,pn->p", noise, centred[k])[:, None]
    squared[each, k] = 0.0
    logits *= h
    logits -= h**2 / 2 * squared
    if not tokens.equal:
        logits += tokens.log_prior - tokens.log_prior[k][:, None]
    ratios = _ratios(tokens, logits, mmse)

    # Two tokens alone would have the log-odds v of j, whatever the rest of the noise.
    # Which pairs have controls depends on r and h d alone, so that all means are 0.
    controls = np.zeros((size, 2))
    some = np.flatnonzero((r >= 0) & (reach <= STEEP * np.maximum(r, 0.5)))
    reach, r, t = reach[some], r[some], t[some]
    nodes = np.maximum(_tail(r[:, None], NODES) - r[:, None], 0.0)
    for index, (found, at_nodes) in enumerate(
        zip(_two(reach * (t - r)), _two(reach[:, None] * nodes), strict=True)
    ):
        controls[some, index] = found - at_nodes @ WEIGHTS
    controls[:, 1] *= squares
    return _Samples(ratios, controls, traits)


def _partners(
    tokens: _Tokens, h: float, cut: float, squared: Float[np.ndarray, "p K"], k: Any
) -> tuple[Any, Any, Any, Any]:
    """The pairs of each k within the radius: row, partner, probability in the row, row starts."""
    row, column = np.nonzero(squared <= cut * (1 + 1e-12))  # no pair of the pass is missed
    terms, _ = _terms(tokens, h, k[row], column, squared[row, column])
    starts = np.searchsorted(row, np.arange(k.size))
    return row, column, terms / np.add.reduceat(terms, starts)[row], starts


def _pick(within: Any, starts: Any, size: int, uniform: Any) -> Int[np.ndarray, " p"]:
    """One index for each row, drawn with the probabilities of its part of `within`."""
    edges = np.cumsum(within)  # each row adds 1
    chosen = np.searchsorted(edges, np.arange(starts.size) + uniform, side="right")
    return np.clip(chosen, starts, np.append(starts[1:], size) - 1)  # edges are rounded


def _tail(r: Any, uniform: Any) -> Any:
    """t with P(T > t | T > r) = uniform for a standard normal T, by logarithms."""
    return -special.ndtri_exp(np.log(uniform) + special.log_ndtr(-r))


def _two(v: Any) -> tuple[Any, Any]:
    """g / M of entropy and variance (over d^2) for two tokens with log-odds v >= 0."""
    odds = np.exp(-v)
    return (1 + odds) * _log1p_over(odds) + v, 1 / (1 + odds)


def _log1p_over(x: Any) -> Any:
    """log(1 + x) / x, with its limit at 0."""
    small = np.maximum(x, 1e-9)
    return np.where(x > 1e-9, np.log1p(small) / small, 1.0)


def _ratios(
    tokens: _Tokens, logits: Float[np.ndarray, "p K"], mmse: bool
) -> Float[np.ndarray, "p 3"]:
    """1 - max p, the entropy and the variance of the posterior, each over its mean rank.

    With s_i the weight of the token of rank i relative to that of rank 1, the second best, w the
    second best's relative to the best and W = w sum_{i>=1} s_i, these are sum s_i,
    (1 + W) log(1 + W) / w + sum s_i log(p_0/p_i), and
    sum s_i d_i0^2 - w |sum s_i (e_i - e_0)|^2 / (1 + W), over sum i s_i: nothing cancels. Without
    `mmse` the last is 0.
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
    return np.stack([sums, entropy, variance], axis=1) / ranks[:, None]


def _overlap(
    tokens: _Tokens, h: float, cut: float, share: Float[np.ndarray, " K"], rng: np.random.Generator
) -> float:
    """Part of the union bound that is counted twice, or a little more.

    That is sum_k pi_k sum_{i<j} P(H_ki and H_kj) / B, with P(H_ki and H_kj) at most Q(rho), where
    rho is the distance of the intersection from the origin. No noise is drawn, so that the smallest
    overlaps count. Where there are too many pairs (k, j) for all of them to be gone through, half
    of the draws of k, and of j given k, are uniform: pairs too light to be drawn otherwise may
    overlap most. Each intersection belongs to its nearer half-space.
    """
    points, K = tokens.points, tokens.ids.size
    active = np.flatnonzero(share > 0)
    exhaustive = K * (K - 1) <= OVERLAPS
    if exhaustive:
        drawn = active
    else:
        uniform = active[rng.integers(active.size, size=OVERLAPS)]
        drawn = np.where(rng.random(OVERLAPS) < 0.5, draw_ids(rng, share, K, OVERLAPS), uniform)
    chance = share[drawn] / 2 + 0.5 / active.size
    choice = rng.random((2, drawn.size))
    counted = []
    step = max(1, WORK // K)
    for start in range(0, drawn.size, step):
        part = slice(start, start + step)
        tokens_here, each = drawn[part], np.arange(drawn[part].size)
        squared = cdist(points[tokens_here], points, "sqeuclidean")
        squared[each, tokens_here] = np.inf
        row, column, within, starts = _partners(tokens, h, cut, squared, tokens_here)
        if exhaustive:
            chosen, weight = np.arange(row.size), share[tokens_here][row] * within
        else:
            size = np.diff(np.append(starts, row.size))
            by_weight = _pick(within, starts, row.size, choice[1, part])
            evenly = starts + np.minimum((choice[1, part] * size).astype(int), size - 1)
            chosen = np.where(choice[0, part] < 0.5, by_weight, evenly)
            among = within[chosen] / 2 + 0.5 / size
            weight = share[tokens_here] * within[chosen] / (chance[part] * among)
        for begin in range(0, chosen.size, step):
            some = chosen[begin : begin + step]
            k, j = tokens_here[row[some]], column[some]
            double = _double(tokens, h, cut, squared[row[some]], k, j)
            counted.append(weight[begin : begin + step] * double)
    found = np.concatenate(counted)
    if exhaustive:
        return float(found.sum())
    return float(found.mean() + 3 * found.std() / math.sqrt(found.size))


def _double(
    tokens: _Tokens, h: float, cut: float, squared: Float[np.ndarray, "p K"], k: Any, j: Any
) -> Float[np.ndarray, " p"]:
    """Sum of Q(rho) / Q(r_kj) over the half-spaces i of k that are farther than j."""
    points, each = tokens.points, np.arange(k.size)
    distance = np.sqrt(squared[each, j])
    unit = (points[j] - points[k]) / np.maximum(distance, TINY)[:, None]
    _, nearer = _thresholds(tokens, h, k, j, squared[each, j])
    along = unit @ tokens.centred.T
    along -= np.einsum("pn,pn->p", unit, tokens.centred[k])[:, None]
    wanted = squared <= cut
    wanted[each, j] = False
    row, i = np.nonzero(wanted)
    _, r = _thresholds(tokens, h, k[row], i, squared[row, i])
    s = nearer[row]
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.clip(along[row, i] / np.sqrt(squared[row, i]), -1, 1)
        corner = np.sqrt(s**2 + (r - cosine * s) ** 2 / (1 - cosine**2))
        # The nearest point of the intersection lies on both faces, or on the farther one alone.
        outside = (r > 0) & (s > 0) & (r > cosine * s) & (s > cosine * r)
        rho = np.where(outside, corner, np.maximum(r, s))
        log_ratio = special.log_ndtr(-rho) - special.log_ndtr(-s)
    ratio = np.exp(np.minimum(log_ratio, 0.0)) * ((r > s) + 0.5 * (r == s))
    return np.bincount(row, ratio, minlength=k.size)
