"""The best grid of SNRs for a curve of MMSEs: shortest paths, then places ever closer by."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Int

from tokenkl.divergence.mmse_table import MmseCurve

#: Steps up to which the search starts from the best grid among this many SNRs.
MOST_SEARCHED, SEARCH_LEVELS = 64, 400
#: Places tried for every point in a round of refinement, and the smallest distance between them,
#: in x = log(1 + D^2 snr).
CANDIDATES = 9
FINEST = 1e-9
MAX_ROUNDS = 200
#: Points of the quadrature of the optimal density for each node of the table.
DENSE = 4


def best_grid(table: MmseCurve, N: int, low: float, high: float) -> np.ndarray:
    """The N-step grid from low to high that costs least by this curve, as far as is found."""
    x = _refined(table, _searched(table, N) if N <= MOST_SEARCHED else _by_density(table, N))
    return np.concatenate([[low], table.nodes.snr_of(x[1:-1]), [high]])


def cheapest_paths(
    cost: Float[np.ndarray, "levels levels"], steps: int
) -> list[tuple[float, Int[np.ndarray, " points"] | None]]:
    """For 1 .. `steps` steps: the least total cost from first to last level, and the levels.

    `cost[i, j]` is the cost of a step from level i to level j; infinite where it is not allowed.
    Dynamic programming over all paths: the optimum is global. Where there is no path with that many
    steps, the cost is infinite and the levels are None.
    """
    end = len(cost) - 1
    reach = np.full(len(cost), np.inf)
    reach[0] = 0.0
    arrows: list[np.ndarray] = []
    found: list[tuple[float, np.ndarray | None]] = []
    for _ in range(steps):
        total = reach[:, None] + cost
        arrows.append(total.argmin(axis=0))
        reach = total.min(axis=0)
        if not np.isfinite(reach[end]):
            found.append((math.inf, None))
            continue
        path = [end]
        for arrow in reversed(arrows):
            path.append(int(arrow[path[-1]]))
        found.append((float(reach[end]), np.array(path[::-1])))
    return found


def density_of(table: MmseCurve) -> tuple[np.ndarray, np.ndarray]:
    """Positions x, and the integral of sqrt(-d mmse / d snr) d snr up to them."""
    nodes = table.nodes.x
    inside = np.diff(nodes)[:, None] * np.arange(DENSE) / DENSE
    x = np.append((nodes[:-1, None] + inside).ravel(), nodes[-1])
    slope = table.slope(table.nodes.snr_of(x))
    density = np.sqrt(np.maximum(-slope, 0)) * np.exp(x) / table.nodes.scale
    # Simpson's rule over pairs of intervals, linear in between.
    width = x[2::2] - x[:-2:2]
    pairs = (density[:-2:2] + 4 * density[1:-1:2] + density[2::2]) * width / 6
    return x[::2], np.concatenate([[0.0], np.cumsum(pairs)])


def _cost(table: MmseCurve, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Cost of steps between positions x, all pairs of the last axes."""
    return table.cost(table.nodes.snr_of(start), table.nodes.snr_of(stop))


def candidates(table: MmseCurve, N: int) -> np.ndarray:
    """Positions that the search for N steps chooses from."""
    x, total = density_of(table)
    share = x / x[-1] + (total / total[-1] if total[-1] > 0 else 0)
    return np.interp(np.linspace(0, share[-1], max(SEARCH_LEVELS, 4 * N)), share, x)


def _searched(table: MmseCurve, N: int) -> np.ndarray:
    """Positions of the best grid among the candidates, by a shortest path."""
    x = candidates(table, N)
    path = cheapest_paths(_cost(table, x, x), N)[-1][1]
    assert path is not None  # there are more levels than steps
    return np.asarray(x[path])


def _by_density(table: MmseCurve, N: int) -> np.ndarray:
    """Positions at equal parts of the integral of the optimal density."""
    x, total = density_of(table)
    return np.interp(np.linspace(0, total[-1], N + 1), total, x)


def _refined(table: MmseCurve, x: np.ndarray) -> np.ndarray:
    """Local optimum around a grid: shortest paths through a few places for every point."""
    offsets = np.linspace(-1, 1, CANDIDATES)
    if x.size == 2:
        return x
    width = np.minimum(np.diff(x)[:-1], np.diff(x)[1:]).max()
    for _ in range(MAX_ROUNDS):
        places = np.clip(x[:, None] + width * offsets, x[0], x[-1])
        places[0], places[-1] = x[0], x[-1]
        cost = _cost(table, places[:-1], places[1:])
        cost[0, 1:] = np.inf  # the ends have one place each
        cost[-1][:, 1:] = np.inf
        reach = np.zeros(CANDIDATES)
        arrows = []
        for layer in cost:
            total = reach[:, None] + layer
            arrows.append(total.argmin(axis=0))
            reach = total.min(axis=0)
        choice = [0]
        for arrow in reversed(arrows):
            choice.append(int(arrow[choice[-1]]))
        choice.reverse()
        x = places[np.arange(x.size), choice]
        inside = np.array(choice[1:-1])
        if ((inside > 0) & (inside < CANDIDATES - 1)).all():
            width /= 3  # every optimum lies inside its places: look closer
            if width < FINEST:
                break
    return x
