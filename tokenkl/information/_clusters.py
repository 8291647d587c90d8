"""Clusters: tokens that are confused with each other, and hardly ever with those of other clusters.

Tokens of one cluster make the posterior noisy in every sample; a mistake between clusters may be so
rare that a sample never sees one, and yet be most of an estimate's error. No average of such a
sample tells. So the two are taken apart by the chain rule,

    H(k|Y) = H(k|Y, C) + H(C|Y),        C the cluster of the token,

and likewise for the variance and the error (statement S8 of docs/theory/sampling.md): the first
part is sampled as ever, from posteriors that know the cluster, the second by `_rare`, in which
tokens of one cluster are no rivals. That is done where a union bound over tokens of different
clusters leaves room for mistakes that would make the sampling error skew, measured by the spread
that the sample shows: there its interval is not to be trusted, whatever else it shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster import hierarchy
from scipy.spatial.distance import cdist, pdist

from tokenkl.codebooks.base import Codebook
from tokenkl.information._halfspaces import CELL, Tokens, make_tokens
from tokenkl.information._rare import HAND_OVER, union_guess

#: A gap between clusters is at least this many times the longest step within one. Points without
#: clusters show such gaps too, but among the few nearest or most remote of them only.
GAP = 1.5
#: Mistakes that a sample is to see if they are left to it. What the union bound has for the
#: clusters is at most this, divided by the number of samples.
SEEN = 200
#: Largest skewness of a mean that mistakes between clusters may add.
SKEWNESS = 0.1
#: Mean cube of what a mistake adds, to the error, to the entropy and, over the sixth power of the
#: distance, to the variance, for each mistake: with p = 1/(1 + exp(v)) the integrals over v > 0 of
#: min(p, 1-p)^3, of the binary entropy cubed and of (p(1-p))^3, over that of min(p, 1-p), log 2.
CUBES = (0.0983, 0.488, 0.0241)


class Clusters(NamedTuple):
    """The cluster of every token at some levels, and how large what clusters add is.

    The sizes are roots of third moments, as of the error, the entropy and the variance.
    """

    levels: Int[np.ndarray, " levels"]
    labels: Int[np.ndarray, " K"]
    size: Float[np.ndarray, "levels 3"]


def clusters_of(
    codebook: Codebook, snr: Float[np.ndarray, " s"], n_samples: int
) -> Iterator[Clusters]:
    """Clusters at those levels where there are any, as small as a sample allows.

    That is where a union bound over tokens of different clusters is below `SEEN` / `n_samples`:
    what is more frequent a sample sees. Levels that share a partition come together.
    """
    if codebook.K < 3:
        return
    tokens = make_tokens(codebook)
    h = np.ldexp(np.sqrt(np.asarray(snr, dtype=float)), tokens.exponent)
    open_ = np.arange(h.size)
    for labels in _partitions(tokens):
        apart = tokens._replace(labels=labels)
        known = union_guess(apart, h[open_]) < min(SEEN / n_samples, HAND_OVER)
        if known.any():
            levels = open_[known]
            yield Clusters(levels, labels[np.argsort(tokens.ids)], _sizes(apart, h[levels]))
        open_ = open_[~known]
        if open_.size == 0:
            return


def _sizes(tokens: Tokens, h: Float[np.ndarray, " s"]) -> Float[np.ndarray, "s 3"]:
    """Roots of about the third moments of what clusters add, from the pairs of a few rows."""
    mistakes, sixth = union_guess(tokens, h), union_guess(tokens, h, 3)
    size = np.cbrt(np.stack([mistakes, mistakes, sixth], axis=1) * CUBES)
    size[:, 2] = np.ldexp(size[:, 2], 2 * tokens.exponent)
    return size


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


class Within:
    """What the kernel needs of every cluster, for posteriors that know the cluster."""

    def __init__(
        self,
        lay_out: Any,
        points: Float[np.ndarray, "K n"],
        log_prior: Float[np.ndarray, " K"],
        labels: Int[np.ndarray, " K"],
    ) -> None:
        _, self.labels = np.unique(labels, return_inverse=True)
        members = np.split(
            np.argsort(self.labels, kind="stable"), np.cumsum(np.bincount(self.labels))[:-1]
        )
        self.place = np.empty(self.labels.size, dtype=np.int64)
        #: Logarithm of the probability of every token's cluster.
        self.log_cluster = np.empty(self.labels.size)
        self.tables = []
        #: Largest squared distance of a token from the middle of its cluster.
        self.radius = 0.0
        for ids in members:
            self.place[ids] = np.arange(ids.size)
            largest = log_prior[ids].max()
            weight = largest + np.log(np.exp(log_prior[ids] - largest).sum())
            self.log_cluster[ids] = weight
            centred = points[ids] - points[ids].mean(axis=0)
            self.radius = max(self.radius, float((centred**2).sum(axis=1).max()))
            self.tables.append(lay_out(centred, log_prior[ids] - weight))

    def statistics(
        self, block_statistics: Any, ids: np.ndarray, noise: np.ndarray, h: np.ndarray, *how: Any
    ) -> Float[np.ndarray, "levels statistics samples"]:
        """`block_statistics` of every sample in the cluster of its token."""
        clusters = self.labels[ids]
        order = np.argsort(clusters, kind="stable")
        ends = np.flatnonzero(np.diff(clusters[order])) + 1
        out = np.empty((h.size, 4, ids.size))
        for part in np.split(order, ends):
            table = self.tables[clusters[part[0]]]
            out[:, :, part] = block_statistics(table, self.place[ids[part]], noise[part], h, *how)
        return out

    def entropy(self, prior: Float[np.ndarray, " K"]) -> float:
        """Entropy of the cluster, in nats."""
        return float(-(prior @ self.log_cluster))
