"""Nearest neighbours of arrays of points, exact to rounding, and orders that keep them together."""

from __future__ import annotations

import functools
import math
import threading
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from tokenkl.numerics.threads import share_out

#: Up to this dimension a k-d tree is the faster way (measured on 65536 Gaussian points with two
#: threads: 0.8 s against 5 s at n = 8, equal at about n = 9, 10 s against 6 s at n = 12).
TREE_DIMENSIONS = 9

#: Points that a thread looks for in a tree at a time.
TREE_ROWS = 4096

#: Rows and columns of a block of distances (no more rows): 8 MiB in float32 stay in the cache.
BLOCK_ROWS, BLOCK_COLUMNS = 512, 4096

#: Two arrays, such as indices of tokens and of others.
Pairs = tuple[np.ndarray, np.ndarray]

#: Numbers held at once when distances are recomputed by differences (32 MiB).
CHUNK_ELEMENTS = 2**22


def nearest_distances(points: Float[np.ndarray, "K n"]) -> Float[np.ndarray, " K"]:
    """Distance of every point to the nearest other point; 0 for a point that occurs twice.

    Exact: every returned distance is a sum of squared coordinate differences, relative error about
    n times the rounding unit, at any offset from the origin. K must be at least 2.
    """
    points = np.asarray(points, dtype=np.float64)
    K, n = points.shape
    centred = points - points.mean(axis=0)
    size = float(np.abs(centred).max())
    if size == 0:
        return np.zeros(K)
    # A power of two keeps every bit, and keeps squares from overflowing or underflowing.
    _, exponent = math.frexp(size)
    points, centred = np.ldexp(points, -exponent), np.ldexp(centred, -exponent)
    if n <= TREE_DIMENSIONS:
        tree, nearest = cKDTree(points), np.empty(K)

        def find(part: slice) -> None:
            nearest[part] = tree.query(points[part], k=2)[0][:, 1]

        # Not by the tree's own threads, which outlive a Ctrl-C, and then crash on freed arrays.
        share_out(find, K, TREE_ROWS)
    else:
        nearest = np.sqrt(_smallest_squares(points, centred))
    return np.ldexp(nearest, exponent)


def _smallest_squares(
    points: Float[np.ndarray, "K n"], centred: Float[np.ndarray, "K n"]
) -> Float[np.ndarray, " K"]:
    """Smallest squared distance of every point, by matrix products and exact refinement.

    A block of |x|^2 + |y|^2 - 2 x.y is one matrix product, but cancels badly. So the product is
    lowered by a bound on its error, which makes it a true lower bound on the squared distance;
    `best` holds squared distances computed by differences, which are upper bounds on the minimum.
    A pair whose lower bound exceeds `best` cannot be nearest; every other pair is recomputed.

    The error bound: the product has n + 2 terms whose absolute values sum to at most
    2 (|x|^2 + |y|^2), so rounding it costs at most 2 (n + 2) u (|x|^2 + |y|^2) in any order of
    summation (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); rounding the
    inputs to u and centring them costs at most 8 u (|x|^2 + |y|^2) more.
    """
    K, n = points.shape
    norms = np.einsum("kn,kn->k", centred, centred)
    best = np.full(K, np.inf)
    # What differences and their squares may round by.
    slack = 1 + (n + 4) * np.finfo(float).eps
    made = functools.cache(lambda dtype: _lower_bound_factors(centred, norms, dtype))
    one_at_a_time = threading.Lock()  # where `best` changes; it may be read at any time

    def factors(dtype: Any) -> Pairs:
        with one_at_a_time:  # large, and made once
            return made(dtype)

    def settle(i: np.ndarray, j: np.ndarray) -> None:
        """Pairs, by differences."""
        step = max(1, CHUNK_ELEMENTS // n)
        for part in (slice(first, first + step) for first in range(0, i.size, step)):
            squares = squared_distances(points, i[part], j[part])
            with one_at_a_time:
                np.minimum.at(best, i[part], squares)
                np.minimum.at(best, j[part], squares)

    def limits(tokens: np.ndarray, dtype: Any) -> np.ndarray:
        return np.nextafter((best[tokens] * slack).astype(dtype), dtype(np.inf))

    def open_pairs(lower: np.ndarray, axis: int, tokens: np.ndarray, others: np.ndarray) -> Pairs:
        """Pairs of the tokens along an axis, and others, that may be nearer than what is known."""
        dtype = lower.dtype.type
        smallest = lower.min(axis=1 - axis)
        near = np.flatnonzero((smallest <= limits(tokens, dtype)) & (smallest < np.inf))
        lower = lower.take(near, axis)
        # The most likely ones first, so that few others are left.
        settle(tokens[near], others[lower.argmin(axis=1 - axis)])
        limit = np.expand_dims(limits(tokens[near], dtype), 1 - axis)
        pairs = np.nonzero(lower <= limit)
        return tokens[near[pairs[axis]]], others[pairs[1 - axis]]

    def refine(rows: slice) -> None:
        # Every pair once: blocks to the right of the diagonal, for their rows and their columns.
        for start in range(rows.start, K, BLOCK_COLUMNS):
            columns = slice(start, start + BLOCK_COLUMNS)
            i, j = np.arange(K)[rows], np.arange(K)[columns]
            # Single precision is twice as fast; where it leaves many pairs open, as in tight
            # clusters, double precision settles most of them.
            for dtype in (np.float32, np.float64):
                left, right = factors(dtype)
                lower = left[rows] @ right[:, columns]
                if start == rows.start:
                    np.fill_diagonal(lower, np.inf)
                found = open_pairs(lower, 0, i, j), open_pairs(lower, 1, j, i)
                count = sum(pairs[0].size for pairs in found)
                if 64 * count <= lower.size:  # by differences they cost less than another product
                    break
            if 4 * count > lower.size:  # nearly all tie, as in a simplex: take them all
                squares = cdist(points[rows], points[columns], "sqeuclidean")
                if start == rows.start:
                    np.fill_diagonal(squares, np.inf)
                with one_at_a_time:
                    np.minimum(best[rows], squares.min(axis=1), out=best[rows])
                    np.minimum(best[columns], squares.min(axis=0), out=best[columns])
            else:
                for pairs in found:
                    settle(*pairs)

    # Threads share out the rows, and every matrix product stays on one of them: products this small
    # lose more to waiting for each other than they gain. What is settled first depends on them,
    # the minimum does not: the nearest pair is settled whenever it comes.
    with threadpool_limits(1, "blas"):
        share_out(refine, K, BLOCK_ROWS)
    return best


def _lower_bound_factors(
    centred: Float[np.ndarray, "K n"], norms: Float[np.ndarray, " K"], dtype: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices whose product is at most the squared distances, rounding included."""
    K, n = centred.shape
    info = np.finfo(dtype)
    # eps is twice the rounding unit; the last term covers squares that underflow.
    lowered = norms * (1 - (n + 12) * info.eps) - 4 * n * info.tiny
    ones = np.ones((K, 1))
    left = np.concatenate([-2 * centred, lowered[:, None], ones], axis=1).astype(dtype)
    right = np.concatenate([centred, ones, lowered[:, None]], axis=1).astype(dtype)
    return left, np.ascontiguousarray(right.T)


def squared_distances(points: Float[np.ndarray, "K n"], i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Squared distances of these pairs, by differences."""
    difference = points[i] - points[j]
    return np.einsum("pn,pn->p", difference, difference)


def nearest(points: Float[np.ndarray, "K n"], count: int) -> Int[np.ndarray, "K count"]:
    """The `count` nearest other points of every point, nearest first."""
    K, n = points.shape
    if count < 1:
        return np.zeros((K, 0), dtype=np.int64)
    if K > 1024 and n <= TREE_DIMENSIONS:
        return nearest_by_tree(points, count)
    found = np.empty((K, count), dtype=np.int64)
    rows = max(1, CHUNK_ELEMENTS // 2 // K)
    for start in range(0, K, rows):
        own = np.arange(start, min(K, start + rows))
        squared = cdist(points[own], points, "sqeuclidean")
        squared[np.arange(own.size), own] = np.inf
        part = np.argpartition(squared, count - 1, axis=1)[:, :count]
        order = np.argsort(np.take_along_axis(squared, part, axis=1), axis=1)
        found[own] = np.take_along_axis(part, order, axis=1)
    return found


def nearest_by_tree(points: Float[np.ndarray, "K n"], count: int) -> Int[np.ndarray, "K count"]:
    """The `count` nearest other points of every point, nearest first, by a k-d tree."""
    K = len(points)
    found = cKDTree(points).query(points, k=count + 1)[1]
    # With equal points, or by rounding, the point itself need not come first, nor at all.
    own = found == np.arange(K)[:, None]
    own[~own.any(axis=1), -1] = True
    return np.asarray(found[~own].reshape(K, count))


def level_gaps(levels: Float[np.ndarray, " L"]) -> Float[np.ndarray, " L"]:
    """Distance of every level to the nearest other level; infinite for a single level."""
    levels = np.asarray(levels, dtype=np.float64)
    rank = np.argsort(levels)
    steps = np.concatenate([[np.inf], np.diff(levels[rank]), [np.inf]])
    gaps = np.empty(levels.size)
    gaps[rank] = np.minimum(steps[1:], steps[:-1])
    return gaps


def neighbourly(points: Float[np.ndarray, "K n"], size: int) -> Int[np.ndarray, " K"]:
    """An order of the tokens in which every tile of `size` is a compact cell of a k-d tree."""
    order = np.arange(len(points))
    cells = [(0, len(points))]
    while cells:
        start, stop = cells.pop()
        if stop - start > size:
            cell = points[order[start:stop]]
            along = cell[:, np.argmax(np.ptp(cell, axis=0))]
            order[start:stop] = order[start:stop][np.argsort(along, kind="stable")]
            middle = start + -(-(stop - start) // (2 * size)) * size
            cells += [(start, middle), (middle, stop)]
    return order
