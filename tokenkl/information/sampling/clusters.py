"""Clusters: tokens that are confused with each other, and hardly ever with those of other clusters.

Tokens of one cluster make the posterior noisy in every sample; a mistake between clusters may be so
rare that a sample never sees one, and yet be most of an estimate's error. No average of such a
sample tells. So the two are taken apart by the chain rule,

    H(k|Y) = H(k|Y, C) + H(C|Y),        C the cluster of the token,

and likewise for the variance and both errors (statement S8 of docs/theory/sampling.md): the first
part is sampled as ever, from posteriors that know the cluster, the second by `rare`, in which
tokens of one cluster are no rivals. That is done where a union bound over tokens of different
clusters leaves room for mistakes that would make the sampling error skew, measured by the spread
that the sample shows: there its interval is not to be trusted, whatever else it shows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special
from scipy.cluster import hierarchy
from scipy.spatial.distance import cdist, pdist

from tokenkl._random import generator
from tokenkl.codebooks.base import Codebook, PointCodebook
from tokenkl.halfspaces.tokens import CELL, EPS, Tokens, ranks
from tokenkl.halfspaces.union import nearest_pairs, union_guess
from tokenkl.information.estimators import COMPLEMENTS, Names, Progress, SampleAverage, Served, Task
from tokenkl.information.findings import Findings
from tokenkl.information.methods import MonteCarlo, RareEvents
from tokenkl.information.problem import Problem
from tokenkl.information.rare.profile import HAND_OVER, STATISTICS, columns_of, rare_profile
from tokenkl.information.sampling.montecarlo import DEFAULT_SAMPLES, Part, sample_profile
from tokenkl.numerics.laws import entropy_of
from tokenkl.ways import Ways

#: A gap between clusters is at least this many times the longest step within one. Points without
#: clusters show such gaps too, but among the few nearest or most remote of them only.
GAP = 1.5
#: Mistakes that a sample is to see if they are left to it. What the union bound has for the
#: clusters is at most this, divided by the number of samples.
SEEN = 200
#: ... and what it would have if rivals were as likely as their tokens; the part of tokens that may
#: have a rival as close as this, in units of the noise: draws go where mistakes are, and these have
#: them all, while squared errors are those of others.
AS_LIKELY = 0.02
COINCIDENT, CLOSE = 1e-3, 0.3
#: Largest skewness of a mean that mistakes between clusters may add.
SKEWNESS = 0.1
#: Part of a target that the error of what clusters add may take.
BETWEEN = 0.4
#: Draws for what clusters add, and for no more tokens than the last number.
DRAWS, MANY_DRAWS, MANY_DRAWS_TOKENS = 2000, 8000, 1024
#: By how much fewer samples there are of unlikely tokens, which are sampled by themselves.
FEWER = 8
#: What a sample costs at one level by itself, for each token, and for each of its coordinates, in
#: seconds.
SAMPLE_COST, TOKEN_COST, COORDINATE_COST = 4e-6, 2e-9, 5e-10
#: Stream of random numbers below the key.
PARTS = 4
#: Mean cube of what a mistake adds, to the error, to the entropy, over the sixth power of the
#: distance to the variance, and to the sampling error, for each mistake: with p = 1/(1 + exp(v))
#: the integrals over v > 0 of min(p, 1-p)^3, of the binary entropy cubed, of (p(1-p))^3 and of
#: (2p(1-p))^3, over that of min(p, 1-p), log 2.
CUBES = (0.0983, 0.6065, 0.0240, 0.1924)


class Sampling(SampleAverage):
    """`sample_profile`, and `clustered_profile` where it would not see what matters."""

    name = "Monte-Carlo"

    def serves(self, problem: Problem, wanted: Names, asked: bool) -> Served:
        return wanted, True

    def seconds(self, problem: Problem, method: MonteCarlo) -> float:
        count = min(method.n_samples or DEFAULT_SAMPLES, method.max_samples)
        tokens = problem.codebook.K * (TOKEN_COST + COORDINATE_COST * problem.codebook.n)
        return count * (SAMPLE_COST + tokens)

    def run(self, task: Task) -> dict[str, Findings]:
        problem, wanted, method, key, progress = task
        found = sample_profile(*task)
        parts = {name: [(np.arange(problem.snr.size), found[name])] for name in wanted}
        expected = min(method.n_samples or DEFAULT_SAMPLES, method.max_samples)
        for clusters in clusters_of(problem, expected):
            blind = clusters.levels[_is_blind(found, clusters)]
            if blind.size == 0:
                continue
            again = (
                clustered_profile(problem.at(blind), wanted, method, key, progress, clusters.labels)
                if method.variance_reduction
                else {
                    name: dataclasses.replace(found[name].at(blind), interval_supported=False)
                    for name in wanted
                }
            )
            for name in wanted:
                parts[name].append((blind, again[name]))
        return {name: Findings.joined(problem.snr.size, parts[name]) for name in wanted}


class Clusters(NamedTuple):
    """The cluster of every token at some levels, and how large what a sample may miss is.

    The sizes are cube roots of about third moments, in the order of `STATISTICS`: of what mistakes
    between clusters add, and of what unlikely tokens do (`share`, their probability, times the cube
    of what they differ by, at most).
    """

    levels: Int[np.ndarray, " levels"]
    labels: Int[np.ndarray, " K"]
    mistakes: Float[np.ndarray, "levels 4"]
    share: float
    unlikely: Float[np.ndarray, " 4"]


def clusters_of(problem: Problem, n_samples: int) -> Iterator[Clusters]:
    """Clusters at those levels where there are any, as small as a sample allows.

    That is where a union bound over tokens of different clusters is below `SEEN` / `n_samples`:
    what is more frequent a sample sees. It must be below that also if rivals were as likely as
    their tokens: where an unlikely token is close, mistakes are rare, but what it adds comes from
    all observations and not from a few. Levels that share a partition come together.
    """
    if problem.codebook.K < 3:
        return
    tokens, h = problem.tokens, problem.h
    open_, least = np.arange(h.size), min(SEEN / n_samples, HAND_OVER)
    for labels in _partitions(tokens):
        apart = tokens._replace(labels=labels)
        known = union_guess(apart, h[open_]) < least
        if known.any():
            known[known] = _resolved(apart, h[open_[known]], min(least, AS_LIKELY))
        if known.any():
            levels = open_[known]
            back = labels[np.argsort(tokens.ids)]
            unlikely = _unlikely(problem.codebook, back)
            yield Clusters(levels, back, _sizes(apart, h[levels]), *unlikely)
        open_ = open_[~known]
        if open_.size == 0:
            return


def _resolved(tokens: Tokens, h: Float[np.ndarray, " s"], least: float) -> Bool[np.ndarray, " s"]:
    """Whether a token would be taken for its nearest rival less often, were that as likely."""
    token, _, squared = nearest_pairs(tokens)
    prior, distance = np.exp(tokens.log_prior[token]), np.sqrt(squared)
    mistakes = np.array([prior @ special.ndtr(-root * distance / 2) for root in h])
    coincident = np.array([prior @ (root * distance < CLOSE) for root in h])
    return (mistakes < least) & (coincident < COINCIDENT)


def _sizes(tokens: Tokens, h: Float[np.ndarray, " s"]) -> Float[np.ndarray, "s 4"]:
    """Roots of about the third moments of what clusters add, from the pairs of a few rows."""
    mistakes, sixth = union_guess(tokens, h), union_guess(tokens, h, 3)
    size = np.cbrt(np.stack([mistakes, mistakes, sixth, mistakes], axis=1) * CUBES)
    size[:, 2] = np.ldexp(size[:, 2], 2 * tokens.exponent)
    return size


def _unlikely(
    codebook: Codebook, labels: Int[np.ndarray, " K"]
) -> tuple[float, Float[np.ndarray, " 4"]]:
    """Probability of the unlikely tokens; how far their statistics may be from the others'."""
    prior = np.asarray(codebook.prior)
    rare = np.flatnonzero(ranks(np.asarray(codebook.log_prior)) > 0)
    if rare.size == 0:
        return 0.0, np.zeros(len(STATISTICS))
    points = np.asarray(codebook.points)
    own = (points[labels == label] for label in np.unique(labels[rare]))
    extent = max(float(np.ptp(cluster, axis=0).max()) for cluster in own)
    surprise = 1 - math.log(max(prior[rare].min(), np.finfo(float).tiny))
    return float(prior[rare].sum()), np.array([1.0, surprise, codebook.n * extent**2, 1.0])


def _partitions(tokens: Tokens) -> Iterator[Int[np.ndarray, " K"]]:
    """Partitions by single linkage at the gaps between its steps, from the finest on.

    The steps are those inside the cells of the k-d tree, so that a gap may be missed where every
    cluster fills cells of its own; tokens of different cells are linked exactly.
    """
    K = tokens.ids.size
    starts = range(0, K, CELL)
    cells = [tokens.points[start : start + CELL] for start in starts]
    trees = [hierarchy.linkage(pdist(c), "single") if len(c) > 1 else None for c in cells]
    steps = np.sort(np.concatenate([tree[:, 2] for tree in trees if tree is not None]))
    lows = np.array([cell.min(axis=0) for cell in cells])
    highs = np.array([cell.max(axis=0) for cell in cells])
    for gap in np.flatnonzero(steps[1:] > GAP * steps[:-1]):
        # Between the two, and above 0 where the smaller is 0.
        radius = max(math.sqrt(steps[gap] * steps[gap + 1]), steps[gap + 1] / 4)
        labels = np.empty(K, dtype=np.int64)
        count = 0
        for start, tree in zip(starts, trees, strict=True):
            part = np.ones(1) if tree is None else hierarchy.fcluster(tree, radius, "distance")
            labels[start : start + part.size] = count + part - 1
            count += int(part.max())
        linked = np.arange(count)  # component -> what it is part of
        for i, cell in enumerate(cells):
            apart = np.maximum(np.maximum(lows[i] - highs[:i], lows[:i] - highs[i]), 0.0)
            for j in np.flatnonzero((apart**2).sum(axis=1) <= radius**2):
                ours, theirs = (labels[k * CELL : (k + 1) * CELL] for k in (i, j))
                ends = linked[np.concatenate([ours, theirs])]
                if ends.min() == ends.max():
                    continue
                row, column = np.nonzero(cdist(cell, cells[j]) <= radius)
                for one, other in np.unique(np.stack([ours[row], theirs[column]]), axis=1).T:
                    linked[linked == linked[other]] = linked[one]
        labels = linked[labels]
        if 1 < np.unique(labels).size < K:
            yield labels


def _is_blind(found: dict[str, Findings], clusters: Clusters) -> Bool[np.ndarray, " levels"]:
    """Whether what was hardly seen may make some mean's error skew, by the spread that it shows.

    That is mistakes between clusters, and tokens that are unlikely themselves. Or whether few
    samples carry that spread.
    """
    out = np.zeros(clusters.levels.size, dtype=bool)
    for name, all_levels in found.items():
        one, column = all_levels.at(clusters.levels), STATISTICS.index(COMPLEMENTS.get(name, name))
        # The skewness of a mean of n is that of one draw over sqrt(n): size^3 / n^2 error^3.
        most = np.cbrt(SKEWNESS * one.n_samples.astype(float) ** 2) * one.standard_error
        rare = np.maximum(clusters.unlikely[column], np.abs(one.value) * (name == "mmse"))
        out |= (clusters.mistakes[:, column] > most) | (np.cbrt(clusters.share) * rare > most)
        out |= ~one.interval_supported
    return out


def clustered_profile(
    problem: Problem,
    quantities: Sequence[str],
    method: MonteCarlo,
    key: Any,
    progress: Progress | None,
    labels: Int[np.ndarray, " K"],
) -> dict[str, Findings]:
    """What `sample_profile` returns, with mistakes between clusters taken apart.

    Tokens are sampled in parts, from the likely to the unlikely: a sample of all of them would
    hardly see the latter.
    """
    codebook = problem.codebook
    settings = RareEvents(
        n_samples=MANY_DRAWS if codebook.K <= MANY_DRAWS_TOKENS else DRAWS,
        rtol=BETWEEN * method.rtol,
        max_samples=min(method.max_samples, RareEvents.max_samples),
        atol=BETWEEN * method.atol,
    )
    columns = columns_of(quantities)
    between = rare_profile(problem, columns, settings, key, progress, labels=labels)
    prior = np.asarray(codebook.prior)
    _, cluster = np.unique(labels, return_inverse=True)
    entropy = entropy_of(np.bincount(cluster, prior))
    total = {name: _between(name, between, entropy) for name in quantities}
    kinds = ranks(np.asarray(codebook.log_prior))
    alone = (np.bincount(cluster) == 1)[cluster]
    everywhere = np.arange(problem.snr.size)
    ways = []
    for rank in np.unique(kinds):
        ids = np.flatnonzero(kinds == rank)
        share = float(prior[ids].sum())
        if share == 0 or alone[ids].all():  # nothing counts, or nothing is in doubt
            if "accuracy" in total:
                found = total["accuracy"]
                total["accuracy"] = dataclasses.replace(found, value=found.value + share)
            continue
        chosen = method
        if rank > 0 and not method.has_target:
            count = max((method.n_samples or DEFAULT_SAMPLES) // FEWER, 2**10)
            chosen = dataclasses.replace(method, n_samples=count)
        tokens = PointCodebook(
            problem.points[ids],
            None if np.ptp(prior[ids]) == 0 else prior[ids] / share,
            allow_duplicates=True,
        )
        subkey = int(generator(key, PARTS, int(rank)).integers(2**63))
        part = Part(problem, labels, ids, share, {name: one.value for name, one in total.items()})
        own = Problem(tokens, problem.snr, problem.exponent)
        sampled = sample_profile(own, quantities, chosen, subkey, progress, part)
        ways.append((everywhere, sampled[quantities[0]].method))
        total = {name: one.plus(sampled[name], share) for name, one in total.items()}
    ways.append((everywhere, Ways.of("rare-event sampling between clusters")))
    how = Ways.joined(everywhere.size, ways)
    return {name: dataclasses.replace(one, method=how) for name, one in total.items()}


def _between(name: str, between: dict[str, Findings], entropy: float) -> Findings:
    """What clusters add to a quantity; `entropy` is that of the cluster."""
    found = between[COMPLEMENTS.get(name, name)]
    if name in COMPLEMENTS:
        whole = entropy if name == "mutual_information" else 0.0
        found = found.complement(whole, 4 * EPS * whole)
    return dataclasses.replace(found, note="")  # targets are for the sum
