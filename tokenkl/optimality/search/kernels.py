"""Distances to listed neighbours and their gradients, and swaps of tokens: machine code.

Lists are those of sparse rows: the neighbours of token k are others[first[k] : first[k + 1]].
"""

from __future__ import annotations

import math

import numpy as np

from tokenkl.numerics.compiled import compiled


@compiled(fastmath=set())
def _listed_squares(points, k, others, start, stop, squares):  # type: ignore[no-untyped-def]
    """Squared distances of token k from those listed; the smallest of them."""
    best = math.inf
    for place in range(start, stop):
        j = others[place]
        square = 0.0
        for c in range(points.shape[1]):
            step = points[k, c] - points[j, c]
            square += step * step
        squares[place] = square
        best = min(best, square)
    return best


@compiled(fastmath=set())
def hard_mean(points, first, others, radii, slope):  # type: ignore[no-untyped-def]
    """D over the listed pairs; `radii` gets the distances, `slope` the gradient.

    Of several nearest neighbours the one that is listed first pulls.
    """
    K, n = points.shape
    slope[:] = 0.0
    total = 0.0
    for k in range(K):
        best, near = math.inf, -1
        for place in range(first[k], first[k + 1]):
            j = others[place]
            square = 0.0
            for c in range(n):
                step = points[k, c] - points[j, c]
                square += step * step
            if square < best:
                best, near = square, j
        r = math.sqrt(best)
        radii[k] = r
        total += r
        if near >= 0 and r > 0:
            for c in range(n):
                pull = (points[k, c] - points[near, c]) / (r * K)
                slope[k, c] += pull
                slope[near, c] -= pull
    return total / K


@compiled(fastmath=set())
def soft_mean(points, first, others, power, radii, weights, slope):  # type: ignore[no-untyped-def]
    """Mean over k of (sum_j |e_k - e_j|^-power)^(-1/power), below D, which it tends to.

    `weights` is room for one number a listed pair; `radii` gets the distances.
    """
    K, n = points.shape
    slope[:] = 0.0
    total = 0.0
    for k in range(K):
        start, stop = first[k], first[k + 1]
        best = _listed_squares(points, k, others, start, stop, weights)
        radii[k] = math.sqrt(best)
        if not (0.0 < best < math.inf):
            continue
        mass = 0.0
        for place in range(start, stop):
            mass += (best / weights[place]) ** (0.5 * power)
        r = math.sqrt(best) * mass ** (-1.0 / power)
        total += r
        for place in range(start, stop):
            square = weights[place]
            share = (best / square) ** (0.5 * power)
            if share < 1e-17:
                continue
            j = others[place]
            factor = r * share / (mass * square * K)
            for c in range(n):
                pull = factor * (points[k, c] - points[j, c])
                slope[k, c] += pull
                slope[j, c] -= pull
    return total / K


@compiled(fastmath=set())
def soft_minimum(points, first, others, power, radii, weights, slope):  # type: ignore[no-untyped-def]
    """(sum over listed pairs of |e_k - e_j|^-power)^(-1/power), below the smallest distance."""
    K, n = points.shape
    slope[:] = 0.0
    least = math.inf
    for k in range(K):
        best = _listed_squares(points, k, others, first[k], first[k + 1], weights)
        radii[k] = math.sqrt(best)
        least = min(least, best)
    if not (0.0 < least < math.inf):
        return 0.0
    mass = 0.0
    for place in range(first[K]):
        mass += (least / weights[place]) ** (0.5 * power)
    r = math.sqrt(least) * mass ** (-1.0 / power)
    for k in range(K):
        for place in range(first[k], first[k + 1]):
            square = weights[place]
            share = (least / square) ** (0.5 * power)
            if share < 1e-17:
                continue
            j = others[place]
            factor = r * share / (mass * square)
            for c in range(n):
                pull = factor * (points[k, c] - points[j, c])
                slope[k, c] += pull
                slope[j, c] -= pull
    return r


@compiled(fastmath=set())
def _reach(k, first, others, distance, inside, beyond):  # type: ignore[no-untyped-def]
    """Distance from candidate k to the nearest one inside; neighbours are listed by distance."""
    for place in range(first[k], first[k + 1]):
        if inside[others[place]]:
            return distance[place]
    return beyond


@compiled(fastmath=set())
def anneal_subset(first, others, distance, inside, hot, cold, draws, beyond):  # type: ignore[no-untyped-def]
    """Swap candidates in and out of a set so that the sum of nearest distances inside grows.

    Metropolis at temperatures that fall from `hot` to `cold` geometrically. A move takes out a
    random member and puts in either any candidate or, half of the time, one listed near another
    member that would be left far from all. `draws` are (steps, 4) uniform numbers. `inside` becomes
    the best set met; returns its sum.
    """
    M = inside.size
    members = np.flatnonzero(inside)
    outsiders = np.flatnonzero(~inside)
    radius = np.zeros(M)
    total = 0.0
    for k in members:
        radius[k] = _reach(k, first, others, distance, inside, beyond)
        total += radius[k]
    best_total, best = total, inside.copy()
    steps = draws.shape[0]
    touched = np.empty(2 * M, dtype=np.int64)
    before = np.empty(2 * M)
    for step in range(steps):
        heat = hot * (cold / hot) ** (step / steps)
        place_out = int(draws[step, 0] * members.size)
        place_in = int(draws[step, 1] * outsiders.size)
        out, new = members[place_out], outsiders[place_in]
        if draws[step, 2] < 0.5:
            # A neighbour of the newcomer leaves: sets of far-apart tokens need gaps of one shape.
            span = first[new + 1] - first[new]
            if span > 0:
                j = others[first[new] + int(draws[step, 0] * span)]
                if inside[j]:
                    place_out = -1
                    out = j
        inside[out] = False
        inside[new] = True
        count = 0
        change = -radius[out]
        fresh = _reach(new, first, others, distance, inside, beyond)
        change += fresh
        for place in range(first[out], first[out + 1]):
            j = others[place]
            if inside[j] and j != new and radius[j] >= distance[place] - 1e-12:
                found = _reach(j, first, others, distance, inside, beyond)
                if found != radius[j]:
                    touched[count] = j
                    before[count] = radius[j]
                    count += 1
                    change += found - radius[j]
                    radius[j] = found
        for place in range(first[new], first[new + 1]):
            j = others[place]
            if inside[j] and distance[place] < radius[j]:
                touched[count] = j
                before[count] = radius[j]
                count += 1
                change += distance[place] - radius[j]
                radius[j] = distance[place]
        if change >= 0 or math.exp(change / heat) > draws[step, 3]:
            radius[new] = fresh
            total += change
            if place_out < 0:
                for place in range(members.size):
                    if members[place] == out:
                        place_out = place
                        break
            members[place_out] = new
            outsiders[place_in] = out
            if total > best_total + 1e-9:
                best_total = total
                best[:] = inside
        else:
            inside[out] = True
            inside[new] = False
            for place in range(count - 1, -1, -1):
                radius[touched[place]] = before[place]
    inside[:] = best
    return best_total


@compiled(fastmath=set())
def anneal_isolated(first, others, gains, budget, chosen, hot, cold, penalty, draws):  # type: ignore[no-untyped-def]
    """Which candidates to isolate, where all neighbours of an isolated one have to go.

    Maximises the sum of `gains` of the chosen ones, as long as at most `budget` candidates go;
    each one beyond costs `penalty` on the way. A move drops a chosen candidate, or chooses one and
    drops those of its neighbours that are chosen. `draws` are (steps, 3) uniform numbers. `chosen`
    becomes the best choice within the budget; returns its gain.
    """
    M = chosen.size
    covers = np.zeros(M, dtype=np.int64)
    covered, gain = 0, 0.0
    members = np.empty(M, dtype=np.int64)
    place_of = np.full(M, -1)
    size = 0
    for v in range(M):
        if chosen[v]:
            members[size] = v
            place_of[v] = size
            size += 1
            gain += gains[v]
            for place in range(first[v], first[v + 1]):
                j = others[place]
                if covers[j] == 0:
                    covered += 1
                covers[j] += 1
    best_gain = gain if covered <= budget else -1.0
    best = chosen.copy()
    dropped = np.empty(M, dtype=np.int64)
    steps = draws.shape[0]
    for step in range(steps):
        heat = hot * (cold / hot) ** (step / steps)
        new = -1
        drops = 0
        if draws[step, 0] < 0.35 and size > 0:
            dropped[0] = members[int(draws[step, 1] * size)]
            drops = 1
        else:
            new = int(draws[step, 1] * M)
            if chosen[new]:
                continue
            for place in range(first[new], first[new + 1]):
                if chosen[others[place]]:
                    dropped[drops] = others[place]
                    drops += 1
        before = gain - penalty * max(0, covered - budget)
        for index in range(drops):
            v = dropped[index]
            gain -= gains[v]
            for place in range(first[v], first[v + 1]):
                j = others[place]
                covers[j] -= 1
                if covers[j] == 0:
                    covered -= 1
        if new >= 0:
            gain += gains[new]
            for place in range(first[new], first[new + 1]):
                j = others[place]
                if covers[j] == 0:
                    covered += 1
                covers[j] += 1
        change = gain - penalty * max(0, covered - budget) - before
        if change >= 0 or math.exp(change / heat) > draws[step, 2]:
            for index in range(drops):
                v = dropped[index]
                chosen[v] = False
                size -= 1
                last = members[size]
                members[place_of[v]] = last
                place_of[last] = place_of[v]
                place_of[v] = -1
            if new >= 0:
                chosen[new] = True
                members[size] = new
                place_of[new] = size
                size += 1
            if covered <= budget and gain > best_gain + 1e-9:
                best_gain = gain
                best[:] = chosen
        else:
            if new >= 0:
                gain -= gains[new]
                for place in range(first[new], first[new + 1]):
                    j = others[place]
                    covers[j] -= 1
                    if covers[j] == 0:
                        covered -= 1
            for index in range(drops):
                v = dropped[index]
                gain += gains[v]
                for place in range(first[v], first[v + 1]):
                    j = others[place]
                    if covers[j] == 0:
                        covered += 1
                    covers[j] += 1
    chosen[:] = best
    return best_gain


@compiled(fastmath=set())
def climb_in_box(points, first, others, power, minimum, steps, memory):  # type: ignore[no-untyped-def]
    """Projected quasi-Newton ascent (L-BFGS) of a soft distance in [-1, 1]^n, all in one piece.

    For few tokens, where calls cost more than sums: the same steps through SciPy take 20 times as
    long. Moves are at most a third of the smallest distance, so that tokens do not jump over each
    other. Returns the points and the value.
    """
    K, n = points.shape
    size = K * n
    x = points.copy()
    slope, new_slope = np.empty((K, n)), np.empty((K, n))
    radii, weights = np.empty(K), np.empty(first[K])
    if minimum:
        value = soft_minimum(x, first, others, power, radii, weights, slope)
    else:
        value = soft_mean(x, first, others, power, radii, weights, slope)
    moves, changes = np.zeros((memory, size)), np.zeros((memory, size))
    scales, factors = np.zeros(memory), np.zeros(memory)
    kept = 0
    trial = np.empty((K, n))
    direction = np.empty(size)
    held = np.zeros(size, dtype=np.bool_)
    for _ in range(steps):
        flat, gradient = x.reshape(size), slope.reshape(size)
        steepest = 0.0
        for i in range(size):
            held[i] = (flat[i] >= 1 and gradient[i] > 0) or (flat[i] <= -1 and gradient[i] < 0)
            direction[i] = 0.0 if held[i] else gradient[i]
            steepest = max(steepest, abs(direction[i]))
        if steepest < 1e-11:
            break
        for back in range(min(kept, memory)):
            place = (kept - 1 - back) % memory
            factors[place] = scales[place] * (moves[place] @ direction)
            direction -= factors[place] * changes[place]
        if kept > 0:
            last = (kept - 1) % memory
            direction *= 1 / (scales[last] * (changes[last] @ changes[last]))
        for back in range(min(kept, memory) - 1, -1, -1):
            place = (kept - 1 - back) % memory
            direction += (factors[place] - scales[place] * (changes[place] @ direction)) * moves[
                place
            ]
        along, longest = 0.0, 0.0
        for i in range(size):
            if held[i]:
                direction[i] = 0.0
            along += direction[i] * gradient[i]
            longest = max(longest, abs(direction[i]))
        if along <= 0 or longest == 0:
            if kept == 0:
                break
            kept = 0
            continue
        reach = radii.min() / 3
        step = min(1.0, reach / longest) if kept > 0 else 0.3 * reach / longest
        better = False
        for _half in range(16):
            moved, gain = trial.reshape(size), 0.0
            for i in range(size):
                moved[i] = min(1.0, max(-1.0, flat[i] + step * direction[i]))
                gain += gradient[i] * (moved[i] - flat[i])
            if minimum:
                new = soft_minimum(trial, first, others, power, radii, weights, new_slope)
            else:
                new = soft_mean(trial, first, others, power, radii, weights, new_slope)
            if new >= value + 1e-4 * gain and gain > 0:
                better = True
                break
            step *= 0.4
        if not better:
            if kept == 0:
                break
            kept = 0
            continue
        place = kept % memory
        other = new_slope.reshape(size)
        curve = 0.0
        for i in range(size):
            moves[place, i] = moved[i] - flat[i]
            changes[place, i] = gradient[i] - other[i]
            curve += moves[place, i] * changes[place, i]
        rise = new - value
        x[:] = trial
        slope[:] = new_slope
        value = new
        if curve > 0:
            scales[place] = 1 / curve
            kept += 1
        if rise < 1e-13 * abs(value):
            break
    return x, value


@compiled(fastmath=set())
def walk_on_grid(points, top, hot, cold, draws, roots, best, best_total):  # type: ignore[no-untyped-def]
    """Move tokens with coordinates in 0 .. top so that their nearest distances grow in sum.

    Metropolis at temperatures that fall from `hot` to `cold` geometrically. `roots` are distances
    by squared number of steps; `draws` are (steps, 6) uniform numbers. `points` moves on, `best`
    becomes the best that was met if its sum exceeds `best_total`; returns the sum of `best`.
    """
    K, n = points.shape
    far = roots.size
    squares = np.full((K, K), far)
    radius = np.full(K, far)
    total = 0.0
    for k in range(K):
        for j in range(K):
            if j != k:
                square = 0
                for c in range(n):
                    square += (points[k, c] - points[j, c]) ** 2
                squares[k, j] = square
                radius[k] = min(radius[k], square)
        total += roots[radius[k]]
    moved, after, place = np.empty(K, np.int64), np.empty(K, np.int64), np.empty(n, np.int64)
    steps = draws.shape[0]
    for step in range(steps):
        heat = hot * (cold / hot) ** (step / steps)
        k = int(draws[step, 0] * K)
        for c in range(n):
            place[c] = points[k, c]
        kind = draws[step, 1]
        axis = int(draws[step, 2] * n)
        if kind < 0.25:
            place[axis] = int(draws[step, 4] * (top + 1))
        else:
            place[axis] += 1 if draws[step, 4] < 0.5 else -1
            if kind < 0.5:
                place[int(draws[step, 3] * n)] += 1 if (4 * draws[step, 4]) % 2 < 1 else -1
        least = far
        for c in range(n):
            if place[c] < 0 or place[c] > top:
                least = 0
        if least == 0:
            continue
        for j in range(K):
            moved[j] = far
            if j != k:
                square = 0
                for c in range(n):
                    square += (place[c] - points[j, c]) ** 2
                moved[j] = square
                least = min(least, square)
        if least == 0:
            continue
        change = roots[least] - roots[radius[k]]
        for j in range(K):
            after[j] = radius[j]
            if j == k:
                after[j] = least
                continue
            if moved[j] <= radius[j]:
                after[j] = moved[j]
            elif squares[j, k] == radius[j]:
                after[j] = moved[j]
                for i in range(K):
                    if i != k:
                        after[j] = min(after[j], squares[j, i])
            if after[j] != radius[j]:
                change += roots[after[j]] - roots[radius[j]]
        if change >= 0 or math.exp(change / heat) > draws[step, 5]:
            total += change
            for c in range(n):
                points[k, c] = place[c]
            for j in range(K):
                radius[j] = after[j]
                squares[j, k] = squares[k, j] = moved[j]
            if total > best_total + 1e-9:
                best_total = total
                best[:] = points
    return best_total
