"""The compiled loop behind `profile`: a discrete particle filter over the stages of an RVQ.

A particle is a prefix: one vector from each of the first stages, no two particles alike. At every
stage all children of all particles are scored; where they are more than the filter may keep, they
are thinned at random so that no sum changes in expectation (optimal resampling of Fearnhead and
Clifford 2003, JRSS B 65, section 3.2): children of weight w > c stay, others stay with probability
w / c and then count for 1 / (w / c) times as much; c is such that the wanted number stays. The
sum over the last stage's children, none of them thinned out, is an unbiased estimate of
Z = sum_k pi_k exp(-|y - h e_k|^2 / 2).

In the conditional run the true token's prefix is kept at every stage, and the rest of the thinning
is drawn given that it stays (Whiteley, Andrieu and Doucet 2010, arXiv:1011.2437).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tokenkl.numerics.compiled import compiled
from tokenkl.numerics.exp2 import LOG2_E, SUMS, exp2, larger

#: A child of less than this part of the total weight is never sure to be kept: where few
#: prefixes matter, fewer are followed than there is room for.
FLOOR = 1e-9
GOLDEN = 0.6180339887498949
#: Points whose distances are found together (`_distances` counts on it), and vectors to which.
ROWS, TILE = 4, 256
#: Samples that walk through the stages together, so that a table is read once for all of their
#: prefixes; most scores of theirs, but for a single sample.
BATCH, SCORES = 8, 2**22
#: Classes of a stage's vectors, of which a run looks at one where that is enough.
CLASSES = 8
#: Prefixes whose best leaf is below exp(-NEGLECTED) of the best one are left out of the moments.
NEGLECTED = 60.0
#: What a run returns before the posterior mean: log Z, the posterior means of -|d|^2/2 and of the
#: log-prior and of the log-weight of a leaf, the largest log-weight of a leaf without and with its
#: compensation for thinning, the posterior second moment about the reference, how many prefixes
#: there were at a stage, on average, the probability that two leaves drawn are the same, and that
#: of the true token (0 where its leaf was lost).
FIELDS = (
    "log_total",
    "energy",
    "log_prior",
    "log_weight",
    "best",
    "heaviest",
    "second",
    "prefixes",
    "alike",
    "found",
)


class Tables(NamedTuple):
    """What the filter looks up; tables that are not asked for may be empty.

    - `columns`: the stages' vectors turned, (stages, n, K), of the last stage at least; `vectors`
      the same, (stages, K, n), padded to common sizes; `lengths` the squares of the last stage's;
      `rough` the columns in single precision, `classes` the same by class, every CLASSES-th vector,
      (stages, CLASSES, n, K / CLASSES).
    - `moved`: roots[s]' roots[s]; `nearly` the same in single precision; `scaled`: roots[s] h c,
      (stages, n, K); `roots`: of the precision of the noise and all later stages.
    - `log_prior`: (stages, K); `biased` the same less half of |roots[s] h c|^2, `by_class` that by
      class.
    - `sizes`: numbers of vectors; `sparse`: where a prefix looks at one class.
    """

    columns: np.ndarray
    vectors: np.ndarray
    lengths: np.ndarray
    rough: np.ndarray
    classes: np.ndarray
    moved: np.ndarray
    nearly: np.ndarray
    scaled: np.ndarray
    roots: np.ndarray
    log_prior: np.ndarray
    biased: np.ndarray
    by_class: np.ndarray
    sizes: np.ndarray
    sparse: np.ndarray


@compiled(fastmath=SUMS)
def _distances(table, size, points, count, squared):  # type: ignore[no-untyped-def]
    """|points_r - table_j|^2 for every j, four rows at a time: the last ones may be no points.

    So the table comes from the cache once for four points, in pieces that stay in the nearest one.
    """
    for start in range(0, size, TILE):
        stop = min(start + TILE, size)
        for r in range(0, count, ROWS):
            a, b, c, d = points[r], points[r + 1], points[r + 2], points[r + 3]
            to_a, to_b = squared[r, start:stop], squared[r + 1, start:stop]
            to_c, to_d = squared[r + 2, start:stop], squared[r + 3, start:stop]
            to_a[:] = 0.0
            to_b[:] = 0.0
            to_c[:] = 0.0
            to_d[:] = 0.0
            for i in range(0, a.size, 2):
                x, y = table[i, start:stop], table[i + 1, start:stop]
                a0, b0, c0, d0 = a[i], b[i], c[i], d[i]
                a1, b1, c1, d1 = a[i + 1], b[i + 1], c[i + 1], d[i + 1]
                for j in range(x.size):
                    to_a[j] += (x[j] - a0) ** 2 + (y[j] - a1) ** 2
                    to_b[j] += (x[j] - b0) ** 2 + (y[j] - b1) ** 2
                    to_c[j] += (x[j] - c0) ** 2 + (y[j] - c1) ** 2
                    to_d[j] += (x[j] - d0) ** 2 + (y[j] - d1) ** 2


@compiled(fastmath=SUMS)
def _scores(log_prior, size, base, scores):  # type: ignore[no-untyped-def]
    """base + log_prior_j - scores_j / 2 in place of squared distances, and the largest of them."""
    top = -1e300
    for j in range(size):
        score = base + log_prior[j] - 0.5 * scores[j]
        scores[j] = score
        top = larger(top, score)
    return top


@compiled(fastmath=SUMS)
def _raised(biased, size, base, h, products, scores):  # type: ignore[no-untyped-def]
    """base + biased_j + h products_j, and the largest of them; products in any precision."""
    top = -1e300
    for j in range(size):
        score = base + biased[j] + h * products[j]
        scores[j] = score
        top = larger(top, score)
    return top


@compiled(fastmath=SUMS)
def _along(x, y):  # type: ignore[no-untyped-def]
    """x . y."""
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@compiled(fastmath=SUMS)
def _weights(scores, size, shift, weight):  # type: ignore[no-untyped-def]
    """exp(scores - shift), their sum and the largest."""
    total, top = 0.0, 0.0
    for j in range(size):
        w = exp2(LOG2_E * (scores[j] - shift))
        weight[j] = w
        total += w
        top = larger(top, w)
    return total, top


@compiled(fastmath=SUMS)
def _light(weight, size, c):  # type: ignore[no-untyped-def]
    """How many weights are above c, and the sum of the others."""
    above, rest = 0, 0.0
    for j in range(size):
        heavy = weight[j] > c
        above += heavy
        rest += 0.0 if heavy else weight[j]
    return above, rest


@compiled(fastmath=set())
def _threshold(weight, top, total, light, size, wanted):  # type: ignore[no-untyped-def]
    """The c with sum min(1, w / c) = wanted, or FLOOR of all; fills the light sum of each row.

    Starting from total / wanted, c falls monotonically and ends after finitely many steps.
    """
    everything = total.sum()
    c = everything / wanted
    while True:
        above, rest = 0, 0.0
        for r in range(total.size):
            if top[r] <= c:
                light[r] = total[r]
            else:
                count, light[r] = _light(weight[r], size, c)
                above += count
            rest += light[r]
        lower = FLOOR * everything
        if above < wanted:
            lower = max(lower, rest / (wanted - above))
        if not lower < c * (1 - 1e-12):  # nor does it go on with NaN
            return c
        c = lower


@compiled(fastmath=set())
def _first_child(row, size):  # type: ignore[no-untyped-def]
    """Where the comb starts in a row: rows that are alike then lose different children."""
    return int(GOLDEN * row % 1.0 * size)


@compiled(fastmath=SUMS)
def _row_moments(weight, vectors, size, offset, mean):  # type: ignore[no-untyped-def]
    """Add the weighted positions of one row of leaves to the mean; return their squares."""
    second = 0.0
    for i in range(offset.size):
        row, shift = vectors[i], offset[i]
        first = 0.0
        for j in range(size):
            x = row[j] + shift
            first += weight[j] * x
            second += weight[j] * x * x
        mean[i] += first
    return second


@compiled(fastmath=SUMS)
def _add(row, size, total):  # type: ignore[no-untyped-def]
    """Add a row to the total."""
    for j in range(size):
        total[j] += row[j]


@compiled(fastmath=SUMS)
def _pulled(weight, lengths, size, place, pulled, mass, mean):  # type: ignore[no-untyped-def]
    """`_row_moments` from the weighted sum of the row's vectors, `pulled`, and squared lengths."""
    second, along = 0.0, 0.0
    for j in range(size):
        second += weight[j] * lengths[j]
    for i in range(place.size):
        along += place[i] * (2.0 * pulled[i] + mass * place[i])
        mean[i] += pulled[i] + mass * place[i]
    return second + along


@compiled(fastmath=set())
def _thinned(  # type: ignore[no-untyped-def]
    score,
    weight,
    best,
    top,
    light,
    count,
    size,
    c,
    u,
    told,
    true_row,
    child,
    room,
    h,
    pace,
    offset,
    vectors,
    log_prior,
    residual,
    place,
    prior,
    extra,
    next_residual,
    next_place,
    next_prior,
    next_extra,
):
    """Fill `next_*` with the children that stay: how many, and which the true one is.

    `child` is the true token's; it stays where the run is told. c is the weight from which all
    stay, 0 where there is room for all; u places the comb. Child j of prefix r is
    vector number pace j + (offset + r) % pace, and counts for as many as there are of these.
    """
    if c > 0.0 and told and weight[true_row, child] <= c:
        # The comb of the systematic thinning must have a tooth in the true child's interval.
        position = u * weight[true_row, child]
        for r in range(true_row):
            position += light[r]
        j = _first_child(true_row, size)
        while j != child:
            if weight[true_row, j] <= c:
                position += weight[true_row, j]
            j = j + 1 if j + 1 < size else 0
        u = position / c - math.floor(position / c)
    kept, tooth, start = 0, u, 0.0
    inverse = 1.0 / c if c > 0.0 else 0.0
    next_row = -1
    for r in range(count):
        is_true = told and r == true_row
        stop = start + light[r] * inverse if c > 0.0 else start
        if c == 0.0 or top[r] > c or tooth < stop or is_true:
            along = start
            searching = c == 0.0 or top[r] > c or is_true
            j = _first_child(r, size) - 1
            for _ in range(size):
                if not searching and tooth >= stop:
                    break
                j = j + 1 if j + 1 < size else 0
                w = weight[r, j]
                forced = is_true and j == child
                keep, gain = True, 0.0
                if c > 0.0 and w <= c:
                    along += w * inverse
                    keep = forced
                    while tooth < along:
                        keep = True
                        tooth += 1.0
                    if keep:
                        gain = math.log(c) + best - score[r, j]
                if keep and (kept < room - 1 or forced):
                    if r == true_row and j == child:
                        next_row = kept
                    k = pace * j + (offset + r) % pace
                    for i in range(residual.shape[1]):
                        next_residual[kept, i] = residual[r, i] - h * vectors[k, i]
                        next_place[kept, i] = place[r, i] + vectors[k, i]
                    next_prior[kept] = prior[r] + log_prior[k]
                    next_extra[kept] = extra[r] + gain + math.log(pace)
                    kept += 1
        start = stop
    return kept, next_row


@compiled(fastmath=set())
def _summed(  # type: ignore[no-untyped-def]
    score,
    weight,
    best,
    top,
    count,
    size,
    shared,
    told,
    true_row,
    child,
    h,
    vectors,
    columns,
    log_prior,
    lengths,
    place,
    prior,
    extra,
    noise,
    heavy,
    points,
    products,
    moments,
    from_energy,
    shares,
    out,
):
    """What the leaves say, into `out`."""
    mass, scores, energy, log_priors, second, lightest = 0.0, 0.0, 0.0, 0.0, 0.0, -1e300
    alike, found = 0.0, 0.0
    mean = out[len(FIELDS) :]
    mean[:] = 0.0
    shared[:] = 0.0
    for r in range(count):
        lightest = max(lightest, top[r] - extra[r])
        heavy[r] = 0.0
        if top[r] < best - NEGLECTED:
            weight[r] = 0.0
            continue
        row_mass, _ = _weights(score[r], size, best, weight[r])
        heavy[r] = row_mass
        row_score = 0.0
        for j in range(size):
            row_score += weight[r, j] * (score[r, j] - best)
        row_prior = row_mass * prior[r]
        for j in range(size):
            row_prior += weight[r, j] * log_prior[j]
        if moments and from_energy:
            _add(weight[r], size, shared)
            for i in range(mean.size):
                mean[i] += row_mass * place[r, i]
        elif moments and not products:
            second += _row_moments(weight[r], columns, size, place[r], mean)
        if shares:
            for j in range(size):
                alike += weight[r, j] * weight[r, j]
            if told and r == true_row:
                found = weight[r, child]
        mass += row_mass
        scores += row_score
        energy += row_score + row_mass * (best - extra[r]) - row_prior
        log_priors += row_prior
    if moments and from_energy:
        # With b = y - h reference and e from there, |b - h e|^2 = -2 energy.
        mean += np.dot(shared, vectors)
        along = 2.0 * h * _along(noise, mean)
        second = (along - 2.0 * energy - mass * _along(noise, noise)) / h**2
    elif moments and products:
        np.dot(weight[:count], vectors, points[:count])
        for r in range(count):
            if heavy[r] > 0.0:
                known = size, place[r], points[r], heavy[r], mean
                second += _pulled(weight[r], lengths, *known)
    out[0] = best + math.log(mass)
    out[1] = energy / mass
    out[2] = log_priors / mass
    out[3] = best + scores / mass
    out[4] = lightest
    out[5] = best
    out[6] = second / mass
    out[8] = alike / mass / mass
    out[9] = found / mass
    mean /= mass


@compiled(fastmath=set())
def _batch(  # type: ignore[no-untyped-def]
    tables,
    h,
    y,
    reference,
    paths,
    uniforms,
    wanted,
    room,
    products,
    moments,
    from_energy,
    shares,
    out,
):
    """`filter_samples` for a few samples, whose prefixes are scored together."""
    columns, vectors, lengths, rough, classes = (
        tables.columns, tables.vectors, tables.lengths, tables.rough, tables.classes,
    )  # fmt: skip
    moved, nearly, scaled, roots = tables.moved, tables.nearly, tables.scaled, tables.roots
    log_prior, biased, by_class = tables.log_prior, tables.biased, tables.by_class
    sizes, sparse = tables.sizes, tables.sparse
    stages, n, runs = vectors.shape[0], y.shape[1], uniforms.shape[1]
    filters = y.shape[0] * runs
    rows, widest = filters * room, vectors.shape[1]
    single = products and nearly.shape[0] > 0
    residual, place = np.empty((rows, n)), np.empty((rows, n))
    next_residual, next_place = np.empty((rows, n)), np.empty((rows, n))
    # log of the prior of a prefix, and of what makes up for the thinning.
    prior, extra = np.zeros(rows), np.zeros(rows)
    next_prior, next_extra = np.empty(rows), np.empty(rows)
    top, total, light, heavy = np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    score, weight = np.zeros((room, widest)), np.zeros((room, widest))
    shared = np.empty(widest)
    turned, points = np.empty((rows, n)), np.zeros((room, n))
    near, nearer = np.empty((rows, n), np.float32), np.empty((rows, n), np.float32)
    roughly = np.empty((rows if single else 0, widest), np.float32)
    flat = roughly
    exactly = np.empty((rows if products else 0, widest))
    first, counts = np.empty(filters + 1, np.int64), np.ones(filters, np.int64)
    true_row, chosen = np.zeros(filters, np.int64), np.zeros(filters, np.int64)
    at = np.zeros(rows, np.int64)
    ends = np.empty(CLASSES + 1, np.int64)
    for f in range(filters):
        residual[f] = y[f // runs]
        place[f] = -reference[f // runs]
        first[f] = f
        out[f // runs, f % runs, 7] = 0.0
    first[filters] = filters
    for s in range(stages):
        size, last, whole = sizes[s], s == stages - 1, first[filters]
        # Thinning may go by any scores; the weights of leaves are what has to be right.
        pace = CLASSES if single and not last and sparse[s] else 1
        if single and not last:
            # One after the other those that look at the same class of vectors.
            ends[0] = 0
            for f in range(filters):
                i, run = f // runs, f % runs
                own = (paths[i, s] - true_row[f]) % pace
                chosen[f] = own if run > 0 else int(uniforms[i, run, s] * pace)
            for a in range(pace):
                ends[a + 1] = ends[a]
                for f in range(filters):
                    for r in range((a - chosen[f]) % pace, counts[f], pace):
                        near[ends[a + 1]] = residual[first[f] + r]
                        at[first[f] + r] = ends[a + 1]
                        ends[a + 1] += 1
            np.dot(near[:whole], nearly[s], nearer[:whole])
            turned[:whole] = nearer[:whole]
            if pace == 1:
                np.dot(nearer[:whole], rough[s], roughly[:whole])
            else:
                width = classes.shape[3]
                flat = roughly.reshape(-1)[: whole * width].reshape((whole, width))
                for a in range(pace):
                    own = slice(ends[a], ends[a + 1])
                    if ends[a + 1] > ends[a]:
                        np.dot(nearer[own], classes[s, a], flat[own])
        elif products:
            turned[:whole] = residual[:whole]
            if not last:
                np.dot(residual[:whole], moved[s], turned[:whole])
            np.dot(turned[:whole], columns[s - stages], exactly[:whole])
        next_start = 0
        for f in range(filters):
            start, count = first[f], counts[f]
            told, i, run = f % runs > 0, f // runs, f % runs
            out[i, run, 7] += count / stages
            best = -1e300
            if not products:
                np.dot(residual[start : start + count], roots[s].T, points[:count])
                _distances(scaled[s], size, points, count, score)
            if pace > 1:
                size = sizes[s] // pace
            for r in range(count):
                row = start + r
                base = prior[row] + extra[row]
                if single and not last:
                    base -= 0.5 * _along(residual[row], turned[at[row]])
                elif products:
                    base -= 0.5 * _along(residual[row], turned[row])
                if pace > 1:
                    raised = by_class[s, (chosen[f] + r) % pace]
                    top[r] = _raised(raised, size, base, h, flat[at[row]], score[r])
                elif single and not last:
                    top[r] = _raised(biased[s], size, base, h, roughly[at[row]], score[r])
                elif products:
                    top[r] = _raised(biased[s], size, base, h, exactly[row], score[r])
                else:
                    top[r] = _scores(log_prior[s], size, base, score[r])
                best = max(best, top[r])
            own = slice(start, start + count)
            if last:
                _summed(
                    score,
                    weight,
                    best,
                    top,
                    count,
                    size,
                    shared,
                    told,
                    true_row[f],
                    paths[i, s],
                    h,
                    vectors[s],
                    columns[s - stages],
                    log_prior[s],
                    lengths,
                    place[own],
                    prior[own],
                    extra[own],
                    y[i] - h * reference[i],
                    heavy,
                    points,
                    products,
                    moments,
                    from_energy,
                    shares,
                    out[i, run],
                )
                continue
            for r in range(count):
                total[r], top[r] = _weights(score[r], size, best, weight[r])
            c = 0.0
            if count * size > wanted:
                c = _threshold(weight, top[:count], total[:count], light, size, wanted)
            u, child = uniforms[i, run, s], paths[i, s]
            if pace > 1:  # the rest of the number that chose the class is as uniform
                u, child = u * pace % 1.0, child // pace
            to = slice(next_start, next_start + room)
            kept, next_row = _thinned(
                score,
                weight,
                best,
                top,
                light,
                count,
                size,
                c,
                u,
                told,
                true_row[f],
                child,
                room,
                h,
                pace,
                chosen[f] if pace > 1 else 0,
                vectors[s],
                log_prior[s],
                residual[own],
                place[own],
                prior[own],
                extra[own],
                next_residual[to],
                next_place[to],
                next_prior[to],
                next_extra[to],
            )
            first[f], counts[f], true_row[f] = next_start, kept, next_row
            next_start += kept
        first[filters] = next_start
        residual, next_residual = next_residual, residual
        place, next_place = next_place, place
        prior, next_prior = next_prior, prior
        extra, next_extra = next_extra, extra


@compiled(fastmath=set())
def filter_samples(  # type: ignore[no-untyped-def]
    tables,
    h,
    y,
    reference,
    paths,
    uniforms,
    wanted,
    products,
    moments,
    from_energy,
    shares,
    out,
):
    """Fill out[sample, run]: run 0 knows the observation alone, the others also the true token.

    `reference` is where the true token sits, `paths` its indices. A residual r has the score
    -|roots[s] (r - h c)|^2 / 2 for every vector c of stage s, a Mahalanobis norm against the noise
    and all later stages: by differences, or with `products` from r' moved[s] h c, which is three
    times faster, with rounding like that of the squares of y and of the sums of vectors. Where
    `nearly` is not empty, prefixes are thinned out by products in single precision, which changes
    no expectation: the leaves have double precision. Where `sparse[s]`, a prefix looks at one of
    CLASSES classes of the vectors of stage s, whose members count for all, the next prefix at the
    next class, from one that is drawn. Without `moments` the posterior moments are left out, and
    with `from_energy` second ones come from the mean of |y - h e|^2, with its rounding over h^2;
    without `shares` the last two of `FIELDS` are 0. Samples are taken some at a time, always the
    same ones of y, so bits depend on no thread count.
    """
    room, runs = ROWS * (-(-(wanted + 4) // ROWS)), uniforms.shape[1]
    batch = min(BATCH, max(1, SCORES // (runs * room * tables.vectors.shape[1])))
    for start in range(0, y.shape[0], batch):
        part = slice(start, start + batch)
        _batch(
            tables,
            h,
            y[part],
            reference[part],
            paths[part],
            uniforms[part],
            wanted,
            room,
            products,
            moments,
            from_energy,
            shares,
            out[part],
        )
