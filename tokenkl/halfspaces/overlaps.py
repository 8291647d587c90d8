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
#: Chance of all that is beyond a limit, beside what a list of the nearest has within it.
BEYOND = 1e-5
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
        r, s = max(r, 1e-12), max(s, 1e-12)  # squares are to be above 0
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
    together = 0
    for i in range(K):
        a = h * math.sqrt(squared[i])
        r[i] = a / 2
        together += not a > 0.0
        if not equal:
            r[i] += (log_prior[k] - log_prior[i]) / max(a, 1e-300)
    if together > 1:
        for i in range(K):
            if not h * math.sqrt(squared[i]) > 0.0:
                odds = 0.0 if equal else log_prior[k] - log_prior[i]
                wins = odds > 0.0 or (odds == 0.0 and ids[k] < ids[i])
                r[i] = math.inf if wins else -math.inf
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


@compiled(fastmath={"contract"})
def about(r, s, c):  # type: ignore[no-untyped-def]
    """P(X > r, Y > s), s >= r, as if X were normal given Y > s; 0 where it is faint, see `FAINT`.

    With the mean and variance that X has there, mu c and 1 - c^2 mu (mu - s), mu = phi(s) / Q(s)
    (Mendell and Elston 1974, Biometrics 30). The truth is at most 1.2 times as much; it is less by
    more than a few per cent only where c is negative.
    """
    r, s = max(r, -40.0), max(s, -40.0)
    q = tail(s)
    mills = exp2(-0.5 * LOG2_E * s * s) * 0.3989422804014327 / max(q, 1e-300)
    spread = 1.0 - c * c * mills * (mills - s)
    found = q * tail((r - c * mills) / math.sqrt(max(spread, 1e-12)))
    limit = 2 * r * r + FAINT if r > 0.0 else FAINT
    gap = s - c * r
    corner = r * r + gap * gap / max(1.0 - c * c, 1e-30)  # the nearest point, if it is there
    faint = s * abs(s) > limit or (r > 0.0 and s * c < r and corner > limit)
    return 0.0 if faint else found


@compiled(fastmath=set())
def _towards(tiles, points, k, j, squared, along):  # type: ignore[no-untyped-def]
    """What the differences of all tokens from token k have in the direction of token j."""
    unit = np.zeros(points.shape[1])
    if squared[j] > 0.0:
        for d in range(unit.size):
            unit[d] = (points[j, d] - points[k, d]) / math.sqrt(squared[j])
    for box in range(tiles.shape[0]):
        _products(tiles[box], points[k], unit, along[box * TILE : (box + 1) * TILE])


@compiled(fastmath=set())
def _chances(near, r, cosine, size, chance):  # type: ignore[no-untyped-def]
    """About P(H_ki and H_kj) of the first `size` i, for j with r_kj = near."""
    for i in range(size):
        chance[i] = about(near, r[i], min(max(cosine[i], -1.0), 1.0))


@compiled(fastmath=set())
def _tails(r, size, mass):  # type: ignore[no-untyped-def]
    """Q(r) of the first `size`; r may be -inf."""
    for i in range(size):
        mass[i] = tail(max(r[i], -40.0))


@compiled(fastmath=set())
def _drawn(chance, size, others, uniform):  # type: ignore[no-untyped-def]
    """An index with a probability proportional to its chance, and the sum.

    `others` is the sum of what comes after the first `size`: an index beyond them says how much of
    it is passed, in parts of 2^30. It is -1 where nothing can be drawn.
    """
    inside = 0.0
    for i in range(size):
        inside += chance[i]
    target, passed, found = uniform * (inside + others), 0.0, -1
    for i in range(size):
        if chance[i] > 0.0:
            found = i
            passed += chance[i]
            if passed > target:
                return found, inside + others
    if others > 0.0:
        part = min(max((target - inside) / others, 0.0), 1 - 2.0**-30)
        found = size + int(part * 2**30)
    return found, inside + others


@compiled(fastmath=set())
def _limit(nearest, K, overlap):  # type: ignore[no-untyped-def]
    """A threshold such that Q there, for K half-spaces, is little beside an overlap; and Q there.

    By steps, since no more than its size matters; at the last one Q is next to nothing beside that
    of the nearest.
    """
    least = 0.0
    for step in range(8, 2 * int(FAINT), 2):
        limit = math.sqrt(max(nearest, 0.0) ** 2 + step)
        least = tail(limit)
        if K * least <= BEYOND * overlap:
            break
    return limit, least


@compiled(fastmath=set())
def _beyond(r, squared, edge, limit, j, part):  # type: ignore[no-untyped-def]
    """Half-spaces beyond the limit and, with a j >= 0, farther than that of j, within an edge.

    Their number, and the token at this part of them.
    """
    count = 0
    for turn in range(2):
        wanted, passed = min(int(part * count), count - 1), 0
        for i in range(r.size):
            farther = j < 0 or r[i] > r[j] or (r[i] == r[j] and i > j)
            if farther and limit < r[i] < math.inf and squared[i] < edge:
                if turn == 1 and passed == wanted:
                    return count, i
                passed += 1
        count = passed
    return count, -1


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
    n = points.shape[1]
    here, one, two = points[k], points[i], points[j]
    c0, c1, c2, c3 = 0.0, 0.0, 0.0, 0.0  # in turn, a sum need not wait for the one before
    for d in range(0, n - n % 4, 4):
        c0 += (one[d] - here[d]) * (two[d] - here[d])
        c1 += (one[d + 1] - here[d + 1]) * (two[d + 1] - here[d + 1])
        c2 += (one[d + 2] - here[d + 2]) * (two[d + 2] - here[d + 2])
        c3 += (one[d + 3] - here[d + 3]) * (two[d + 3] - here[d + 3])
    for d in range(n - n % 4, n):
        c0 += (one[d] - here[d]) * (two[d] - here[d])
    c = (c0 + c1) + (c2 + c3)
    return min(max(c / math.sqrt(squared[i] * squared[j]), -1.0), 1.0)


@compiled(fastmath=set())
def _listed(points, k, near, count, squared, r, work):  # type: ignore[no-untyped-def]
    """About P(H_ki and H_kj) for the pairs of a list, row by row, in work[0]; their number."""
    chance, first, second, cosine = work
    place = 0
    for a in range(count):
        for b in range(a + 1, count):
            first[place], second[place] = r[near[a]], r[near[b]]
            cosine[place] = _cosine(points, k, near[a], near[b], squared)
            place += 1
    for m in range(place):
        chance[m] = about(first[m], second[m], cosine[m])
    return place


@compiled(fastmath=set())
def list_sums(codebook, h, edge, tokens, out):  # type: ignore[no-untyped-def]
    """About the second Bonferroni sum over the nearest half-spaces of each token.

    And the same with the larger squared distance of the two from the token, and its square.
    """
    tiles, points, log_prior, ids, equal = codebook
    squared, r = np.empty(tiles.shape[0] * TILE), np.empty(points.shape[0])
    near, work = np.empty(LIST, np.int64), np.empty((4, LIST * LIST // 2))
    for p in range(tokens.size):
        k = tokens[p]
        _row(tiles, points, log_prior, ids, equal, h, k, squared, r)
        members = _nearest(r, squared, edge, k, near)
        _listed(points, k, near, members, squared, r, work)
        place = 0
        for a in range(members):
            for b in range(a + 1, members):
                far = max(squared[near[a]], squared[near[b]])
                out[p, 0] += work[0, place]
                out[p, 1] += work[0, place] * far
                out[p, 2] += work[0, place] * far**2
                place += 1


@compiled(fastmath=set())
def unions(codebook, h, edge, tokens, out):  # type: ignore[no-untyped-def]
    """A lower bound on the union of the nearest half-spaces.

    The larger of Bonferroni's, for those of them that raise it, and de Caen's (1997, Discrete
    Mathematics 169): sum_j Q_j^2 / (Q_j + sum_i P_ij). Faint intersections enter with an upper
    bound.
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
        for a in range(count):
            both[a, a] = tail(r[near[a]]) if r[near[a]] > -math.inf else 1.0
            for b in range(a + 1, count):
                j, i = near[a], near[b]
                c = _cosine(points, k, j, i, squared)
                if _is_faint(r[j], r[i], c):
                    most = 0.5 * math.exp(-(max(r[j], 0.0) ** 2) - FAINT / 2)
                else:
                    one, two = wedge(r[j], r[i], c)
                    most = (one + two) * (1 + 1e-9)
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
        out[p, 0] = max(greedy, caen) * (1 - 1e-12)


@compiled(fastmath=set())
def choose(codebook, h, edge, tokens, by_list, uniform, out):  # type: ignore[no-untyped-def]
    """Two half-spaces of each token, in one of two ways; `WEDGE` for each.

    One by one: the nearer, j, with a probability proportional to Q(r_kj), then i among those that
    are farther, by about P(H_ki and H_kj). Or both at once from all pairs of a list of the nearest.
    Half-spaces beyond a limit hardly matter, and so have the chance that none of them exceeds, Q
    there: they need only be counted. With P the probability of the two that are chosen, P over the
    probability of this choice is `near_row` times `near_sum`, and `list_sum`; all is 0 where
    nothing can be chosen.
    """
    tiles, points, log_prior, ids, equal = codebook
    K = points.shape[0]
    squared, along = np.empty(tiles.shape[0] * TILE), np.empty(tiles.shape[0] * TILE)
    r, close = np.empty(K), np.empty(K, np.int64)
    reach, mass, cosine, chance = np.empty(K), np.empty(K), np.empty(K), np.empty(K)
    near_list, work = np.empty(LIST, np.int64), np.empty((4, LIST * LIST // 2))
    for p in range(tokens.size):
        k = tokens[p]
        out[p, :] = 0.0
        _row(tiles, points, log_prior, ids, equal, h, k, squared, r)
        members = _nearest(r, squared, edge, k, near_list)
        if members < 2:
            continue
        pairs = _listed(points, k, near_list, members, squared, r, work)
        place, of_list = _drawn(work[0], pairs, 0.0, uniform[p, 1])
        limit, least = _limit(r[near_list[0]], K, of_list)
        size, beyond, within = 0, 0, 0
        for i in range(K):
            close[size] = i
            far_away = limit < r[i] < math.inf
            size += r[i] <= limit
            beyond += far_away
            within += far_away & (squared[i] < edge)
        for m in range(size):
            reach[m] = r[close[m]]
        _tails(reach, size, mass)
        for m in range(size):
            mass[m] = mass[m] if squared[close[m]] < edge else 0.0
        first, total = _drawn(mass, size, within * least, uniform[p, 0])
        near, far = -1, -1
        if by_list[p]:
            for a in range(members):  # pairs are row by row
                if 0 <= place < members - 1 - a:
                    near, far = near_list[a], near_list[a + 1 + place]
                place -= members - 1 - a
        elif 0 <= first < size:
            near = close[first]
        elif first >= size:
            near = _beyond(r, squared, edge, limit, -1, (first - size) / 2**30)[1]
        if near < 0:
            continue
        others = size
        if r[near] <= limit:
            _towards(tiles, points, k, near, squared, along)
            for m in range(size):
                cosine[m] = along[close[m]] / math.sqrt(max(squared[close[m]], 1e-300))
            _chances(max(r[near], -1e300), reach, cosine, size, chance)
            for m in range(size):
                i = close[m]
                if not (r[i] > r[near] or (r[i] == r[near] and i > near)):
                    chance[m] = 0.0
        else:
            others = 0
            beyond = _beyond(r, squared, math.inf, limit, near, 0.0)[0]
        second, meeting = _drawn(chance, others, beyond * least, uniform[p, 1])
        if not by_list[p]:
            if 0 <= second < others:
                far = close[second]
            elif second >= others:
                part = (second - others) / 2**30
                far = _beyond(r, squared, math.inf, limit, near, part)[1]
        if far < 0:
            continue
        c = _cosine(points, k, near, far, squared)
        one, two = wedge(r[near], r[far], c)
        out[p, 0], out[p, 1], out[p, 2], out[p, 3], out[p, 4] = near, far, r[near], r[far], c
        out[p, 5], out[p, 6] = one, two
        listed_chance = about(r[near], r[far], c)
        by_row = listed_chance if r[far] <= limit else least
        by_near = tail(max(r[near], -40.0)) if r[near] <= limit else least
        if squared[near] < edge and by_near > 0.0 and by_row > 0.0:
            out[p, 7], out[p, 8] = total, (one + two) / by_row * meeting / by_near
        for a in range(members):
            if near_list[a] == far and listed_chance > 0.0:
                out[p, 9] = (one + two) / listed_chance * of_list


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
