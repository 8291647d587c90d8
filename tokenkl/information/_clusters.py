"""Clusters: tokens that are confused with each other, and hardly ever with those of other clusters.

Tokens of one cluster make the posterior noisy in every sample; a mistake between clusters may be so
rare that a sample never sees one, and yet be most of an estimate's error. No average of such a
sample tells. So the two are taken apart by the chain rule,

    H(k|Y) = H(k|Y, C) + H(C|Y),        C the cluster of the token,

and likewise for the variance and the error (statement S8 of docs/theory/sampling.md): the first
part is sampled as ever, from posteriors that know the cluster, the second by `_rare`, in which
tokens of one cluster are no rivals. Whether there are clusters at a noise level is decided from the
geometry, before anything is drawn, so that no estimate is biased by it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.cluster import hierarchy
from scipy.sparse import csgraph
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


def by_clusters(
    codebook: Codebook, snr: Float[np.ndarray, " s"], n_samples: int
) -> list[tuple[Int[np.ndarray, " levels"], Int[np.ndarray, " K"] | None]]:
    """The levels that share a partition, and the cluster of every token there.

    None stands for no partition: at these levels a sample sees all that matters. At the others
    clusters are as small as can be while a union bound over tokens of different ones is below
    `SEEN` / `n_samples`.
    """
    snr = np.asarray(snr, dtype=float)
    choice = np.full(snr.size, -1)
    found: list[Int[np.ndarray, " K"]] = []
    if codebook.K > 2:
        tokens = make_tokens(codebook)
        h = np.ldexp(np.sqrt(snr), tokens.exponent)
        most = min(SEEN / n_samples, HAND_OVER)
        for labels in _partitions(tokens):
            open_ = np.flatnonzero(choice < 0)
            if open_.size == 0:
                break
            guess = union_guess(tokens._replace(labels=labels), h[open_])
            choice[open_[guess < most]] = len(found)
            found.append(labels)
        back = np.argsort(tokens.ids)
        found = [labels[back] for labels in found]
    groups = [(np.flatnonzero(choice == index), found[index]) for index in range(len(found))]
    return [(np.flatnonzero(choice < 0), None), *groups]


def _partitions(tokens: Tokens) -> Any:
    """Partitions by single linkage at the gaps between its steps, from the finest on.

    The steps are those inside the cells of the k-d tree, so that a gap may be missed where every
    cluster fills cells of its own; tokens of different cells are linked exactly.
    """
    K = tokens.ids.size
    starts = range(0, K, CELL)
    cells = [tokens.points[start : start + CELL] for start in starts]
    trees = [hierarchy.linkage(pdist(c), "single") if len(c) > 1 else None for c in cells]
    steps = np.sort(np.concatenate([tree[:, 2] for tree in trees if tree is not None]))
    gaps = np.flatnonzero(steps[1:] > GAP * steps[:-1])
    lows = np.array([cell.min(axis=0) for cell in cells])
    highs = np.array([cell.max(axis=0) for cell in cells])
    for gap in gaps:
        # Between the two, and above 0 where the smaller is 0.
        radius = max(np.sqrt(steps[gap] * steps[gap + 1]), steps[gap + 1] / 4)
        labels = np.empty(K, dtype=np.int64)
        count = 0
        for start, tree in zip(starts, trees, strict=True):
            part = np.ones(1) if tree is None else hierarchy.fcluster(tree, radius, "distance")
            labels[start : start + part.size] = count + part - 1
            count += int(part.max())
        links = []
        for i, cell in enumerate(cells):
            apart = np.maximum(np.maximum(lows[i] - highs[:i], lows[:i] - highs[i]), 0.0)
            for j in np.flatnonzero((apart**2).sum(axis=1) <= radius**2):
                row, column = np.nonzero(cdist(cell, cells[j]) <= radius)
                links.append(np.stack([labels[i * CELL + row], labels[j * CELL + column]]))
        if links:
            ends = np.unique(np.concatenate(links, axis=1), axis=1)
            graph = sparse.coo_array((np.ones(ends.shape[1]), ends), (count, count))
            labels = csgraph.connected_components(graph, directed=False)[1][labels]
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
