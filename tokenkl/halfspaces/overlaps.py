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

import numpy as np

from tokenkl.halfspaces.pair_sums import TILE, squares, tail
from tokenkl.numerics.compiled import compiled
from tokenkl.numerics.exp2 import LOG2_E, SUMS, exp2

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
#: Nearest half-spaces of a token of which all pairs are gone through.
LIST = 48
#: What `choose` finds for every sample.
WEDGE = ("near", "far", "r", "s", "cosine", "first", "second", "near_row", "near_sum", "list_sum")


@compiled(fastmath=SUMS)
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


@compiled(fastmath=set())
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


@compiled(fastmath={"contract"})
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


@compiled(fastmath=set())
def _row(tiles, points, log_prior, ids, equal, h, k, squared, r):  # type: ignore[no-untyped-def]
    """Squared distances from token k, and the thresholds r_ki; infinite for k itself."""
    K = points.shape[0]
    for box in range(tiles.shape[0]):
        squares(tiles[box], points[k], squared[box * TILE : (box + 1) * TILE])
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


@compiled(fastmath=set())
def _is_faint(r, s, c):  # type: ignore[no-untyped-def]
    """Whether the intersection is too far out: rho^2 > 2 min(r, s)^2 + FAINT."""
    near, far = max(min(r, s), 0.0), max(r, s, 0.0)
    limit = 2 * near * near + FAINT
    if far * far > limit:
        return True
    if near > 0.0 and far * c < near:  # the corner is the nearest point
        gap = far - c * near
        return near * near + gap * gap / max(1.0 - c * c, 1e-30) > limit
    return False


@compiled(fastmath=set())
def _meetings(tiles, points, k, j, squared, r, along, which, parts):  # type: ignore[no-untyped-def]
    """Intersections of H_kj with the half-spaces of k that are farther.

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
        if i == k or r[i] == math.inf or not (r[i] > r[j] or (r[i] == r[j] and i > j)):
            continue
        c = 0.0
        if squared[i] > 0.0:
            c = min(max(along[i] / math.sqrt(squared[i]), -1.0), 1.0)
        if _is_faint(r[j], r[i], c):
            continue
        one, two = wedge(r[j], r[i], c)
        if one + two > 0.0:
            total += one + two
            which[count] = i
            parts[count] = total
            count += 1
    return count


@compiled(fastmath=set())
def _nearest(r, squared, edge, k, near):  # type: ignore[no-untyped-def]
    """The half-spaces of k with the smallest thresholds, in order; how many there are."""
    count = 0
    for i in range(r.size):
        if i == k or not squared[i] < edge or r[i] == math.inf:
            continue
        if count == near.size and r[i] >= r[near[count - 1]]:
            continue
        place = count if count < near.size else count - 1
        while place > 0 and r[near[place - 1]] > r[i]:
            near[place] = near[place - 1]
            place -= 1
        near[place] = i
        count = min(count + 1, near.size)
    return count


@compiled(fastmath=set())
def _cosine(points, k, i, j, squared):  # type: ignore[no-untyped-def]
    """The cosine of the angle at token k between tokens i and j; 0 for one at the same place."""
    if squared[i] == 0.0 or squared[j] == 0.0:
        return 0.0
    c = 0.0
    for d in range(points.shape[1]):
        c += (points[i, d] - points[k, d]) * (points[j, d] - points[k, d])
    return min(max(c / math.sqrt(squared[i] * squared[j]), -1.0), 1.0)


@compiled(fastmath=set())
def _listed(points, k, near, count, squared, r, parts):  # type: ignore[no-untyped-def]
    """Running sums of P(H_ki and H_kj) over the pairs of a list, row by row."""
    total, place = 0.0, 0
    for a in range(count):
        for b in range(a + 1, count):
            j, i = near[a], near[b]
            c = _cosine(points, k, j, i, squared)
            if not _is_faint(r[j], r[i], c):
                one, two = wedge(r[j], r[i], c)
                total += one + two
            parts[place] = total
            place += 1
    return total


@compiled(fastmath=set())
def row_overlaps(codebook, h, edge, tokens, out):  # type: ignore[no-untyped-def]
    """Second Bonferroni sum over the nearest half-spaces, and a lower bound on their union.

    The bound is the larger of Bonferroni's, for those of them that raise it, and de Caen's (1997,
    Discrete Mathematics 169): sum_j Q_j^2 / (Q_j + sum_i P_ij). Faint intersections enter it with
    an upper bound.
    """
    tiles, points, log_prior, ids, equal = codebook
    K = points.shape[0]
    squared, r = np.empty(tiles.shape[0] * TILE), np.empty(K)
    near = np.empty(LIST, np.int64)
    both = np.empty((LIST, LIST))
    kept = np.empty(LIST, np.int64)
    for p in range(tokens.size):
        k = tokens[p]
        _row(tiles, points, log_prior, ids, equal, h, k, squared, r)
        count = _nearest(r, squared, edge, k, near)
        out[p, 0], out[p, 1] = 0.0, 0.0
        for a in range(count):
            both[a, a] = tail(r[near[a]]) if r[near[a]] > -math.inf else 1.0
            for b in range(a + 1, count):
                j, i = near[a], near[b]
                c = _cosine(points, k, j, i, squared)
                if _is_faint(r[j], r[i], c):
                    one = 0.0
                    most = 0.5 * math.exp(-(max(r[j], 0.0) ** 2) - FAINT / 2)
                else:
                    one, two = wedge(r[j], r[i], c)
                    one += two
                    most = one * (1 + 1e-9)
                out[p, 0] += one
                both[a, b], both[b, a] = most, most
        greedy, caen, size = 0.0, 0.0, 0
        for a in range(count):
            gain, sums = both[a, a], 0.0
            for b in range(size):
                gain -= both[a, kept[b]]
            if gain > 0.0:
                greedy += gain
                kept[size] = a
                size += 1
            for b in range(count):
                sums += both[a, b]
            caen += both[a, a] * both[a, a] / sums if sums > 0.0 else 0.0
        out[p, 1] = max(greedy, caen) * (1 - 1e-12)


@compiled(fastmath=set())
def choose(codebook, h, edge, tokens, by_list, uniform, out):  # type: ignore[no-untyped-def]
    """Two half-spaces of each token, in one of two ways; `WEDGE` for each.

    One by one: the nearer, j, with a probability proportional to Q(r_kj), then i among those that
    are farther, by P(H_ki and H_kj). Or both at once from all pairs of a list of the nearest. The
    sums say what either way makes of the choice; where nothing can be chosen all is 0.
    """
    tiles, points, log_prior, ids, equal = codebook
    K = points.shape[0]
    squared, along = np.empty(tiles.shape[0] * TILE), np.empty(tiles.shape[0] * TILE)
    r, mass = np.empty(K), np.empty(K)
    which, parts = np.empty(K, np.int64), np.empty(K)
    near_list, listed = np.empty(LIST, np.int64), np.empty(LIST * LIST // 2)
    for p in range(tokens.size):
        k = tokens[p]
        out[p, :] = 0.0
        _row(tiles, points, log_prior, ids, equal, h, k, squared, r)
        members = _nearest(r, squared, edge, k, near_list)
        if members < 2:
            continue
        of_list = _listed(points, k, near_list, members, squared, r, listed)
        total = 0.0
        for i in range(K):
            mass[i] = 0.0
            if squared[i] < edge and r[i] < math.inf:  # neither k nor one that never beats it
                mass[i] = tail(r[i]) if r[i] > -math.inf else 1.0
            total += mass[i]
        near, far = -1, -1
        if by_list[p]:
            target, place = uniform[p, 1] * of_list, 0
            for a in range(members):
                for b in range(a + 1, members):
                    if near < 0 and listed[place] > target:
                        near, far = near_list[a], near_list[b]
                    place += 1
        else:
            target, passed = uniform[p, 0] * total, 0.0
            for i in range(K):
                if mass[i] > 0.0:
                    near = i
                    passed += mass[i]
                    if passed > target:
                        break
        if near < 0:
            continue
        count = _meetings(tiles, points, k, near, squared, r, along, which, parts)
        if count == 0:
            continue
        if not by_list[p]:
            place = min(
                int(np.searchsorted(parts[:count], uniform[p, 1] * parts[count - 1], side="right")),
                count - 1,
            )
            far = which[place]
        c = _cosine(points, k, near, far, squared)
        out[p, 0], out[p, 1], out[p, 2], out[p, 3], out[p, 4] = near, far, r[near], r[far], c
        out[p, 5], out[p, 6] = wedge(r[near], r[far], c)
        if mass[near] > 0.0:
            out[p, 7], out[p, 8] = total, parts[count - 1] / mass[near]
        for a in range(members):
            if near_list[a] == far:
                out[p, 9] = of_list


@compiled(fastmath=set())
def excess(weight, members, x):  # type: ignore[no-untyped-def]
    """sum_y log(1 + w_y / w_x) - log(1 + sum_y w_y / w_x) over the y other than x."""
    u, before = weight[x], 0.0
    if x > 2 and weight[0] / u < 1e100:
        # Three terms are at least log 2, and what is left is too: nothing cancels, so that one
        # logarithm does for many.
        logs, product, inverse = 0.0, 1.0, 1.0 / u
        for y in range(members):
            if y != x:
                ratio = weight[y] * inverse
                product *= 1.0 + ratio
                before += ratio
                if product > 1e200:
                    logs += math.log(product)
                    product = 1.0
        return logs + math.log(product) - math.log1p(before)
    found = 0.0
    for y in range(members):
        if y == x:
            continue
        ratio = weight[y] / u
        both = before * ratio
        if both < math.inf:
            found += math.log1p(both / (1.0 + before + ratio))
        else:  # the smaller of two that are larger than any root
            found += math.log(min(before, ratio) / (1.0 + min(before, ratio) / max(before, ratio)))
        before += ratio
    return found


@compiled(fastmath={"contract"})
def _lengths(place, x, length):  # type: ignore[no-untyped-def]
    """Squared distances of token x from those after it."""
    length[:] = 0.0
    for d in range(place.shape[0]):
        here, others = place[d, x], place[d, x + 1 :]
        for m in range(length.size):
            gap = others[m] - here
            length[m] += gap * gap


@compiled(fastmath=set())
def remainders(codebook, h, tokens, noise, moments, out):  # type: ignore[no-untyped-def]
    """What pairs of tokens count in excess, for each statistic that `out` has a row for, over M_2.

    With p_0 >= p_1 >= ... the posterior, the sums over pairs exceed the error by
    sum (i - 1) p_i, the entropy by sum_k p_k [sum_j log(1 + p_j/p_k) + log p_k], the variance
    by sum_{i<j} d_ij^2 (1 - p_i - p_j) p_i p_j / (p_i + p_j), and the sampling error by the same
    with 2 for d_ij^2; M_2 = sum i (i - 1) / 2 p_i is the mean number of pairs of tokens that beat
    the true one.
    """
    tiles, points, log_prior, _, _ = codebook
    K, n = points.shape
    squared, along = np.empty(tiles.shape[0] * TILE), np.empty(tiles.shape[0] * TILE)
    which, value = np.empty(K, np.int64), np.empty(K)
    q = np.empty(K)
    for p in range(tokens.size):
        k = tokens[p]
        for box in range(tiles.shape[0]):
            part = slice(box * TILE, (box + 1) * TILE)
            squares(tiles[box], points[k], squared[part])
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
        place = np.empty((n, members))  # of the tokens that count, by coordinate
        for m in range(members):
            for d in range(n):
                place[d, m] = points[which[order[m]], d]
        entropy, variance, share = 0.0, 0.0, 0.0
        for x in range(members):
            u = weight[x]
            entropy += u * excess(weight, members, x)
            length = squared[: members - x - 1]
            _lengths(place, x, length)
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
                both = u * v / (u + v) * others
                variance += length[y - x - 1] * both
                share += both
        out[1, p] = entropy / (scale * double)
        out[2, p] = variance / (total * scale * double)
        if out.shape[0] > 3:
            out[3, p] = 2 * share / (total * scale * double)
