"""Neighbour lists: which pairs of tokens can matter, until the tokens have moved too far."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from tokenkl.numerics.neighbours import TREE_DIMENSIONS, nearest_distances

#: Up to this many tokens every pair is listed.
ALL_PAIRS = 160
#: Lists reach this much farther than what they have to.
SKIN = 0.25
#: Distances in one block.
BLOCK = 2**22


class NeighbourLists:
    """Pairs of tokens as sparse rows, with every pair that can be nearest after small moves.

    - `first`: (K + 1,), `others`: (pairs,); neighbours of k are others[first[k] : first[k + 1]].

    A list of token k reaches to R_k, its nearest distance r_k plus the skin's part of r_k, or of
    the mean of all where that is more. What is not on it is at least R_k - m_k - max m away once
    every token j has moved by m_j, so that the nearest listed distance is the nearest of all while
    it is at most that: `holds`. Built from a k-d tree in few dimensions, from blocks of matrix
    products in more.
    """

    def __init__(self, points: Float[np.ndarray, "K n"], skin: float = SKIN) -> None:
        self.skin = skin
        self.builds = 0
        self.first: Int[np.ndarray, " rows"]
        self.others: Int[np.ndarray, " pairs"]
        self.rebuild(points)

    def rebuild(self, points: Float[np.ndarray, "K n"]) -> None:
        """List the neighbours where the tokens are now."""
        K, n = points.shape
        self.builds += 1
        self.origin = points.copy()
        if K <= ALL_PAIRS:
            if self.builds == 1:
                self.first = np.arange(K + 1, dtype=np.int64) * (K - 1)
                rows = np.arange(K)
                self.others = np.array([rows[rows != k] for k in range(K)], dtype=np.int64).ravel()
            self.reach = np.full(K, np.inf)
            return
        if n <= TREE_DIMENSIONS // 2:
            nearest = nearest_distances(points)
            self.reach = nearest + self.skin * np.maximum(nearest, nearest.mean())
            found = cKDTree(points).query_ball_point(points, self.reach)
            counts = np.array([len(row) for row in found])
            others = np.concatenate([np.asarray(row, dtype=np.int64) for row in found])
            rows = np.repeat(np.arange(K), counts)
        else:
            rows, others = self._by_blocks(points)
        other = rows != others
        rows, self.others = rows[other], others[other]
        self.first = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=K))])

    def _by_blocks(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs within the reach, which is set from the nearest distances of the same products."""
        K = len(points)
        centred = (points - points.mean(axis=0)).astype(np.float32)
        norms = np.square(centred).sum(axis=1)
        # Single precision: lists may be a little too long, never too short.
        slack = 64 * float(np.finfo(np.float32).eps) * float(norms.max())
        self.reach = np.empty(K)
        parts = []
        for start in range(0, K, rows := max(1, BLOCK // K)):
            stop = min(start + rows, K)
            squares = centred[start:stop] @ centred.T
            squares *= -2
            squares += norms
            squares += norms[start:stop, None]
            own = np.arange(stop - start)
            squares[own, own + start] = np.inf
            nearest = np.sqrt(np.maximum(squares.min(axis=1), 0.0).astype(np.float64))
            if start == 0:  # about the mean of all
                mean = nearest.mean()
            reach = nearest + self.skin * np.maximum(nearest, mean)
            self.reach[start:stop] = reach
            limit = (np.square(reach) + slack).astype(np.float32)
            row, column = np.nonzero(squares <= limit[:, None])
            parts.append((row + start, column))
        return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])

    def holds(self, points: Float[np.ndarray, "K n"], radii: Float[np.ndarray, " K"]) -> bool:
        """Whether nearest listed distances are those of all pairs, where the tokens are now."""
        if np.isinf(self.reach[0]):
            return True
        moved = np.sqrt(np.square(points - self.origin).sum(axis=1))
        return bool((radii <= self.reach - moved - moved.max()).all())
