"""The inner loop of Monte-Carlo: posterior statistics of many samples at many noise levels.

Compiled with Numba, which is imported with this file only (see `tokenkl.numerics.compiled`).
For a sample (k, eps) and a level h the posterior weight of token j, relative to the density of eps,
is pi_j exp(q_j) with

    q_j = h <eps, e_j - e_k> - h^2 |e_j - e_k|^2 / 2.

Tokens go by in tiles that stay in the fastest cache: the two products of a tile serve every level.
Differences are taken first, so that near-duplicate tokens lose no digits, and the true token's own
term pi_k exp(0) stays outside the sums, so that what is left is small where the error is small.

No shift guards the exponential against overflow. The mean of 1 / p(k|y) is at most K, hence
p(k|y) < 2^-900 has a probability below K 2^-900 whatever the codebook, prior and level: exponents
are cut off at 1000, in base 2, where no draw from the channel ever gets.

In single precision the two products are still formed in double, and tiles are summed up in double;
weights, and what is summed within a tile, are single. With eight or sixteen of them in a register
this is nearly three times as fast. A weight is then off by its exponent times 2^-23 or so
relatively, which `SINGLE_ERROR` turns into errors of the statistics; exponents are cut off at 60.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tokenkl.numerics.compiled import compiled
from tokenkl.numerics.exp2 import LOG2_E, SUMS, exp2, exponent, larger, power, smaller
from tokenkl.numerics.neighbours import neighbourly
from tokenkl.numerics.threads import share_out

#: Tokens in one tile: the rows that one loop touches then fit a first-level cache of 32 KiB.
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
#: ... and absolutely to entropy and divergence in nats, by sums within a tile: 2e-7 was met.
SINGLE_FLOOR = 1e-6

#: log2 of the prior of what fills up a tile, and of the true token in its own sums.
NOWHERE = -1e5


@compiled(fastmath=SUMS)
def _products(tile, true, eps, along, squared):  # type: ignore[no-untyped-def]
    """<eps, e_j - e_k> and |e_j - e_k|^2 for one tile, with the largest and the smallest."""
    along[:] = 0.0
    squared[:] = 0.0
    for d in range(0, true.size, 4):
        x0, x1, x2, x3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        t0, t1, t2, t3 = true[d], true[d + 1], true[d + 2], true[d + 3]
        n0, n1, n2, n3 = eps[d], eps[d + 1], eps[d + 2], eps[d + 3]
        for j in range(along.size):
            u0, u1, u2, u3 = x0[j] - t0, x1[j] - t1, x2[j] - t2, x3[j] - t3
            along[j] += u0 * n0 + u1 * n1 + u2 * n2 + u3 * n3
            squared[j] += u0 * u0 + u1 * u1 + u2 * u2 + u3 * u3
    largest, smallest = 0.0, 1e300
    for j in range(along.size):
        largest = larger(largest, along[j])
        smallest = smaller(smallest, squared[j])
    return largest, smallest


@compiled(fastmath=SUMS)
def _sums(along, squared, log_prior, slope, curvature, weight):  # type: ignore[no-untyped-def]
    """Weights of one tile at one level: their sum, their largest, and their moments."""
    zero = along.dtype.type(0)
    slope, curvature = along.dtype.type(slope), along.dtype.type(curvature)
    total, energy, second, prior, best = zero, zero, zero, zero, zero
    for j in range(along.size):
        q = slope * along[j] - curvature * squared[j]
        w = power(q + log_prior[j])
        weight[j] = w
        total += w
        energy += w * q
        second += w * squared[j]
        prior += w * log_prior[j]
        best = larger(best, w)
    return total, best, energy, second, prior


@compiled(fastmath=SUMS)
def _squares(weight):  # type: ignore[no-untyped-def]
    """Sum of the squares of the weights of one tile."""
    total = weight.dtype.type(0)
    for j in range(weight.size):
        total += weight[j] * weight[j]
    return total


@compiled(fastmath=SUMS)
def _add_means(tile, weight, level_of, centre):  # type: ignore[no-untyped-def]
    """Add sum_j w_j e_j of one tile at two levels: a small matrix product in registers."""
    w, v = weight[0], weight[1]
    first, second = level_of[0], level_of[1]
    for d in range(0, tile.shape[0], 4):
        x0, x1, x2, x3 = tile[d], tile[d + 1], tile[d + 2], tile[d + 3]
        a0, a1, a2, a3, b0, b1, b2, b3 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
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
def _samples(tiles, log_prior, high, low, slots, noise, h, mmse, real, skip, floor, out):  # type: ignore[no-untyped-def]
    """Fill out[level, statistic, sample] for a few samples; h is in ascending order.

    Of statistics there are four, or five with the last. `real` is an empty array of the precision
    in which a tile is worked on.
    """
    count, n, size = tiles.shape
    levels = h.size
    exact_along, exact_squared = np.empty(size), np.empty(size)
    along, squared = np.empty(size, real.dtype), np.empty(size, real.dtype)
    row_prior, weight = np.empty(size, real.dtype), np.empty((2, size), real.dtype)
    level_of = np.empty(2, np.int64)
    sums = np.empty((levels, 6))
    shares = out.shape[1] > 4
    centre = np.empty((levels + 1, n))  # the last row takes what fills up a pair
    spread = np.log2(count * size)
    for i in range(noise.shape[0]):
        home, place = divmod(slots[i], size)
        true = tiles[home, :, place].copy()
        own = log_prior[home, place]
        own_weight = exp2(own)
        sums[:] = 0.0
        centre[:] = 0.0
        for step in range(count):
            # The true token's tile first: its neighbours say what may be left out.
            t = (home + step) % count
            largest, smallest = _products(tiles[t], true, noise[i], exact_along, exact_squared)
            along[:] = exact_along
            squared[:] = exact_squared
            row_prior[:] = log_prior[t]
            if step == 0:
                row_prior[place] = NOWHERE
            rows = 0
            top, last = 0.0, 0.0
            for level in range(levels):
                # An upper bound of q / log 2 in this tile, also by way of the level before: for
                # g < h, q(h) = h/g q(g) - h (h - g) |e_j - e_k|^2 / 2.
                slope, curvature = LOG2_E * h[level], LOG2_E * h[level] ** 2 / 2
                bound = slope * largest - curvature * smallest
                if last > 0.0:
                    drop = LOG2_E * h[level] * (h[level] - last) / 2 * smallest
                    bound = min(bound, h[level] / last * top - drop)
                top, last = bound, h[level]
                known = exponent(sums[level, 0])
                if bound + high[t] + spread < max(min(known, own - 1) - skip, own - floor):
                    continue
                total, best, energy, second, prior = _sums(
                    along, squared, row_prior, slope, curvature, weight[rows]
                )
                top = min(top, exponent(best) + 1 - low[t])
                sums[level, 0] += total
                sums[level, 1] = max(sums[level, 1], best)
                sums[level, 2] += energy
                sums[level, 3] += second
                sums[level, 4] += prior
                if shares:
                    sums[level, 5] += _squares(weight[rows])
                if mmse and total > NEGLIGIBLE * own_weight:
                    level_of[rows] = level
                    rows += 1
                    if rows == 2:
                        _add_means(tiles[t], weight, level_of, centre)
                        rows = 0
            if rows == 1:
                weight[1] = 0.0
                level_of[1] = levels
                _add_means(tiles[t], weight, level_of, centre)
        for level in range(levels):
            others, best, energy, second, prior, squares = sums[level]
            total = own_weight + others
            # Where another token wins the difference rounds at 1e-16 absolutely; this happens
            # with the probability that is being measured, so the average keeps its digits.
            rest = others if best <= own_weight else own_weight + (others - best)
            out[level, 0, i] = rest / total
            mean_energy = energy / total / LOG2_E
            mean_prior = (prior - own * others) / total / LOG2_E
            log_ratio = np.log1p(others / own_weight)
            out[level, 1, i] = log_ratio - mean_energy - mean_prior
            length = 0.0
            for d in range(n):
                length += (centre[level, d] - true[d] * others) ** 2
            out[level, 2, i] = second / total - length / total**2
            out[level, 3, i] = mean_energy - log_ratio - own / LOG2_E
            if shares:  # sum p (1 - p), by pairs of tokens with the true one and without
                p = others / total
                without = max(p * p - squares / total / total, 0.0)
                out[level, 4, i] = 2 * p * (own_weight / total) + without


class Table(NamedTuple):
    """A codebook laid out for the kernel.

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
) -> Table:
    """Tiles of neighbouring tokens, filled up with tokens of no weight and zero coordinates.

    With `in_order` they are neighbours as they come.
    """
    K, n = points.shape
    size = min(TILE, -(-K // 8) * 8)
    count = -(-K // size)
    slots = np.empty(K, dtype=np.int64)
    slots[slice(None) if in_order else neighbourly(points, size)] = np.arange(K)
    places = np.zeros((count * size, -(-n // 4) * 4))
    places[slots, :n] = points
    tiles = np.ascontiguousarray(places.reshape(count, size, -1).transpose(0, 2, 1))
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
) -> Float[np.ndarray, "levels statistics samples"]:
    """Error, entropy and variance of the posterior, and its divergence from the prior.

    With `shares` also the probability that a token drawn from it is wrong, 1 - sum p^2.

    Every sample is computed by itself, so its bits depend on no block size and no thread count.
    Without `mmse` the work for the variance is saved, and what stands in its place is not it.
    With `single` most of the work is in single precision; the table should then be of a codebook
    whose distances squared are within 1e-30 .. 1e18.
    """
    order = np.argsort(h, kind="stable")
    slots = table.slots[ids]
    padded = np.zeros((ids.size, table.tiles.shape[1]))
    padded[:, : noise.shape[1]] = noise
    out = np.empty((h.size, 4 + shares, ids.size))
    how = (np.empty(0), SKIP, FLOOR)
    if single:
        how = (np.empty(0, np.float32), SKIP_SINGLE, FLOOR_SINGLE)

    def work(part: slice) -> None:
        _samples(*table[:4], slots[part], padded[part], h[order], mmse, *how, out[:, :, part])

    share_out(work, ids.size, TASK)
    return out[np.argsort(order)]
