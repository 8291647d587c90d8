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
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from tokenkl.information._kernel import LOG2_E, _bits, _compiled, exp2, threads

#: Rows of one task, and columns of a tile (its coordinates stay in a first-level cache).
ROWS, TILE = 128, 256
#: Squared distances beyond a radius are counted in 64 classes for each power of two.
CLASS_BITS = 46
LOWEST = (1023 - 120) << (52 - CLASS_BITS)
CLASSES = 130 << (52 - CLASS_BITS)
#: Lattice of log-odds: spacing and number of nodes on each side. The poles of kappa at i pi give
#: a relative error of about 2 exp(-2 pi^2 / STEP) = 7e-12, times exp(pi^2 / 2 a^2), and what lies
#: beyond the last node 6e-12.
STEP, NODES = 0.75, 80
#: Pairs with a smaller h d, and those of which one token is the best guess even at the other, are
#: integrated one by one.
REGULAR = 2.0
QUADRATURE = 1e-10
#: Tiles whose box is farther than the radius by this factor (in squares) are not looked into.
FAR = 1.5

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


@_compiled(fastmath={"contract"})
def tail(r):  # type: ignore[no-untyped-def]
    """Q(r) = P(N(0, 1) > r) with a relative error below 1e-13 where it is above 1e-290."""
    x = abs(r)
    t = (x - CENTRE) / (x + CENTRE)
    p = M[16] + t * (M[17] + t * (M[18] + t * (M[19] + t * (M[20] + t * (M[21] + t * (M[22] + t * M[23]))))))
    p = M[8] + t * (M[9] + t * (M[10] + t * (M[11] + t * (M[12] + t * (M[13] + t * (M[14] + t * (M[15] + t * p)))))))
    p = M[0] + t * (M[1] + t * (M[2] + t * (M[3] + t * (M[4] + t * (M[5] + t * (M[6] + t * (M[7] + t * p)))))))
    q = exp2(-0.5 * LOG2_E * x * x) * p / (1.0 + x)
    return q if r >= 0.0 else 1.0 - q


@_compiled(fastmath=set())
def pair_integrals(a, odds):  # type: ignore[no-untyped-def]
    """exp(-a^2/8) E kappa(a x + l) for the entropy and, over d^2, the variance; any a >= 0 and l.

    The integrand is log-concave with a curvature of at least 1, analytic in |Im x| < pi / a.
    """
    if a == 0.0:
        middle, step, count = 0.0, 1.0, 0
        scale = 1.0
    else:
        edge = max(abs(odds) - a * a / 2, 0.0)
        middle = (math.copysign(edge, odds) - odds) / a
        step = min(0.3, 0.7 / a)
        count = int(math.ceil(9.5 / step))
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


@_compiled(fastmath={"contract"})
def _squares(tile, point, squared):  # type: ignore[no-untyped-def]
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


@_compiled(fastmath={"contract"})
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


@_compiled(fastmath={"contract"})
def _block(tiles, rows_of, log_prior, root_prior, root_sums, low, high, ids, equal, h, edges, start, stop, moments, own, most, back, most_back, totals, classes):  # type: ignore[no-untyped-def]
    """All pairs of rows start .. stop - 1 with later tokens; h ascends and `edges` descend."""
    K, n = rows_of.shape
    levels = h.size
    squared = np.empty(TILE)
    index = np.empty(TILE, np.int64)
    near = np.empty(TILE)
    a, odds = np.empty(TILE), np.zeros(TILE)
    there, here = np.empty(TILE), np.empty(TILE)
    g, up, down, factor = np.empty((2, TILE)), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    entropy, variance = np.empty(TILE), np.empty(TILE)
    least = 1e300
    for level in range(levels):
        least = min(least, edges[level])
    for k in range(start, stop):
        point = rows_of[k]
        root_k = root_prior[k]
        prior_k = root_k * root_k
        first = (k + 1) // TILE * TILE
        for begin in range(first, K, TILE):
            size = min(TILE, K - begin)
            box = begin // TILE
            apart = 0.0
            for d in range(n):
                gap = max(max(low[box, d] - point[d], point[d] - high[box, d]), 0.0)
                apart += gap * gap
            if apart > FAR * edges[0] and begin > k:  # counted at the distance of the box
                c = (_bits(apart * (1 - 1e-12)) >> CLASS_BITS) - LOWEST
                classes[min(max(c, 0), classes.size - 1)] += root_k * root_sums[box]
                continue
            _squares(tiles[box], point, squared)
            count = 0
            for j in range(max(k + 1 - begin, 0), size):
                s = squared[j]
                near[count] = s
                index[count] = begin + j
                count += s < edges[0]
            for j in range(max(k + 1 - begin, 0), size):
                s = squared[j]
                if s >= least:
                    c = (_bits(s) >> CLASS_BITS) - LOWEST
                    classes[min(max(c, 0), classes.size - 1)] += root_k * root_prior[begin + j]
            for level in range(levels):
                if count == 0:
                    break
                kept = 0
                for p in range(count):
                    s, j = near[p], index[p]
                    near[kept] = s
                    index[kept] = j
                    kept += s < edges[level]
                count = kept
                root = h[level]
                for p in range(count):
                    a[p] = root * math.sqrt(near[p])
                if equal:
                    for p in range(count):
                        there[p] = prior_k * tail(a[p] / 2)
                    for p in range(count):
                        if a[p] == 0.0:
                            there[p] = prior_k if ids[k] > ids[index[p]] else 0.0
                            here[p] = prior_k - there[p]
                        else:
                            here[p] = there[p]
                else:
                    for p in range(count):
                        odds[p] = log_prior[k] - log_prior[index[p]]
                    for p in range(count):
                        shift = odds[p] / max(a[p], 1e-300)
                        there[p] = prior_k * tail(a[p] / 2 + shift)
                        here[p] = tail(a[p] / 2 - shift)
                    for p in range(count):
                        here[p] *= root_prior[index[p]] ** 2
                        if a[p] == 0.0:
                            wins = odds[p] > 0.0 or (odds[p] == 0.0 and ids[k] < ids[index[p]])
                            there[p] = 0.0 if wins else prior_k
                            here[p] = root_prior[index[p]] ** 2 if wins else 0.0
                total, top = 0.0, 0.0
                for p in range(count):
                    total += there[p]
                    top = max(top, there[p])
                own[level, k - start] += total
                most[level, k - start] = max(most[level, k - start], top)
                for p in range(count):
                    j = index[p] - start
                    back[level, j] += here[p]
                    most_back[level, j] = max(most_back[level, j], here[p])
                if moments:
                    _lattice(a, odds, g, up, down, factor, entropy, variance, count, equal)
                    for p in range(count):
                        if not (a[p] >= REGULAR and abs(odds[p]) <= a[p] * a[p] / 2):
                            entropy[p], variance[p] = pair_integrals(a[p], odds[p])
                    one, two = 0.0, 0.0
                    for p in range(count):
                        weight = root_k * root_prior[index[p]]
                        one += weight * entropy[p]
                        two += weight * variance[p] * near[p]
                    totals[level, 0] += one
                    totals[level, 1] += two


class PairSums(NamedTuple):
    """Sums over kept pairs at every level, and bounds on what the others would add.

    `rows` and `most` are the sum and the largest of pi_k Q(r_kj) over j, for every token k.
    """

    rows: Float[np.ndarray, "levels K"]
    most: Float[np.ndarray, "levels K"]
    totals: Float[np.ndarray, "levels 3"]
    dropped: Float[np.ndarray, "levels 3"]


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
) -> PairSums:
    """One pass over all pairs of tokens: those nearer than `edges` (squared) summed at each level.

    `points` in an order in which neighbours are near each other, `ids` their original numbers,
    which break ties; `edges` must come from `class_edges` or exceed every squared distance.
    Tasks are added up in one order, so that the bits do not depend on the number of threads.
    """
    K, n = points.shape
    order = np.argsort(h, kind="stable")
    # Levels with less noise never reach farther than those with more.
    reach = np.maximum.accumulate(np.asarray(edges)[order][::-1])[::-1].copy()
    root_prior = np.exp(log_prior / 2)
    boxes = range(0, K, TILE)
    tiles = np.full((len(boxes), n, TILE), np.inf)
    for box, s in enumerate(boxes):
        tiles[box, :, : min(TILE, K - s)] = points[s : s + TILE].T
    low = np.stack([points[s : s + TILE].min(axis=0) for s in boxes])
    high = np.stack([points[s : s + TILE].max(axis=0) for s in boxes])
    known = class_edges()
    root_sums = np.add.reduceat(root_prior, boxes)
    shared = (tiles, np.ascontiguousarray(points), np.asarray(log_prior), root_prior, root_sums)
    shared += (low, high, np.asarray(ids), equal, h[order], reach)

    def work(start: int):  # type: ignore[no-untyped-def]
        stop = min(start + ROWS, K)
        own, most = np.zeros((2, h.size, stop - start))
        back, most_back = np.zeros((2, h.size, K - start))
        totals, classes = np.zeros((h.size, 2)), np.zeros(CLASSES)
        _block(*shared, start, stop, moments, own, most, back, most_back, totals, classes)
        back[:, : stop - start] += own
        np.maximum(most_back[:, : stop - start], most, out=most_back[:, : stop - start])
        return start, back, most_back, totals, classes

    rows, most = np.zeros((2, h.size, K))
    sums, classes = np.zeros((h.size, 2)), np.zeros(CLASSES)
    starts = range(0, K, ROWS)
    with ThreadPoolExecutor(threads()) as pool:
        for start, back, most_back, totals, counted in pool.map(work, starts):
            rows[:, start:] += back
            np.maximum(most[:, start:], most_back, out=most[:, start:])
            sums += totals
            classes += counted
    totals = np.column_stack([rows.sum(axis=1), sums])
    dropped = np.zeros((h.size, 3))
    held = np.flatnonzero(classes)
    widest = 4 * float(((points - points.mean(axis=0)) ** 2).sum(axis=1).max())
    for level, root in enumerate(h[order]):
        beyond = held[known[held] >= reach[level]]
        a = root * np.sqrt(known[beyond])
        upper = np.append(known, widest)[beyond + 1]
        parts = np.array([pair_integrals(x, 0.0) for x in a]).reshape(-1, 2)
        pieces = np.stack([2 * special.ndtr(-a / 2), parts[:, 0], parts[:, 1] * np.minimum(upper, widest)])
        dropped[level] = pieces @ classes[beyond]
    where = np.argsort(order, kind="stable")
    return PairSums(rows[where], most[where], totals[where], dropped[where])


def class_of(squared: Float[np.ndarray, " *p"]) -> Int[np.ndarray, " *p"]:
    """The class that each squared distance is counted in."""
    bits = np.ascontiguousarray(squared).view(np.int64)
    return np.clip((bits >> CLASS_BITS) - LOWEST, 0, CLASSES - 1)
