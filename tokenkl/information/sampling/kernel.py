"""The inner loop of Monte-Carlo: posterior statistics of many samples at many noise levels.

Compiled with Numba, which is imported with this file only (see `tokenkl.numerics.compiled`).
For a sample (k, eps) and a level h the posterior weight of token j, relative to the density of eps,
is pi_j exp(q_j) with

    q_j = h <eps, e_j - e_k> - h^2 |e_j - e_k|^2 / 2.

Tokens go by in tiles that stay in the fastest cache: the two products of a tile serve every level.
Differences are taken first, so that near-duplicate tokens lose no digits, and the true token's own
term pi_k exp(0) stays outside the sums, so that what is left is small where the error is small.

Where levels are evenly spaced, weights go from one to the next by multiplication: q_j is quadratic
in h, so that exp(q_j) gets a factor r_j at every step, and r_j a factor c_j. Each token has three
exponentials at the start of such a run (of `RUN` levels at most, or rounding would add up), and two
multiplications at every further level, where an exponential takes some twenty. r_j overflows no
sooner than a weight does, for log r_j <= z^2 / 2 with z the noise along e_j - e_k, the largest that
q_j is at any level; and nothing becomes denormal, since a tiny number is added to every product.

No shift guards the exponential against overflow. The mean of 1 / p(k|y) is at most K, hence
p(k|y) < 2^-900 has a probability below K 2^-900 whatever the codebook, prior and level: exponents
are cut off at 1000, in base 2, where no draw from the channel ever gets.

In single precision tiles are still summed up in double; weights, and what is summed within a tile,
are single, and exponents are cut off at 60. A weight is then off by its exponent times 2^-23 or so
relatively, which `SINGLE_ERROR` turns into errors of the statistics. The two products are single
as well where the table is `narrow`, its coordinates being single.

Noise with its signs turned (`signs`) is free of products: for -eps the first one turns its sign,
the second stays; and with the first for either half of the coordinates there are four.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenkl.information.sampling.signs import middle
from tokenkl.numerics.compiled import compiled
from tokenkl.numerics.exp2 import LOG2_E, SUMS, exp2, exponent, larger, power, smaller
from tokenkl.numerics.neighbours import neighbourly
from tokenkl.numerics.threads import share_out

#: Tokens in one tile, twice as many where all is single: the rows that one loop touches then fit a
#: first-level cache of 32 KiB.
TILE = 512
#: Samples that a thread takes at a time.
TASK = 16
#: Tiles are left out where all that is left out sums to less than 2^-SKIP of the posterior error
#: probability, or to less than 2^-FLOOR of the true token's weight.
SKIP, SKIP_SINGLE = 64, 30
FLOOR, FLOOR_SINGLE = 280, 100
#: A tile enters the posterior mean where its weights sum to more than this part of the true
#: token's. With W the weights and S = sum w |e_j - e_k|^2 of what is left out, Cauchy-Schwarz moves
#: the mean by sqrt(W S) at most, and so the variance by 2 sqrt(NEGLIGIBLE) of it for each tile.
NEGLIGIBLE = 1e-28
#: What single precision may add to a mean: relative to it, or for entropy and divergence relative
#: to 1 where that is less. Reasoned and measured, not proved: a token that counts has a logit whose
#: two parts are below 200 unless the noise along one direction is beyond 9, and both are rounded to
#: 2^-24 of that, up and down; the largest effect met on a mean is 5e-6 (4e-6 on a single sample).
SINGLE_ERROR = 1e-5
#: ... and absolutely to entropy and divergence in nats, by sums within a tile (2e-7 was met) and by
#: weights that are carried over.
SINGLE_FLOOR = 2e-6

#: Products may be single up to this largest distance from the centre, in standard deviations of the
#: noise. Coordinates are then rounded to 2^-24 of it, and an exponent whose two parts are about 10
#: and 100 is off by 1e-5 at most.
NARROW = 32.0

#: log2 of the prior of what fills up a tile, and of the true token in its own sums.
NOWHERE = -1e5
#: Most levels that weights are carried over by multiplication. After m of them the rounding of c_j
#: counts m (m - 1) / 2 times, and for small steps in one direction for all tokens: below 6e-14 in
#: double precision, and 2e-6 in single precision.
RUN, RUN_SINGLE = 32, 8
#: How evenly three levels must be spaced, relative to their largest.
EVEN = 1e-12
#: Added to every product, far below what `FLOOR` and `FLOOR_SINGLE` leave out.
TINY, TINY_SINGLE = 2.0**-960, 2.0**-120


@compiled(fastmath=SUMS)
def _products(tile, true, eps, begin, end, along, squared):  # type: ignore[no-untyped-def]
    """<eps, e_j - e_k> for one tile, from coordinate to coordinate; |e_j - e_k|^2 goes on."""
    for d in range(begin, end, 4):
        x0, x1, x2, x3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        t0, t1, t2, t3 = true[d], true[d + 1], true[d + 2], true[d + 3]
        n0, n1, n2, n3 = eps[d], eps[d + 1], eps[d + 2], eps[d + 3]
        for j in range(along.size):
            u0, u1, u2, u3 = x0[j] - t0, x1[j] - t1, x2[j] - t2, x3[j] - t3
            a = u0 * n0 + u1 * n1 + u2 * n2 + u3 * n3
            s = u0 * u0 + u1 * u1 + u2 * u2 + u3 * u3
            along[j] = a if d == begin else along[j] + a
            squared[j] = s if d == 0 else squared[j] + s


@compiled(fastmath=SUMS)
def _rounded(products, sign, along, squared):  # type: ignore[no-untyped-def]
    """The products in the precision of the sums; ends of the first, the smallest second.

    The first one is that of the first half of the coordinates, plus the sign times the other's.
    """
    first, other, exact_squared = products
    real, sign = along.dtype.type, first.dtype.type(sign)
    lowest = highest = real(first[0] + sign * other[0])
    smallest = real(exact_squared[0])
    for j in range(along.size):
        a, s = real(first[j] + sign * other[j]), real(exact_squared[j])
        along[j] = a
        squared[j] = s
        lowest = smaller(lowest, a)
        highest = larger(highest, a)
        smallest = smaller(smallest, s)
    return lowest, highest, smallest


@compiled(fastmath=SUMS)
def _negate(values):  # type: ignore[no-untyped-def]
    for j in range(values.size):
        values[j] = -values[j]


@compiled(fastmath=SUMS)
def _sums(along, squared, log_prior, slope, curvature, weight):  # type: ignore[no-untyped-def]
    """Weights of one tile at one level: their sum, their largest, and their first moments."""
    zero = along.dtype.type(0)
    slope, curvature = along.dtype.type(slope), along.dtype.type(curvature)
    total, best, first, second = zero, zero, zero, zero
    for j in range(along.size):
        w = power(slope * along[j] - curvature * squared[j] + log_prior[j])
        weight[j] = w
        total += w
        first += w * along[j]
        second += w * squared[j]
        best = larger(best, w)
    return total, best, first, second


@compiled(fastmath=SUMS)
def _start(along, squared, log_prior, h, step, weight, ratio, bend):  # type: ignore[no-untyped-def]
    """Weights of one tile at one level, their factors at the next step, and what changes these."""
    real = along.dtype.type
    slope, curvature = real(LOG2_E * h), real(LOG2_E * h * h / 2)
    rise, fall = real(LOG2_E * step), real(LOG2_E * step * (2 * h + step) / 2)
    bending = real(-LOG2_E * step * step)
    for j in range(along.size):
        weight[j] = power(slope * along[j] - curvature * squared[j] + log_prior[j])
        ratio[j] = power(rise * along[j] - fall * squared[j])
        bend[j] = power(bending * squared[j])


@compiled(fastmath=SUMS)
def _two_sums(along, squared, tiny, weight, ratio, bend):  # type: ignore[no-untyped-def]
    """The `_sums` at the two levels after that of weight[1], and their weights."""
    zero = along.dtype.type(0)
    total, best, first, second = zero, zero, zero, zero
    next_total, next_best, next_first, next_second = zero, zero, zero, zero
    w, v = weight[0], weight[1]
    for j in range(along.size):
        a, s, c = along[j], squared[j], bend[j]
        r = ratio[j]
        x = v[j] * r + tiny
        r = r * c + tiny
        y = x * r + tiny
        ratio[j] = r * c + tiny
        w[j] = x
        v[j] = y
        total += x
        first += x * a
        second += x * s
        best = larger(best, x)
        next_total += y
        next_first += y * a
        next_second += y * s
        next_best = larger(next_best, y)
    return (total, best, first, second), (next_total, next_best, next_first, next_second)


@compiled(fastmath=SUMS)
def _dot(weight, values):  # type: ignore[no-untyped-def]
    """Sum of products over one tile."""
    total = weight.dtype.type(0)
    for j in range(weight.size):
        total += weight[j] * values[j]
    return total


@compiled(fastmath=SUMS)
def _add_means(tile, weight, level_of, centre):  # type: ignore[no-untyped-def]
    """Add sum_j w_j e_j of one tile at two levels: a small matrix product in registers."""
    w, v = weight[0], weight[1]
    zero = tile.dtype.type(0)
    first, second = level_of[0], level_of[1]
    for d in range(0, tile.shape[0], 4):
        x0, x1, x2, x3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        a0, a1, a2, a3 = zero, zero, zero, zero
        b0, b1, b2, b3 = zero, zero, zero, zero
        for j in range(w.size):
            a0 += w[j] * x0[j]
            a1 += w[j] * x1[j]
            a2 += w[j] * x2[j]
            a3 += w[j] * x3[j]
            b0 += v[j] * x0[j]
            b1 += v[j] * x1[j]
            b2 += v[j] * x2[j]
            b3 += v[j] * x3[j]
        for i, (a, b) in enumerate(((a0, b0), (a1, b1), (a2, b2), (a3, b3))):
            centre[first, d + i] += a
            centre[second, d + i] += b


@compiled(fastmath=set())
def _add(sums, found, h, weight, row_prior, highest, lowest, shares):  # type: ignore[no-untyped-def]
    """Add what was found in one tile at level h to the sums there; an upper bound of log2 q."""
    total, best, first, second = found
    sums[0] += total
    sums[1] = max(sums[1], best)
    sums[2] += LOG2_E * h * first - LOG2_E * h**2 / 2 * second
    sums[3] += second
    sums[4] += highest * total if lowest == highest else _dot(weight, row_prior)
    if shares:
        sums[5] += _dot(weight, weight)
    return exponent(best) + 1 - lowest


@compiled(fastmath=set())
def _levels(tile, rows, ends, levels, rules, how, own, room, sums, centre):  # type: ignore[no-untyped-def]
    """Add one tile to the sums of one sample at all levels.

    `rows` are the tile's products and prior; `ends` the largest <eps, e_j - e_k> and the smallest
    |e_j - e_k|^2 in it, the ends of its prior, and log2 of how many tokens there are; `room` are
    rows to work in.
    """
    along, squared, row_prior = rows
    largest, smallest, high, low, spread = ends
    h, steps, fresh = levels
    mmse, shares = rules
    _, skip, floor, tiny = how
    ratio, bend, alone, pair, level_of = room
    own_weight = exp2(own)
    known_of = (row_prior, high, low, shares)
    level, kept, carried = 0, 0, False
    top, last = 0.0, 0.0
    while level < h.size:
        # An upper bound of q / log 2 in this tile, also by way of the level before: for
        # g < h, q(h) = h/g q(g) - h (h - g) |e_j - e_k|^2 / 2.
        here, step = h[level], steps[level]
        bound = LOG2_E * here * largest - LOG2_E * here**2 / 2 * smallest
        if last > 0.0:
            drop = LOG2_E * here * (here - last) / 2 * smallest
            bound = min(bound, here / last * top - drop)
        top, last = bound, here
        known = exponent(sums[level, 0])
        if bound + high + spread < max(min(known, own - 1) - skip, own - floor):
            level, carried = level + 1, False
            continue
        if step == 0.0:
            slope, curvature = LOG2_E * here, LOG2_E * here**2 / 2
            row = alone[kept]
            found = _sums(along, squared, row_prior, slope, curvature, row)
            top = min(top, _add(sums[level], found, here, row, *known_of))
            if mmse and found[0] > NEGLIGIBLE * own_weight:
                level_of[kept] = level
                kept += 1
                if kept == 2:
                    _add_means(tile, alone, level_of, centre)
                    kept = 0
            level, carried = level + 1, False
            continue
        if fresh[level] or not carried:
            _start(along, squared, row_prior, here - step, step, pair[1], ratio, bend)
        found, after = _two_sums(along, squared, tiny, pair, ratio, bend)
        _add(sums[level], found, here, pair[0], *known_of)
        last = h[level + 1]
        top = LOG2_E * last * largest - LOG2_E * last**2 / 2 * smallest
        top = min(top, _add(sums[level + 1], after, last, pair[1], *known_of))
        if mmse and max(found[0], after[0]) > NEGLIGIBLE * own_weight:
            _add_means(tile, pair, (level, level + 1), centre)
        level, carried = level + 2, True
    if kept == 1:
        alone[1] = 0.0
        level_of[1] = h.size
        _add_means(tile, alone, level_of, centre)


@compiled(fastmath=set())
def _statistics(sums, centre, true, own, out):  # type: ignore[no-untyped-def]
    """Fill out[statistic] of one sample at one level, from its sums over all other tokens."""
    others, best, energy, second, prior, squares = sums
    own_weight = exp2(own)
    total = own_weight + others
    # Where another token wins the difference rounds at 1e-16 absolutely; this happens
    # with the probability that is being measured, so the average keeps its digits.
    rest = others if best <= own_weight else own_weight + (others - best)
    out[0] = rest / total
    mean_energy = energy / total / LOG2_E
    mean_prior = (prior - own * others) / total / LOG2_E
    log_ratio = np.log1p(others / own_weight)
    out[1] = log_ratio - mean_energy - mean_prior
    length = 0.0
    for d in range(true.size):
        length += (centre[d] - true[d] * others) ** 2
    out[2] = second / total - length / total**2
    out[3] = mean_energy - log_ratio
    if out.size > 4:  # sum p (1 - p), by pairs of tokens with the true one and without
        p = others / total
        without = max(p * p - squares / total / total, 0.0)
        out[4] = 2 * p * (own_weight / total) + without


@compiled(fastmath=set())
def _samples(tiles, log_prior, high, low, slots, noise, levels, rules, turns, how, out):  # type: ignore[no-untyped-def]
    """Fill out[level, statistic, sample] for a few samples.

    Of statistics there are four, or five with the last. `levels` are h in ascending order, then
    what `_runs` says; `rules` whether posterior means are wanted, and the last statistic; `turns`
    the number of signs, of whose results a sample is the mean, and where the second half begins.
    `how` begins with the prior in the precision in which a tile is worked on.
    """
    prior = how[0]
    real = prior.dtype
    count, n, size = tiles.shape
    h = levels[0]
    first, other = np.zeros(size, tiles.dtype), np.zeros(size, tiles.dtype)
    exact_squared = np.empty(size, tiles.dtype)
    products = (first, other, exact_squared)
    signs, half = turns
    along, squared = np.empty(size, real), np.empty(size, real)
    ratio, bend = np.empty(size, real), np.empty(size, real)
    alone, pair = np.empty((2, size), real), np.empty((2, size), real)
    room = (ratio, bend, alone, pair, np.empty(2, np.int64))
    sums = np.empty((signs, h.size, 6))
    centre = np.empty((signs, h.size + 1, n))  # the last row takes what fills up a pair
    found = np.empty((signs, out.shape[1]))
    spread = np.log2(count * size)
    for i in range(noise.shape[0]):
        home, place = divmod(slots[i], size)
        true = tiles[home, :, place].copy()
        own = log_prior[home, place]
        sums[:] = 0.0
        centre[:] = 0.0
        for turn in range(count):
            # The true token's tile first: its neighbours say what may be left out.
            t = (home + turn) % count
            _products(tiles[t], true, noise[i], 0, half, first, exact_squared)
            _products(tiles[t], true, noise[i], half, n, other, exact_squared)
            row_prior = prior[t]
            if turn == 0:
                row_prior = prior[t].copy()
                row_prior[place] = NOWHERE
            for sign in range(signs):
                if sign % 2 == 0:
                    least, most, smallest = _rounded(products, 1 - sign, along, squared)
                else:
                    _negate(along)
                    most = -least
                ends = (most, smallest, high[t], low[t], spread)
                rows = (along, squared, row_prior)
                _levels(
                    tiles[t], rows, ends, levels, rules, how, own, room, sums[sign], centre[sign]
                )
        for level in range(h.size):
            for sign in range(signs):
                _statistics(sums[sign, level], centre[sign, level], true, own, found[sign])
            for k in range(out.shape[1]):
                out[level, k, i] = found[:, k].sum() / signs


class Table(NamedTuple):
    """A codebook laid out for the kernel; narrow where coordinates are in single precision.

    Tiles of coordinates; tiles of log2 prior, its extremes in each; a place for each token.
    """

    tiles: Float[np.ndarray, "tiles n tile"]
    log_prior: Float[np.ndarray, "tiles tile"]
    high: Float[np.ndarray, " tiles"]
    low: Float[np.ndarray, " tiles"]
    slots: Int[np.ndarray, " K"]


def lay_out(
    points: Float[np.ndarray, "K n"],
    log_prior: Float[np.ndarray, " K"],
    *,
    in_order: bool = False,
    narrow: bool = False,
) -> Table:
    """Tiles of neighbouring tokens, filled up with tokens of no weight and zero coordinates.

    With `in_order` they are neighbours as they come. A `narrow` table is for single precision, and
    for h up to `NARROW`, in units of the largest distance of a point from 0.
    """
    K, n = points.shape
    size = min(2 * TILE if narrow else TILE, -(-K // 8) * 8)
    count = -(-K // size)
    slots = np.empty(K, dtype=np.int64)
    slots[slice(None) if in_order else neighbourly(points, size)] = np.arange(K)
    places = np.zeros((count * size, -(-n // 4) * 4))
    places[slots, :n] = points
    tiles = np.ascontiguousarray(places.reshape(count, size, -1).transpose(0, 2, 1))
    tiles = tiles.astype(np.float32) if narrow else tiles
    prior = np.full(count * size, NOWHERE)
    prior[slots] = np.asarray(log_prior) * LOG2_E
    prior = prior.reshape(count, size)
    low = np.where(prior > NOWHERE, prior, np.inf).min(axis=1)
    return Table(tiles, prior, prior.max(axis=1), low, slots)


def block_statistics(
    table: Table,
    ids: Int[np.ndarray, " samples"],
    noise: Float[np.ndarray, "samples n"],
    h: Float[np.ndarray, " levels"],
    mmse: bool = True,
    single: bool = False,
    shares: bool = False,
    signs: int = 1,
) -> Float[np.ndarray, "levels statistics samples"]:
    """Error, entropy and variance of the posterior, and its divergence from the prior + log pi_k.

    Where the token is certain the divergence is -log pi_k: all four vanish with the error, and keep
    their digits then.

    With `shares` also the probability that a token drawn from it is wrong, 1 - sum p^2. With
    several `signs` a sample is the mean of what the noise gives with them (`signs.turned`), and
    costs the products of one.

    Every sample is computed by itself, so its bits depend on no block size and no thread count.
    Without `mmse` the work for the variance is saved, and what stands in its place is not it.
    With `single` most of the work is in single precision; the table should then be of a codebook
    whose distances squared are within 1e-30 .. 1e18.
    """
    order = np.argsort(h, kind="stable")
    slots = table.slots[ids]
    padded = np.zeros((ids.size, table.tiles.shape[1]), table.tiles.dtype)
    padded[:, : noise.shape[1]] = noise
    out = np.empty((h.size, 4 + shares, ids.size))
    how: tuple[Any, ...] = (table.log_prior, SKIP, FLOOR, TINY)
    if single:
        real = np.float32
        how = (table.log_prior.astype(real), SKIP_SINGLE, FLOOR_SINGLE, real(TINY_SINGLE))
    levels = (h[order], *_runs(h[order], RUN_SINGLE if single else RUN))
    rules = (mmse, shares)
    turns = (signs, middle(noise.shape[1]) if signs > 2 else padded.shape[1])

    def work(part: slice) -> None:
        _samples(*table[:4], slots[part], padded[part], levels, rules, turns, how, out[:, :, part])

    share_out(work, ids.size, TASK)
    return out[np.argsort(order)]


def _runs(
    h: Float[np.ndarray, " levels"], longest: int
) -> tuple[Float[np.ndarray, " levels"], Bool[np.ndarray, " levels"]]:
    """The step at every first of two levels that weights are carried to, and where they start anew.

    Levels are in ascending order; they are taken two by two where four or more are evenly spaced.
    """
    steps, fresh = np.zeros(h.size), np.zeros(h.size, dtype=bool)
    # Three levels each, evenly spaced; where such threes begin and end to follow each other.
    even = np.abs(np.diff(h, 2)) <= EVEN * h[2:]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], even, [False]])))
    end = 0
    for first, last in edges.reshape(-1, 2):
        start = max(first, end)
        length = (last + 2 - start) // 2 * 2
        if length >= 4 and h[start + 1] > h[start]:
            end = start + length
            steps[start:end:2] = (h[end - 1] - h[start]) / (length - 1)
            fresh[start:end:longest] = True
    return steps, fresh
