"""Sums over all pairs of tokens, compiled: what two tokens at a time say about errors.

For tokens k, j at distance d with h d = a, l = log(pi_k / pi_j) and x ~ N(0, 1) along the line
between them, centred at the midpoint, the log-odds of k are v = a x + l and

    pi_k f_k + pi_j f_j = sqrt(pi_k pi_j) exp(-a^2/8) phi(x) 2 cosh(v/2).

So their error probability, entropy and variance, as if no other token existed, are

    sqrt(pi_k pi_j) exp(-a^2/8) E kappa(a x + l),   kappa = exp(-|v|/2), 2 cosh(v/2) h_b(v),
                                                          d^2 / (2 cosh(v/2)),

with h_b the entropy of the odds. The first is pi_k Q(r_kj) + pi_j Q(r_jk), and is computed as
that; the others by the trapezoid rule, whose nodes lie on a lattice of v, so that the normal
densities there follow from one another by two products. Every kappa is even and decreases with |v|
(the second and third after a factor), so that no pair adds more than sqrt(pi_k pi_j) times what it
would at l = 0: that bounds the pairs beyond a radius, which are counted by their distance only.

Imported when needed: this brings in Numba.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl.numerics.compiled import compiled
from tokenkl.numerics.exp2 import LOG2_E, SUMS, bits, exp2, smaller
from tokenkl.numerics.threads import in_order

#: Rows of one task, and those that a tile is looked at for while its coordinates are near the
#: processor; tokens of a tile; pairs of a row that are collected before they are worked on.
ROWS, GROUP, TILE, LIST = 128, 32, 256, 1024
#: Squared distances beyond a radius are counted in 64 classes for each power of two.
CLASS_BITS = 46
LOWEST = (1023 - 120) << (52 - CLASS_BITS)
CLASSES = 130 << (52 - CLASS_BITS)
#: Of the first class, and within the last.
NEAREST, FURTHEST = 2.0**-120, 2.0**10 * (1 - 2.0**-10)
#: Lattice of log-odds: spacing and number of nodes on each side. The poles of kappa at i pi give
#: a relative error of about 2 exp(-2 pi^2 / STEP) = 1.1e-12, times exp(pi^2 / 2 a^2), and what lies
#: beyond the last node 6e-12.
STEP, NODES = 0.7, 86
#: Pairs with a smaller h d, and those of which one token is the best guess even at the other, are
#: integrated one by one.
REGULAR = 2.0
QUADRATURE = 2e-11
#: Tiles whose box is farther than the radius by this factor (in squares) are not looked into.
FAR = 1.5
#: exp(-a^2/8) of a larger h d is below 1e-310; the number of nodes grows with a.
FARTHEST = 76.0

_v = STEP * np.arange(NODES + 1)
_w = np.exp(-_v)
KAPPA = np.stack(
    [
        np.exp(-_v / 2) * ((1 + _w) * np.log1p(_w) / _w + _v),
        np.exp(-_v / 2) / (1 + _w),
    ]
)

# The Mills ratio: (1 + r) Q(r) exp(r^2/2) is smooth in t = (r - C) / (r + C). Its Chebyshev series
# there, cut off below 1e-16 and written in powers of t, whose coefficients sum to 1.1 in modulus.
CENTRE = 5.0
_t = np.cos(np.pi * (np.arange(48) + 0.5) / 48)
_r = CENTRE * (1 + _t) / (1 - _t)
_mills = np.polynomial.Chebyshev.fit(
    _t, (1 + _r) * special.erfcx(_r * math.sqrt(0.5)) / 2, 47, domain=[-1, 1]
)
M = tuple(float(c) for c in np.polynomial.chebyshev.cheb2poly(_mills.coef[:24]))


@compiled(fastmath={"contract"})
def tail(r):  # type: ignore[no-untyped-def]
    """Q(r) = P(N(0, 1) > r) with a relative error below 1e-13 where it is above 1e-290."""
    x = abs(r)
    t = (x - CENTRE) / (x + CENTRE)
    p = M[16] + t * (
        M[17] + t * (M[18] + t * (M[19] + t * (M[20] + t * (M[21] + t * (M[22] + t * M[23])))))
    )
    p = M[8] + t * (
        M[9]
        + t * (M[10] + t * (M[11] + t * (M[12] + t * (M[13] + t * (M[14] + t * (M[15] + t * p))))))
    )
    p = M[0] + t * (
        M[1] + t * (M[2] + t * (M[3] + t * (M[4] + t * (M[5] + t * (M[6] + t * (M[7] + t * p))))))
    )
    q = exp2(-0.5 * LOG2_E * x * x) * p / (1.0 + x)
    return q if r >= 0.0 else 1.0 - q


@compiled(fastmath=set())
def pair_integrals(a, odds):  # type: ignore[no-untyped-def]
    """exp(-a^2/8) E kappa(a x + l) for the entropy and, over d^2, the variance; any a >= 0 and l.

    The integrand is log-concave with a curvature of at least 1, analytic in |Im x| < pi / a.
    """
    if a > FARTHEST:
        return 0.0, 0.0
    if a == 0.0:
        middle, step, count = 0.0, 1.0, 0
        scale = 1.0
    else:
        edge = max(abs(odds) - a * a / 2, 0.0)
        middle = (math.copysign(edge, odds) - odds) / a
        step = min(0.3, 0.7 / a)
        count = math.ceil(9.5 / step)
        scale = step / math.sqrt(2 * math.pi)
    entropy, variance = 0.0, 0.0
    for m in range(-count, count + 1):
        x = middle + m * step
        v = abs(a * x + odds)
        weight = math.exp(-a * a / 8 - x * x / 2 - v / 2)
        w = math.exp(-v)
        ratio = math.log1p(w) / w if w > 1e-9 else 1.0
        entropy += weight * ((1 + w) * ratio + v)
        variance += weight / (1 + w)
    return scale * entropy, scale * variance


@compiled(fastmath={"contract"})
def squares(tile, point, squared):  # type: ignore[no-untyped-def]
    """Squared distances of one point from a tile, by differences."""
    n = tile.shape[0]
    squared[:] = 0.0
    for d in range(0, n - n % 4, 4):
        x0, x1, x2, x3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        p0, p1, p2, p3 = point[d], point[d + 1], point[d + 2], point[d + 3]
        for j in range(squared.size):
            u0, u1, u2, u3 = x0[j] - p0, x1[j] - p1, x2[j] - p2, x3[j] - p3
            squared[j] += u0 * u0 + u1 * u1 + u2 * u2 + u3 * u3
    for d in range(n - n % 4, n):
        x, p = tile[d], point[d]
        for j in range(squared.size):
            squared[j] += (x[j] - p) * (x[j] - p)


@compiled(fastmath={"contract"})
def _lattice(a, odds, g, up, down, factor, entropy, variance, size, equal):  # type: ignore[no-untyped-def]
    """exp(-a^2/8) E kappa(a x + l) of many pairs, a >= REGULAR and |l| <= a^2/2, on the lattice."""
    for p in range(size):
        inverse = 1.0 / (a[p] * a[p])
        g0 = exp2(-LOG2_E * (a[p] * a[p] / 8 + odds[p] * odds[p] * inverse / 2))
        g[0, p], g[1, p] = g0, g0
        up[p] = exp2(LOG2_E * (STEP * odds[p] - STEP * STEP / 2) * inverse)
        down[p] = exp2(LOG2_E * (-STEP * odds[p] - STEP * STEP / 2) * inverse)
        factor[p] = exp2(-LOG2_E * STEP * STEP * inverse)
        entropy[p] = g0 * KAPPA[0, 0]
        variance[p] = g0 * KAPPA[1, 0]
    for m in range(1, NODES + 1):
        first, second = KAPPA[0, m], KAPPA[1, m]
        if equal:
            for p in range(size):
                g[0, p] *= up[p]
                up[p] *= factor[p]
                entropy[p] += 2 * g[0, p] * first
                variance[p] += 2 * g[0, p] * second
        else:
            for p in range(size):
                g[0, p] *= up[p]
                g[1, p] *= down[p]
                up[p] *= factor[p]
                down[p] *= factor[p]
                both = g[0, p] + g[1, p]
                entropy[p] += both * first
                variance[p] += both * second
    for p in range(size):
        scale = STEP * 0.3989422804014327 / a[p]
        entropy[p] *= scale
        variance[p] *= scale


@compiled(fastmath={"contract"})
def _flush(k, near, index, count, sums, most, totals, codebook, h, edges, moments, work):  # type: ignore[no-untyped-def]
    """Add the pairs (k, index[p]), at squared distances `near`, at every level they belong to."""
    _, log_prior, root_prior, ids, equal = codebook
    a, odds, there, here, g, up, down, factor, entropy, variance = work
    prior = root_prior[k] * root_prior[k]
    for level in range(h.size):
        kept = 0
        for p in range(count):
            s, j = near[p], index[p]
            near[kept] = s
            index[kept] = j
            kept += s < edges[level]
        count = kept
        root, smallest = h[level], 1.0
        for p in range(count):
            a[p] = root * math.sqrt(near[p])
            smallest = min(smallest, a[p])
        if equal:
            for p in range(count):
                there[p] = prior * tail(a[p] / 2)
                here[p] = there[p]
        else:
            for p in range(count):
                odds[p] = log_prior[k] - log_prior[index[p]]
                up[p] = root_prior[index[p]] * root_prior[index[p]]
            for p in range(count):
                shift = odds[p] / max(a[p], 1e-300)
                there[p] = prior * tail(a[p] / 2 + shift)
                here[p] = up[p] * tail(a[p] / 2 - shift)
        if smallest == 0.0:  # the likelier is guessed, or else the one with the smaller number
            for p in range(count):
                if a[p] == 0.0:
                    j = index[p]
                    wins = odds[p] > 0.0 or (odds[p] == 0.0 and ids[k] < ids[j])
                    there[p] = 0.0 if wins else prior
                    here[p] = root_prior[j] * root_prior[j] if wins else 0.0
        for p in range(count):
            j = index[p]
            sums[level, k] += there[p]
            most[level, k] = max(most[level, k], there[p])
            sums[level, j] += here[p]
            most[level, j] = max(most[level, j], here[p])
        if moments:
            _lattice(a, odds, g, up, down, factor, entropy, variance, count, equal)
            for p in range(count):
                if not (a[p] >= REGULAR and abs(odds[p]) <= a[p] * a[p] / 2):
                    entropy[p], variance[p] = pair_integrals(a[p], odds[p])
            one, two, three = 0.0, 0.0, 0.0
            for p in range(count):
                one += root_prior[index[p]] * entropy[p]
                two += root_prior[index[p]] * variance[p] * near[p]
                three += root_prior[index[p]] * 2 * variance[p]
            totals[level, 0] += root_prior[k] * one
            totals[level, 1] += root_prior[k] * two
            totals[level, 2] += root_prior[k] * three


@compiled(fastmath=SUMS)
def _smallest(values):  # type: ignore[no-untyped-def]
    found = np.inf
    for value in values:
        found = smaller(found, value)
    return found


@compiled(fastmath={"contract"})
def _count(pairs, label, prior, least, place, weight, classes):  # type: ignore[no-untyped-def]
    """Count the pairs of one token at squared distances of `least` or more, in their classes."""
    squared, labels, priors = pairs
    size = squared.size
    for p in range(size):
        # Unsigned, and cut off before: what AVX2 has instructions for.
        kept = np.uint64(bits(min(max(squared[p], NEAREST), FURTHEST)))
        place[p] = np.int64(kept >> np.uint64(CLASS_BITS)) - LOWEST
        weight[p] = prior * priors[p] if squared[p] >= least and labels[p] != label else 0.0
    # Most pairs are in few classes: in turn, a sum need not wait for the one before.
    whole = size - size % 4
    for p in range(0, whole, 4):
        classes[0, place[p]] += weight[p]
        classes[1, place[p + 1]] += weight[p + 1]
        classes[2, place[p + 2]] += weight[p + 2]
        classes[3, place[p + 3]] += weight[p + 3]
    for p in range(whole, size):
        classes[0, place[p]] += weight[p]


@compiled(fastmath={"contract"})
def _block(  # type: ignore[no-untyped-def]
    tiles, boxes, codebook, labels, h, edges, start, stop, moments, sums, most, totals, classes
):
    """All pairs of rows start .. stop - 1 with later tokens; h ascends and `edges` descend."""
    low, high, root_sums = boxes
    points, _, root_prior, _, _ = codebook
    K, n = points.shape
    squared, class_of_pair, weight = np.empty(TILE), np.empty(TILE, np.int64), np.empty(TILE)
    index, near = np.empty((GROUP, LIST), np.int64), np.empty((GROUP, LIST))
    counts = np.zeros(GROUP, np.int64)
    work = (
        np.empty(LIST),
        np.zeros(LIST),
        np.empty(LIST),
        np.empty(LIST),
        np.empty((2, LIST)),
        np.empty(LIST),
        np.empty(LIST),
        np.empty(LIST),
        np.empty(LIST),
        np.empty(LIST),
    )
    known = sums, most, totals, codebook, h, edges, moments, work
    widest, least = edges[0], edges[-1]
    for top in range(start, stop, GROUP):
        rows = min(GROUP, stop - top)
        counts[:] = 0
        for box in range((top + 1) // TILE, tiles.shape[0]):
            begin = box * TILE
            for row in range(rows):
                k = top + row
                first, size = max(k + 1 - begin, 0), min(TILE, K - begin)
                if first >= size:
                    continue
                point, count = points[k], counts[row]
                apart = 0.0
                for d in range(n):
                    gap = max(max(low[box, d] - point[d], point[d] - high[box, d]), 0.0)
                    apart += gap * gap
                if apart > FAR * widest and begin > k:  # counted at the distance of the box
                    c = (bits(apart * (1 - 1e-12)) >> CLASS_BITS) - LOWEST
                    classes[0, min(max(c, 0), CLASSES - 1)] += root_prior[k] * root_sums[box]
                    continue
                squares(tiles[box], point, squared)
                if _smallest(squared[first:size]) < widest:
                    for j in range(first, size):
                        near[row, count] = squared[j]
                        index[row, count] = begin + j
                        count += (squared[j] < widest) & (labels[begin + j] != labels[k])
                own = slice(begin + first, begin + size)
                far = squared[first:size], labels[own], root_prior[own]
                _count(far, labels[k], root_prior[k], least, class_of_pair, weight, classes)
                if count > LIST - TILE:
                    _flush(k, near[row], index[row], count, *known)
                    count = 0
                counts[row] = count
        for row in range(rows):
            _flush(top + row, near[row], index[row], counts[row], *known)


class PairSums(NamedTuple):
    """Sums over kept pairs at every level, and bounds on what the others would add.

    `rows` and `most` are the sum and the largest of pi_k Q(r_kj) over j, for every token k.
    """

    rows: Float[np.ndarray, "levels K"]
    most: Float[np.ndarray, "levels K"]
    totals: Float[np.ndarray, "levels 4"]
    dropped: Float[np.ndarray, "levels 4"]


def in_tiles(points: Float[np.ndarray, "K n"]) -> Float[np.ndarray, "tiles n tile"]:
    """The layout that `squares` reads; what fills up the last tile is infinitely far."""
    K, n = points.shape
    tiles = np.full((-(-K // TILE), n, TILE), np.inf)
    for box, start in enumerate(range(0, K, TILE)):
        tiles[box, :, : min(TILE, K - start)] = points[start : start + TILE].T
    return tiles


def class_edges() -> Float[np.ndarray, " classes"]:
    """Smallest squared distance of every class."""
    bits = (np.arange(CLASSES, dtype=np.int64) + LOWEST) << CLASS_BITS
    edges = bits.view(np.float64).copy()
    edges[0] = 0.0
    return edges


def pair_sums(
    points: Float[np.ndarray, "K n"],
    log_prior: Float[np.ndarray, " K"],
    ids: Int[np.ndarray, " K"],
    equal: bool,
    h: Float[np.ndarray, " levels"],
    edges: Float[np.ndarray, " levels"],
    moments: bool,
    labels: Int[np.ndarray, " K"] | None = None,
) -> PairSums:
    """One pass over all pairs of tokens: those nearer than `edges` (squared) summed at each level.

    `points` in an order in which neighbours are near each other, `ids` their original numbers,
    which break ties; pairs with equal `labels` do not count, but in a bound on what lies beyond the
    radius. `edges` must come from `class_edges` or exceed every squared distance.
    Tasks are added up in one order, so that the bits do not depend on the number of threads.
    """
    K = len(points)
    order = np.argsort(h, kind="stable")
    # Levels with less noise never reach farther than those with more.
    reach = np.maximum.accumulate(np.asarray(edges)[order][::-1])[::-1].copy()
    root_prior = np.exp(log_prior / 2)
    starts_of_tiles = range(0, K, TILE)
    low = np.stack([points[s : s + TILE].min(axis=0) for s in starts_of_tiles])
    high = np.stack([points[s : s + TILE].max(axis=0) for s in starts_of_tiles])
    tiles = in_tiles(points)
    root_sums = np.add.reduceat(root_prior, starts_of_tiles)
    known = class_edges()
    codebook = (np.ascontiguousarray(points), np.asarray(log_prior), root_prior, np.asarray(ids))
    boxes = (low, high, root_sums)
    labels = np.arange(K) if labels is None else np.asarray(labels)
    shared = (tiles, boxes, (*codebook, equal), labels, h[order], reach)

    def work(part: slice) -> tuple[Any, ...]:
        start, stop, _ = part.indices(K)
        sums, most = np.zeros((2, h.size, K))
        totals, classes = np.zeros((h.size, 3)), np.zeros((4, CLASSES))
        _block(*shared, start, stop, moments, sums, most, totals, classes)
        return sums, most, totals, classes.sum(axis=0)

    rows, most = np.zeros((2, h.size, K))
    sums, classes = np.zeros((h.size, 3)), np.zeros(CLASSES)
    for found in in_order(work, K, ROWS):
        rows += found[0]
        np.maximum(most, found[1], out=most)
        sums += found[2]
        classes += found[3]
    totals = np.column_stack([rows.sum(axis=1), sums])
    dropped = np.zeros((h.size, 4))
    held = np.flatnonzero(classes)
    widest = 4 * float(((points - points.mean(axis=0)) ** 2).sum(axis=1).max())
    for level, root in enumerate(h[order]):
        beyond = held[known[held] >= reach[level]]
        a = root * np.sqrt(known[beyond])
        upper = np.append(known, widest)[beyond + 1]
        parts = np.array([pair_integrals(x, 0.0) for x in a]).reshape(-1, 2)
        upper = np.minimum(upper, widest)
        pieces = np.stack([2 * special.ndtr(-a / 2), parts[:, 0], parts[:, 1] * upper])
        dropped[level, :3] = pieces @ classes[beyond]
        dropped[level, 3] = 2 * parts[:, 1] @ classes[beyond]
    where = np.argsort(order, kind="stable")
    return PairSums(rows[where], most[where], totals[where], dropped[where])


def class_of(squared: Float[np.ndarray, " *p"]) -> Int[np.ndarray, " *p"]:
    """The class that each squared distance is counted in."""
    bits = np.ascontiguousarray(squared).view(np.int64)
    return np.clip((bits >> CLASS_BITS) - LOWEST, 0, CLASSES - 1)
