"""Where three tokens meet, compiled: intersections of two half-spaces of the noise.

For a true token k, tokens i and j beat it on half-spaces whose normals have the cosine c, at
distances r and s from the origin. The probability of the intersection is that of a wedge in the
plane. Its two faces are rays; seen from the origin, which is outside both half-planes if r, s > 0,
they do not hide one another, and so the wedge has the probability

    J(r, alpha) + J(s, beta),   J(r, alpha) = int_alpha^inf phi(w) r / (r^2 + w^2) dw * phi(r),
    alpha = (s - c r) / sqrt(1 - c^2),   beta = (r - c s) / sqrt(1 - c^2)

(Owen 1956, Annals of Mathematical Statistics 27, with his T split at the corner). Nothing cancels.
A point of the wedge is drawn by its face, its place w along the face and its radius.

Imported when needed: this brings in Numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tokenkl.information._kernel import LOG2_E, SUMS, _compiled, exp2, threads
from tokenkl.information._pairs import TILE, _squares, tail

#: Samples that a thread takes at a time.
TASK = 16

_nodes, _weights = np.polynomial.legendre.leggauss(16)
NODES, WEIGHTS = (_nodes + 1) / 2, _weights / 2
#: Intersections with the squared distance rho^2 > 2 s^2 + FAINT are left out, s being the distance
#: of the nearer half-space: each is less than exp(-FAINT / 2 - s^2 / 2) of that.
FAINT = 48.0
#: Tokens whose log-odds against the third best are worse than this count as if they were alone,
#: and those worse than twice this not at all.
MINOR = 20.0
#: What `choose` finds for every sample.
WEDGE = ("near", "far", "r", "s", "cosine", "first", "second", "near_sum", "far_sum", "near_row", "far_row")


@_compiled(fastmath=SUMS)
def face(r, alpha):  # type: ignore[no-untyped-def]
    """J(r, alpha) for r > 0, to about 1e-12 of it where alpha >= 0, of Q(r) elsewhere."""
    if alpha < 0.0:
        return tail(r) - face(r, -alpha)
    if alpha * alpha + r * r > 1400.0:
        return 0.0
    # exp(-w^2/2) falls by exp(-38) from alpha to there.
    span = 76.0 / (alpha + math.sqrt(alpha * alpha + 76.0))
    begin, total = 0.0, 0.0
    while begin < span:
        width = min(0.8 * (r + alpha + begin), span - begin)
        part = 0.0
        for m in range(16):
            x = begin + width * NODES[m]
            w = alpha + x
            part += WEIGHTS[m] * exp2(-LOG2_E * x * (alpha + x / 2)) / (r * r + w * w)
        total += width * part
        begin += width
    return r * total * exp2(-LOG2_E * (alpha * alpha + r * r) / 2) * 0.15915494309189535


@_compiled(fastmath=set())
def wedge(r, s, c):  # type: ignore[no-untyped-def]
    """P(X > r, Y > s) for standard normals of correlation c: two parts, one for each face.

    Where r or s is not positive the parts are the probability and 0.
    """
    if r == math.inf or s == math.inf:
        return 0.0, 0.0
    if r > 0.0 and s > 0.0:
        root = math.sqrt(max(1.0 - c * c, 1e-30))
        return face(r, (s - c * r) / root), face(s, (r - c * s) / root)
    if r <= 0.0 and s <= 0.0:
        if r == -math.inf or s == -math.inf:
            return tail(max(r, s)) if max(r, s) > -math.inf else 1.0, 0.0
        if r == 0.0 or s == 0.0:
            r, s = min(r, -1e-12), min(s, -1e-12)
        one, two = wedge(-r, -s, c)
        return max(1.0 - tail(-r) - tail(-s) + one + two, 0.0), 0.0
    if r > s:
        r, s = s, r
    if r == -math.inf:
        return tail(s), 0.0
    one, two = wedge(max(-r, 1e-12), s, -c)
    return max(tail(s) - one - two, 0.0), 0.0


@_compiled(fastmath={"contract"})
def _products(tile, point, direction, along):  # type: ignore[no-untyped-def]
    """<e_j - e_k, direction> for one tile, differences first."""
    n = tile.shape[0]
    along[:] = 0.0
    for d in range(0, n - n % 4, 4):
        x0, x1, x2, x3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        p0, p1, p2, p3 = point[d], point[d + 1], point[d + 2], point[d + 3]
        n0, n1, n2, n3 = direction[d], direction[d + 1], direction[d + 2], direction[d + 3]
        for j in range(along.size):
            along[j] += (
                (x0[j] - p0) * n0 + (x1[j] - p1) * n1 + (x2[j] - p2) * n2 + (x3[j] - p3) * n3
            )
    for d in range(n - n % 4, n):
        x, p, m = tile[d], point[d], direction[d]
        for j in range(along.size):
            along[j] += (x[j] - p) * m


@_compiled(fastmath=set())
def _row(tiles, points, log_prior, ids, equal, h, k, squared, r):  # type: ignore[no-untyped-def]
    """Squared distances from token k, and the thresholds r_ki; infinite for k itself."""
    K = points.shape[0]
    for box in range(tiles.shape[0]):
        _squares(tiles[box], points[k], squared[box * TILE : (box + 1) * TILE])
    for i in range(K):
        a = h * math.sqrt(squared[i])
        odds = 0.0 if equal else log_prior[k] - log_prior[i]
        if a > 0.0:
            r[i] = a / 2 + odds / a
        elif odds > 0.0 or (odds == 0.0 and ids[k] < ids[i]):
            r[i] = math.inf
        else:
            r[i] = -math.inf
    r[k] = math.inf


@_compiled(fastmath=set())
def _meetings(tiles, points, h, k, j, squared, r, farther, along, which, parts):  # type: ignore[no-untyped-def]
    """Intersections of H_kj with the half-spaces of k that are farther, or else those nearer.

    Their number; the tokens and the running sums of P(H_ki and H_kj) go to `which` and `parts`.
    """
    K, n = points.shape
    unit = np.zeros(n)
    if squared[j] > 0.0:
        for d in range(n):
            unit[d] = (points[j, d] - points[k, d]) / math.sqrt(squared[j])
    for box in range(tiles.shape[0]):
        _products(tiles[box], points[k], unit, along[box * TILE : (box + 1) * TILE])
    count, total = 0, 0.0
    for i in range(K):
        if i == k or i == j or r[i] == math.inf:
            continue
        later = r[i] > r[j] or (r[i] == r[j] and i > j)
        if later != farther:
            continue
        near, far = max(min(r[i], r[j]), 0.0), max(r[i], r[j], 0.0)
        limit = 2 * near * near + FAINT
        if far * far > limit:
            continue
        c = 0.0
        if squared[i] > 0.0:
            c = min(max(along[i] / math.sqrt(squared[i]), -1.0), 1.0)
        if near > 0.0 and far * c < near:  # the corner is the nearest point
            gap = far - c * near
            if near * near + gap * gap / max(1.0 - c * c, 1e-30) > limit:
                continue
        one, two = wedge(r[j], r[i], c)
        if one + two <= 0.0:
            continue
        total += one + two
        which[count] = i
        parts[count] = total
        count += 1
    return count


@_compiled(fastmath=set())
def choose(tiles, points, log_prior, ids, equal, h, edge, tokens, by_far, uniform, out):  # type: ignore[no-untyped-def]
    """Two half-spaces of each token, in one of two ways; `WEDGE` for each.

    By the nearer one: j with a probability proportional to Q(r_kj), then i among those farther, by
    P(H_ki and H_kj). By the farther one: i, not the nearest of all, and then j among those nearer.
    The sums over the second choice are over Q of the first, and 0 where nothing can be chosen.
    """
    K, n = points.shape
    squared, along = np.empty(tiles.shape[0] * TILE), np.empty(tiles.shape[0] * TILE)
    r, mass = np.empty(K), np.empty(K)
    which, parts = np.empty(K, np.int64), np.empty(K)
    for p in range(tokens.size):
        k = tokens[p]
        out[p, :] = 0.0
        _row(tiles, points, log_prior, ids, equal, h, k, squared, r)
        best, total = -1, 0.0
        for i in range(K):
            if i != k and squared[i] < edge and (best < 0 or r[i] < r[best]):
                best = i
        if best < 0:
            continue
        for i in range(K):
            mass[i] = tail(r[i]) if squared[i] < edge and -math.inf < r[i] < math.inf else 0.0
            if r[i] == -math.inf:
                mass[i] = 1.0
            total += mass[i]
        rest = 0.0
        for i in range(K):
            if i != best:
                rest += mass[i]
        out[p, 9], out[p, 10] = total, rest
        target = uniform[p, 0] * (rest if by_far[p] else total)
        chosen, passed = -1, 0.0
        for i in range(K):
            if mass[i] > 0.0 and not (by_far[p] and i == best):
                chosen = i
                passed += mass[i]
                if passed > target:
                    break
        if chosen < 0:
            continue
        count = _meetings(
            tiles, points, h, k, chosen, squared, r, not by_far[p], along, which, parts
        )
        if count == 0:
            continue
        target = uniform[p, 1] * parts[count - 1]
        place = 0
        while place < count - 1 and parts[place] <= target:
            place += 1
        other, whole = which[place], parts[count - 1]
        count = _meetings(
            tiles, points, h, k, other, squared, r, by_far[p], along, which, parts
        )
        back = parts[count - 1] if count else 0.0
        near, far = (other, chosen) if by_far[p] else (chosen, other)
        out[p, 0], out[p, 1], out[p, 2], out[p, 3] = near, far, r[near], r[far]
        c = 0.0
        if squared[near] > 0.0 and squared[far] > 0.0:
            for d in range(n):
                c += (points[near, d] - points[k, d]) * (points[far, d] - points[k, d])
            c = min(max(c / math.sqrt(squared[near] * squared[far]), -1.0), 1.0)
        out[p, 4] = c
        out[p, 5], out[p, 6] = wedge(r[near], r[far], c)
        forth = whole / mass[chosen]
        against = back / mass[other] if mass[other] > 0.0 else 0.0
        out[p, 7], out[p, 8] = (against, forth) if by_far[p] else (forth, against)
        if mass[near] == 0.0:
            out[p, 7] = 0.0
        if mass[far] == 0.0 or far == best:
            out[p, 8] = 0.0


@_compiled(fastmath=set())
def remainders(tiles, points, log_prior, h, tokens, noise, moments, out):  # type: ignore[no-untyped-def]
    """What pairs of tokens count in excess, for error, entropy and variance, over M_2.

    With p_0 >= p_1 >= ... the posterior, the sums over pairs exceed the error by
    sum (i - 1) p_i, the entropy by sum_k p_k [sum_j log(1 + p_j/p_k) + log p_k], and the variance
    by sum_{i<j} d_ij^2 (1 - p_i - p_j) p_i p_j / (p_i + p_j); M_2 = sum i (i - 1) / 2 p_i is the
    mean number of pairs of tokens that beat the true one.
    """
    K, n = points.shape
    squared, along = np.empty(tiles.shape[0] * TILE), np.empty(tiles.shape[0] * TILE)
    which, value = np.empty(K, np.int64), np.empty(K)
    q = np.empty(K)
    for p in range(tokens.size):
        k = tokens[p]
        for box in range(tiles.shape[0]):
            part = slice(box * TILE, (box + 1) * TILE)
            _squares(tiles[box], points[k], squared[part])
            _products(tiles[box], points[k], noise[p], along[part])
        top, second, third = -math.inf, -math.inf, -math.inf
        for i in range(K):
            x = h * along[i] - h * h / 2 * squared[i] + (log_prior[i] - log_prior[k])
            q[i] = x
            if x > third:
                if x > second:
                    third = second
                    if x > top:
                        second = top
                        top = x
                    else:
                        second = x
                else:
                    third = x
        count = 0
        for i in range(K):
            if q[i] >= third - 2 * MINOR:
                which[count] = i
                value[count] = q[i]
                count += 1
        order = np.argsort(-value[:count])
        weight = np.empty(count)  # relative to the best
        total = 0.0
        for m in range(count - 1, -1, -1):
            weight[m] = math.exp(value[order[m]] - top)
            total += weight[m]
        scale = math.exp(third - top)
        error, double, members = 0.0, 0.0, 0
        for m in range(2, count):
            share = weight[m] / scale
            error += (m - 1) * share
            double += m * (m - 1) / 2 * share
            if value[order[m]] >= third - MINOR:
                members = m + 1
        out[0, p] = error / double
        if not moments:
            continue
        rest = 0.0
        for m in range(1, count):
            rest += weight[m]
        entropy, variance = 0.0, 0.0
        for x in range(members):
            u = weight[x]
            before = 0.0
            for y in range(members):
                if y == x:
                    continue
                ratio = weight[y] / u
                entropy += u * math.log1p(before * ratio / (1.0 + before + ratio))
                before += ratio
            for y in range(x + 1, members):
                v = weight[y]
                if x > 0:
                    others = total - u - v
                elif y > 1:
                    others = rest - v
                else:
                    others = 0.0
                    for m in range(2, count):
                        others += weight[m]
                length = 0.0
                for d in range(n):
                    gap = points[which[order[x]], d] - points[which[order[y]], d]
                    length += gap * gap
                variance += length * u * v / (u + v) * others / total
        out[1, p] = entropy / (scale * double)
        out[2, p] = variance / (scale * double)


def share_out(work: Callable[[slice], None], size: int) -> None:
    """Samples by threads, some at a time; each is computed by itself, whatever the threads."""
    parts = [slice(start, start + TASK) for start in range(0, size, TASK)]
    with ThreadPoolExecutor(threads()) as pool:
        list(pool.map(work, parts))  # the list raises what a worker raised
