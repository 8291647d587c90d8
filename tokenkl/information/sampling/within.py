"""Posteriors that know the cluster of the token: the kernel on one cluster at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int


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
        self.tables = []
        #: Of every token in its cluster.
        self.log_prior = np.empty(self.labels.size)
        #: Largest squared distance of a token from the middle of its cluster.
        self.radius = 0.0
        for ids in members:
            self.place[ids] = np.arange(ids.size)
            largest = log_prior[ids].max()
            weight = largest + np.log(np.exp(log_prior[ids] - largest).sum())
            self.log_prior[ids] = log_prior[ids] - weight
            centred = points[ids] - points[ids].mean(axis=0)
            self.radius = max(self.radius, float((centred**2).sum(axis=1).max()))
            self.tables.append(lay_out(centred, self.log_prior[ids]))

    def statistics(
        self, block_statistics: Any, ids: np.ndarray, noise: np.ndarray, h: np.ndarray, *how: Any
    ) -> Float[np.ndarray, "levels statistics samples"]:
        """`block_statistics` of every sample in the cluster of its token."""
        clusters = self.labels[ids]
        order = np.argsort(clusters, kind="stable")
        ends = np.flatnonzero(np.diff(clusters[order])) + 1
        found = []
        for part in np.split(order, ends):
            table = self.tables[clusters[part[0]]]
            found.append(block_statistics(table, self.place[ids[part]], noise[part], h, *how))
        sorted_ = np.concatenate(found, axis=-1)
        out = np.empty_like(sorted_)
        out[:, :, order] = sorted_
        return out
