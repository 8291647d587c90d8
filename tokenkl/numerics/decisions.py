"""Which token is the most probable one, exactly: on a line, and among points without structure.

Given Y = h e_k + eps the decision maximises log pi_k - |y - h e_k|^2 / 2. On a line thresholds do;
points are searched by a k-d tree in few dimensions, and otherwise by matrix products in single
precision, whose rounding is bounded: every token within that bound of the best one is looked at
again, by differences in double precision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from tokenkl.numerics.neighbours import TREE_DIMENSIONS

#: Numbers in one block of logits (8 MiB in single precision), and tokens in one segment of it.
BLOCK, SEGMENT = 2**21, 512
#: Most noise levels for which trees or thresholds are built; beyond, every pair is looked at.
MAX_LEVELS = 64
EPS = float(np.finfo(float).eps)


# ---- Grids ------------------------------------------------------------------------------------


def on_a_line(
    levels: Float[np.ndarray, " L"],
    log_prior: Float[np.ndarray, " L"],
    y: Float[np.ndarray, " rows"],
    h: Float[np.ndarray, " rows"],
) -> Int[np.ndarray, " rows"]:
    """The best level for each observation y = h e + eps of one coordinate."""
    out = np.full(y.size, log_prior.argmax())  # what is left where there is no signal
    seen = np.flatnonzero(h > 0)
    unique = np.unique(h[seen])
    groups: list[tuple[np.ndarray, Any]]
    if np.ptp(log_prior) == 0:
        groups = [(seen, h[seen])]
    elif unique.size <= MAX_LEVELS:
        groups = [(np.flatnonzero(h == root), root) for root in unique]
    else:
        out[seen] = _line_by_pairs(levels, log_prior, y[seen], h[seen])
        return out
    for rows, root in groups:
        owners = _owners(levels, log_prior, root)
        u, bias = levels[owners], log_prior[owners]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            middles = (u[1:] + u[:-1]) / 2
            if np.ndim(root) == 0 and owners.size > 1:
                middles = middles + (bias[:-1] - bias[1:]) / (u[1:] - u[:-1]) / root**2
            found = np.searchsorted(middles, y[rows] / root) if owners.size > 1 else 0
        found = np.broadcast_to(found, rows.shape)
        # A threshold is rounded: the two levels next to it are compared again, by differences.
        best = owners[found]
        for shift in (-1, 1):
            rival = owners[np.clip(found + shift, 0, owners.size - 1)]
            gain = _gain(levels, log_prior, y[rows], root, best, rival)
            best = np.where((gain > 0) | ((gain == 0) & (rival < best)), rival, best)
        out[rows] = best
    return out


def _gain(levels: Any, log_prior: Any, y: Any, h: Any, k: Any, j: Any) -> Any:
    """Logit of level j less that of level k, from differences."""
    step = levels[j] - levels[k]
    return h * step * (y - h * (levels[k] + step / 2)) + (log_prior[j] - log_prior[k])


def _owners(
    levels: Float[np.ndarray, " L"], log_prior: Float[np.ndarray, " L"], h: Any
) -> Int[np.ndarray, " owners"]:
    """Levels that win somewhere, in increasing order: the upper envelope of the logits in y."""
    rank = np.argsort(levels)
    if np.ptp(log_prior) == 0:  # equal priors: all of them
        return rank
    kept: list[int] = []
    ends: list[float] = []  # where each kept level begins to win
    for level in rank:
        while True:
            start = -math.inf
            if kept:
                last = kept[-1]
                gap = levels[level] - levels[last]
                middle = (levels[level] + levels[last]) / 2
                start = h * middle + (log_prior[last] - log_prior[level]) / (h * gap)
            if not kept or start > ends[-1]:
                break
            kept.pop()
            ends.pop()
        kept.append(int(level))
        ends.append(start)
    return np.array(kept)


def _line_by_pairs(levels: Any, log_prior: Any, y: Any, h: Any) -> Int[np.ndarray, " rows"]:
    """Every level at every observation, relative to the nearest one."""
    out = np.empty(y.size, dtype=np.int64)
    step = max(1, BLOCK // levels.size)
    every = np.arange(levels.size)
    for start in range(0, y.size, step):
        rows = slice(start, start + step)
        root = h[rows, None]
        near = np.abs(y[rows, None] - root * levels).argmin(axis=1)
        gain = _gain(levels, log_prior, y[rows, None], root, near[:, None], every)
        out[rows] = gain.argmax(axis=1)
    return out


# ---- Points without structure -----------------------------------------------------------------


def among_points(
    points: Float[np.ndarray, "K n"],
    log_prior: Float[np.ndarray, " K"] | None,
    y: Float[np.ndarray, "rows n"],
    h: Float[np.ndarray, " rows"],
) -> Int[np.ndarray, " rows"]:
    """The best point for each observation; `log_prior` None stands for equal priors."""
    seen = h > 0
    if not seen.all():  # without a signal the prior decides
        out = np.full(h.size, 0 if log_prior is None else log_prior.argmax())
        if seen.any():
            out[seen] = among_points(points, log_prior, y[seen], h[seen])
        return out
    centre = points.mean(axis=0)
    dimensions = points.shape[1] + (log_prior is not None)
    unique = np.unique(h) if dimensions <= TREE_DIMENSIONS else h
    if dimensions > TREE_DIMENSIONS or unique.size > MAX_LEVELS or points.shape[0] < 64:
        return _by_products(points, log_prior, centre, y, h)
    out = np.empty(h.size, dtype=np.int64)
    for root in unique:  # a tree for each
        rows = np.flatnonzero(h == root)
        out[rows] = _by_tree(points, log_prior, centre, y[rows], float(root))
    return out


def _by_tree(
    points: Float[np.ndarray, "K n"],
    log_prior: Float[np.ndarray, " K"] | None,
    centre: Float[np.ndarray, " n"],
    y: Float[np.ndarray, "rows n"],
    h: float,
) -> Int[np.ndarray, " rows"]:
    """Nearest neighbours; the prior is one more coordinate, sqrt(2 max log pi - 2 log pi_k).

    Where a second token is as near, to rounding, every token is looked at.
    """
    where, tokens = y - h * centre, h * (points - centre)
    if log_prior is not None:
        lift = np.sqrt(2 * (log_prior.max() - log_prior))
        tokens = np.concatenate([tokens, lift[:, None]], axis=1)
        where = np.concatenate([where, np.zeros((where.shape[0], 1))], axis=1)
    unit = _unit(max(np.abs(tokens).max(), np.abs(where).max()))  # no square of it overflows
    where, tokens = where / unit, tokens / unit
    distance, found = cKDTree(tokens).query(where, k=2)
    best = found[:, 0].astype(np.int64)
    # Distances of size d come from coordinates of size d + |token|, each rounded a few times.
    size = distance[:, 1] + np.abs(tokens).max() + np.abs(h * centre).max() / unit
    close = distance[:, 1] - distance[:, 0] <= 32 * EPS * size * math.sqrt(tokens.shape[1])
    if close.any():
        roots = np.full(int(close.sum()), h)
        best[close] = _by_products(points, log_prior, centre, y[close], roots)
    return best


def _unit(size: Any) -> Any:
    """A power of two that is about the size where that is above 1: to divide by it is exact."""
    return np.ldexp(1.0, np.frexp(np.maximum(size, 1.0))[1] - 1)


def _by_products(
    points: Float[np.ndarray, "K n"],
    log_prior: Float[np.ndarray, " K"] | None,
    centre: Float[np.ndarray, " n"],
    y: Float[np.ndarray, "rows n"],
    h: Float[np.ndarray, " rows"],
) -> Int[np.ndarray, " rows"]:
    """All logits as matrix products, and those near the best one again by differences.

    With z = y - h c and f_k = e_k - c the logit is h <z, f_k> - h^2 |f_k|^2/2 + log pi_k, up to
    terms without k: one product of n + 2 numbers. Rounding factors and products to single precision
    costs at most (n + 8) u times the sum of the absolute values of the terms (Higham, Accuracy and
    Stability of Numerical Algorithms, section 3.1), which h |z| |f| + h^2 |f|^2/2 + |log pi| bounds
    with the largest of each. Two logits that are farther apart than twice that are in their order;
    eps = 2 u.
    """
    K, n = points.shape
    f = points - centre
    # Powers of two keep every bit: tokens of size 1.
    _, exponent = math.frexp(float(np.abs(f).max()) or 1.0)
    f = np.ldexp(f, -exponent)
    norms = np.einsum("kn,kn->k", f, f)
    radius = math.sqrt(float(norms.max()))
    odds = np.zeros(K) if log_prior is None else log_prior - log_prior.max()
    table = np.concatenate([f, norms[:, None] / -2, odds[:, None]], axis=1)
    # Whole segments: the last token fills up.
    table = np.concatenate([table, np.repeat(table[-1:], -K % SEGMENT, axis=0)])
    table32 = np.ascontiguousarray(table.T, dtype=np.float32)
    out = np.empty(h.size, dtype=np.int64)
    step = max(1, BLOCK // table.shape[0])
    root = np.ldexp(h, exponent)
    for start in range(0, h.size, step):
        rows = slice(start, start + step)
        r = root[rows, None]
        # In units of what squares would overflow.
        unit = _unit(r)
        r, along = r / unit, (y[rows] - h[rows, None] * centre) / unit * (r / unit)
        left = np.concatenate([along, r**2, (odds.min() < 0) / unit / unit], axis=1)
        # Each row in units of what bounds its terms.
        size = np.linalg.norm(along, axis=1) * radius + r[:, 0] ** 2 * radius**2 / 2
        size -= odds.min() / unit[:, 0] / unit[:, 0]
        size = np.where(size > 0, size, 1.0)
        logits = (left / size[:, None]).astype(np.float32) @ table32
        # The largest of each segment first: few segments come near the largest of all.
        segments = logits.reshape(logits.shape[0], -1, SEGMENT)
        tops = segments.max(axis=2)
        limit = tops.max(axis=1) - np.float32((n + 12) * np.finfo(np.float32).eps)
        row, segment = np.nonzero(tops >= limit[:, None])
        place, column = np.nonzero(segments[row, segment] >= limit[row, None])
        row, column = row[place], np.minimum(segment[place] * SEGMENT + column, K - 1)
        out[rows] = _best_of(points, odds, y[rows], h[rows], row, column)
    return out


def _best_of(
    points: Float[np.ndarray, "K n"],
    odds: Float[np.ndarray, " K"],
    y: Float[np.ndarray, "rows n"],
    h: Float[np.ndarray, " rows"],
    row: Int[np.ndarray, " pairs"],
    column: Int[np.ndarray, " pairs"],
) -> Int[np.ndarray, " rows"]:
    """Of the pairs (row, column) that are left the best column of each row, the first of equals."""
    if row.size == h.size:
        return column.astype(np.int64)
    starts = np.searchsorted(row, np.arange(h.size))
    near = column[starts]
    gain = np.empty(row.size)
    unit = _unit(h * np.abs(points).max())  # one for all gains of a row
    step = max(1, BLOCK // points.shape[1])
    for first in range(0, row.size, step):
        some = slice(first, first + step)
        i, j, k = row[some], column[some], near[row[some]]
        gap = points[j] - points[k]
        # To the first token k that is left in the row.
        away = y[i] - h[i, None] * (points[k] + gap / 2)
        along = np.einsum("pn,pn->p", gap, away / unit[i, None])
        gain[some] = h[i] / unit[i] * along + (odds[j] - odds[k]) / unit[i] / unit[i]
    top = np.maximum.reduceat(gain, starts)
    winners = np.flatnonzero(gain == top[row])
    _, one = np.unique(row[winners], return_index=True)
    return column[winners[one]].astype(np.int64)
