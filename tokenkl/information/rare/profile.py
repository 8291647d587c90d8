"""Rare errors of any codebook, down to 1e-300: sums over pairs, and sampling where three meet.

Plain Monte-Carlo sees an error of 1e-9 once in 1e9 draws. Here nothing rare is waited for. What two
tokens at a time would give is summed over all pairs (`pair_sums`): an upper bound on the error
probability, the entropy, the variance and the sampling error alike. What these sums count in
excess is sampled, in one of two ways, chosen from the geometry (all three in `tokenkl.halfspaces`):

- where half-spaces seldom overlap, from intersections of two of them (`wedges`): every draw then
  sees an overlap, and the standard error is that of a small correction;
- where they often do, from single half-spaces (`tokens`): "at least one rare event" (Owen,
  Maximov and Chertkov 2019, Electronic Journal of Statistics 13, arXiv:1710.06965), extended to
  any statistic of the posterior.

Statements, proofs and what is heuristic: docs/theory/rare.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from tokenkl._random import generator
from tokenkl.codebooks.base import Codebook
from tokenkl.halfspaces.tokens import (
    EPS,
    TINY,
    Draws,
    Level,
    Tokens,
    singles,
)
from tokenkl.halfspaces.union import PROBES, nearest_terms, union_guess
from tokenkl.information.estimators import (
    COMPLEMENTS,
    MISSED,
    Estimator,
    Names,
    Progress,
    Served,
    Task,
)
from tokenkl.information.findings import NUMBERS, Findings
from tokenkl.information.methods import RareEvents
from tokenkl.information.problem import Problem
from tokenkl.numerics.moments import MIN_CARRIERS, MIN_EFFECTIVE

#: What the samples give, in this order; the last where it is asked for.
STATISTICS = ("error_probability", "conditional_entropy", "mmse", "sampling_error")
#: Pairs farther apart than a radius are never drawn. What they add to the union bound is about this
#: part of it, or up to the second number where more than so many pairs would have to be summed.
TRUNCATION, LARGE_TRUNCATION, PAIRS = 1e-9, 1e-4, 2**27
#: Where the second Bonferroni sum, over lists of the nearest, is more than this part of the union
#: bound, draws from single half-spaces see enough overlaps.
COMMON = 0.2
#: Below this union bound a given relative error takes less time here than by plain Monte-Carlo. For
#: more tokens than the last number it takes longer to go through the pairs (measured at 65536 x 16:
#: where the error is 0.02, a standard error of 2 % costs 7 processor seconds either way).
HAND_OVER, HAND_OVER_LARGE, LARGE = 0.1, 1e-2, 2**13
#: What a level costs by itself, a draw for each token and coordinate, and a pair, in seconds.
LEVEL_COST, DRAW_COST, PAIR_COST = 2e-2, 1e-9, 4e-9


class RareSampling(Estimator):
    """`rare_profile`: for any codebook whose points can be listed."""

    name = "rare-event sampling"
    settings = RareEvents

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        return wanted, problem.codebook.fits and (asked or rare_is_better(problem))

    def seconds(self, problem: Problem, method: RareEvents) -> float:
        K, n = problem.codebook.K, problem.codebook.n
        draws = method.n_samples * K * (n + 8) * DRAW_COST
        return LEVEL_COST + min(K**2 / 2, PAIRS) * PAIR_COST + draws

    def run(self, task: Task) -> dict[str, Findings]:
        return rare_profile(*task)


def columns_of(quantities: Sequence[str]) -> Names:
    """Those of `STATISTICS` that go along with these quantities."""
    return STATISTICS if STATISTICS[-1] in quantities else STATISTICS[:-1]


def rare_error_probability(
    codebook: Codebook, snr: Float[np.ndarray, " s"], *, key: Any, **settings: Any
) -> dict[str, np.ndarray]:
    """Bayes error probability P_e = sum_k pi_k P(union_{j != k} H_kj) between two bounds.

    Unbiased up to `numerical_error`. With B the union bound the relative variance of one sample is
    at most B / P_e - 1 where half-spaces often overlap; elsewhere only their overlap is sampled,
    and the relative error vanishes with the noise. See the head of this file.

    Args:
        codebook: any codebook whose points can be materialised.
        snr: signal-to-noise ratios, at least 0.
        key: integer seed or JAX key. The samples of all SNRs come from the same random numbers.
        settings: those of `RareEvents`.

    Returns:
        Arrays over `snr`: the numbers of `Findings` (`numerical_error` holds dropped pairs, faint
        overlaps, quadrature and rounding), `union_bound`, an upper bound that may exceed 1, and
        `lower_bound`, by the nearest half-spaces of every token (Bonferroni and de Caen; up to 8192
        tokens) or the nearest alone.

    Raises:
        ValueError: a setting out of its range, or points too many to materialise.

    Example:
        >>> import numpy as np, tokenkl as tk
        >>> found = rare_error_probability(tk.FSQ((2, 2, 2)), np.array([144.0]), key=0)
        >>> exact = tk.error_probability(tk.FSQ((2, 2, 2)), 144.0).value
        >>> bool(abs(found["value"] / exact - 1) < 1e-9)
        True

    Source: Owen, Maximov and Chertkov 2019, arXiv:1710.06965, theorem 1.
    """
    from tokenkl.halfspaces.wedges import lower_bound_of

    problem, method = Problem(codebook, np.asarray(snr, dtype=float)), RareEvents(**settings)
    rows = []
    with threadpool_limits(1, "blas"):  # products whose bits do not depend on the threads
        for level, dropped in _levels(problem, problem.tokens, method.truncation, False, 3):
            found = _level(level, dropped, (0,), method, key)
            row = {name: getattr(found, name)[0] for name in NUMBERS}
            row["union_bound"] = level.totals[0] + dropped[0]
            rows.append(row | {"lower_bound": lower_bound_of(level, codebook.K <= LARGE)})
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def rare_profile(
    problem: Problem,
    quantities: Sequence[str],
    method: RareEvents,
    key: Any,
    progress: Progress | None = None,
    *,
    labels: Int[np.ndarray, " K"] | None = None,
) -> dict[str, Findings]:
    """Any quantity, as `rare_error_probability` finds one of them.

    With `labels`, the cluster of every token, only what mistakes between clusters add to
    `STATISTICS` is found (see `clusters`).
    """
    width = len(columns_of(quantities))
    watched = [STATISTICS.index(COMPLEMENTS.get(name, name)) for name in quantities]
    levels: list[Findings] = []
    with threadpool_limits(1, "blas"):  # products whose bits do not depend on the threads
        tokens = problem.tokens
        if labels is not None:
            tokens = tokens._replace(labels=np.asarray(labels)[tokens.ids])
        moments = max(watched) > 0
        for level, dropped in _levels(problem, tokens, method.truncation, moments, width):
            levels.append(_level(level, dropped, watched, method, key))
            if progress is not None:
                done = sum(int(found.n_samples[0]) for found in levels)
                progress(done, done + (problem.snr.size - len(levels)) * method.n_samples)
    columns = {
        name: np.array([getattr(found, name) for found in levels]).reshape(-1, width)
        for name in NUMBERS
    }
    out = {}
    for name, index in zip(quantities, watched, strict=True):
        own: dict[str, Any] = {field: column[:, index] for field, column in columns.items()}
        found = Findings(**own)
        allowed = method.rtol * found.value + method.atol
        if (method.rtol or method.atol) and np.any(found.standard_error > allowed):
            found = dataclasses.replace(found, note=MISSED)
        if name in COMPLEMENTS:
            whole = 1.0 if name == "accuracy" else float(problem.codebook.prior_entropy())
            found = found.complement(whole, 2 * EPS * whole)
        out[name] = dataclasses.replace(found, method=RareSampling.name)
    return out


def _levels(
    problem: Problem, tokens: Tokens, truncation: float | None, moments: bool, width: int
) -> Iterator[tuple[Level, Float[np.ndarray, " width"]]]:
    """Every level with the sums over its pairs, and what the pairs beyond its radius add.

    These are of the first `width` of `STATISTICS`.
    """
    from tokenkl.halfspaces import pair_sums  # brings in Numba

    h, edges = problem.h, _edges(tokens, problem.h, truncation)
    sums = pair_sums.pair_sums(
        *(tokens.points, tokens.log_prior, tokens.ids, tokens.equal),
        *(h, edges, moments, tokens.labels),
    )
    for index, root in enumerate(h):
        found = sums.rows[index], sums.most[index], sums.totals[index, :width]
        yield Level(tokens, *found, root, edges[index]), sums.dropped[index, :width]


def rare_is_better(problem: Problem) -> Bool[np.ndarray, " s"]:
    """Whether `rare_profile` is the better way at each SNR, from the geometry alone.

    That is where the union bound is below `HAND_OVER` (less for large K), as far as that can be
    told without a pass over all pairs: by the pairs of a few rows and by the nearest pairs inside
    cells of the k-d tree. Nothing random is involved, so the choice biases no estimate.
    """
    K = problem.codebook.K
    if K < 2:
        return np.zeros(problem.snr.shape, dtype=bool)
    most = HAND_OVER if K <= LARGE else HAND_OVER_LARGE
    return np.asarray(union_guess(problem.tokens, problem.h) < most)


def _edges(
    tokens: Tokens, h: Float[np.ndarray, " s"], truncation: float | None
) -> Float[np.ndarray, " s"]:
    """Squared distances, one for every level, beyond which pairs are left out.

    They come from the pairs of a few rows, so that what is dropped is near the wanted part of the
    union bound; what it truly is comes out of the pass over all pairs.
    """
    from tokenkl.halfspaces.pair_sums import class_edges, class_of

    K, known = tokens.ids.size, class_edges()
    rows = np.unique(np.linspace(0, K - 1, PROBES).astype(int))
    squared = cdist(tokens.points[rows], tokens.points, "sqeuclidean")
    root = np.exp(tokens.log_prior / 2)
    squared[tokens.labels[rows, None] == tokens.labels] = np.inf  # no rivals
    here = class_of(squared).ravel()
    weight = np.bincount(here, np.outer(root[rows], root).ravel(), known.size) * K / rows.size / 2
    count = np.bincount(here, minlength=known.size) * K / rows.size / 2
    inside = np.cumsum(count) - count  # pairs nearer than the edge
    unseen = 3 / (rows.size * K) * root.sum() ** 2 / 2  # by all the rows
    smallest = np.maximum(nearest_terms(tokens, h), TINY)
    edges = np.full(h.size, 1e300)
    for level in np.flatnonzero(h > 0):
        term = 2 * special.ndtr(-h[level] * np.sqrt(known) / 2)
        terms = weight * term
        beyond = np.append(np.cumsum(terms[::-1])[::-1] + unseen * term, 0.0)
        whole = max(smallest[level], float(terms.sum()))  # about the union bound

        def first(part: float, beyond: Any = beyond, whole: float = whole) -> int:
            return int(np.argmax(beyond <= part * whole))

        wanted = first(TRUNCATION if truncation is None else truncation)
        if truncation is None:  # fewer where there are too many pairs to go through
            affordable = int(np.searchsorted(inside, PAIRS, side="right")) - 1
            wanted = min(wanted, max(affordable, first(LARGE_TRUNCATION)))
        edges[level] = np.append(known, 1e300)[wanted]
    return edges


def _level(
    level: Level,
    dropped: Float[np.ndarray, " width"],
    watched: Sequence[int],
    method: RareEvents,
    key: Any,
) -> Findings:
    """Sample at one level until the targets are met: all of its `STATISTICS`."""
    from tokenkl.halfspaces.pair_sums import QUADRATURE
    from tokenkl.halfspaces.wedges import doubles, prepare

    tokens, total, K = level.tokens, float(level.totals[0]), level.tokens.ids.size
    width = level.totals.size
    units = np.array([1.0, 1.0, 4.0**tokens.exponent, 1.0])[:width]
    moments = max(watched) > 0
    widest = 4 * float((tokens.centred**2).sum(axis=1).max())
    if total <= TINY:  # below what a float can hold
        least = (total + dropped[0] + TINY) * np.array([1.0, 1e3, units[2] * 8, 2.0])[:width]
        return Findings(np.full(width, total), numerical_error=least, sample_range=least)
    overlaps = None if tokens.clustered else prepare(level)
    proposal = overlaps
    if overlaps is not None and overlaps.overlap > COMMON * total:
        proposal = None  # overlaps are common: single half-spaces see enough of them

    def sample(size: int, block: int) -> Draws:
        rng = generator(key, block)
        if proposal is None:
            return singles(level, size, rng, moments)
        return doubles(proposal, size, rng, moments)

    draws = sample(method.n_samples, 0)
    block = 1
    while True:
        mean, error, skewness, effective, carriers = draws.summary()
        value = level.totals - mean
        if not (method.rtol or method.atol) or draws.size >= method.max_samples:
            break
        allowed = method.rtol * value + method.atol / units
        excess = max(error[i] / max(allowed[i], TINY) for i in watched)
        if excess <= 1:
            break
        more = math.ceil(min(1.1 * excess**2, 4.0) * draws.size) - draws.size
        more = min(max(more, 64), method.max_samples - draws.size)
        draws = draws.merged(sample(more, block))
        block += 1
    n = draws.size
    # Where few draws carry the excess the next ones may be as large as the largest so far.
    largest = np.abs(draws.excess).max(axis=0)
    unseen = np.where(effective < MIN_EFFECTIVE, 3 / n * largest, 0.0) if K > 2 else 0.0 * largest
    # Rounding of a distance moves Q by about r^2 as much relatively, and r^2 / 2 is about -log B.
    rounding = EPS * (2**10 + 4 * (tokens.points.shape[1] + 8) * (1 - math.log(min(total, 1.0))))
    relative = rounding + QUADRATURE * (np.arange(width) > 0)
    faint = level.totals.copy()
    # Where most mistakes are between tokens at one place, or nearly, faint overlaps of these with
    # others may be all that the MMSE is about: their excess is at most 7/4 of the diameter squared.
    faint[2:3] = np.maximum(faint[2:3], 7 / 4 * widest * total)
    numerical = 2 * dropped + unseen + draws.faint * faint + relative * level.totals
    if overlaps is not None and n * overlaps.carried < MIN_CARRIERS:
        # Tokens at one place, or nearly, take the draws from the overlaps that the MMSE is about:
        # what these have in excess is at most 7/4 of the squared diameter.
        numerical[2] += 7 * overlaps.spread
    # Means of tokens at one place are rounded, and count with their square.
    numerical[2] = max(numerical[2], (8 * EPS) ** 2 * tokens.points.shape[1] * total)
    if proposal is None:
        # Dropped pairs carry at most the part p of the draws. There g / M is at most 1; for the
        # entropy on average 1 + 2 log K + log(K / (p B)), since E[1/p(k|Y)] <= K / B; for the
        # variance at most the squared diameter; for the sampling error at most 2.
        part = max(dropped[0] / total, TINY)
        log_term = 1 + 2 * math.log(K)
        log_term += max(math.log(K) - math.log(total) - math.log(part), 0.0)
        most = np.array([1.0, log_term, widest, 2.0])[:width]
        numerical = np.maximum(numerical, dropped[0] * most)
    if tokens.clustered:
        # Where three clusters meet less often than a sample shows (rule of three), draws differ
        # from what two clusters give, by about as much as that.
        numerical = numerical + 3 / n * level.totals
        # Means of clusters are rounded, and their distances with them.
        numerical[2] += 32 * EPS * math.sqrt(tokens.points.shape[1] * total * max(value[2], 0.0))
    carried = (effective >= MIN_EFFECTIVE) | (error <= 0.01 * np.abs(value))
    if proposal is None and not tokens.clustered and K > 2 and level.h * widest > 0:
        # Where few draws, or none, differ from the others, there may be more that none has met.
        carried &= carriers >= MIN_CARRIERS
    return Findings(
        units * value,
        units * error,
        units * numerical + TINY,
        n,
        carried,
        units * total * np.array([1.0, 1 + 2 * math.log(K), widest, 3.0])[:width],
        -skewness,
    )
