"""Grids of levels with the least total cost, where every step has a cost of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

#: cost(start, stop) of steps between positions, all pairs of the last axes; infinite backwards.
Cost = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Places tried for every point in a round of refinement, and the smallest distance between them.
CANDIDATES = 9
FINEST = 1e-9
MAX_ROUNDS = 200


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


def best_of(
    x: Float[np.ndarray, " levels"], cost: Cost, steps: int
) -> Float[np.ndarray, " points"]:
    """Positions of the best grid among these, which are more than the steps."""
    path = cheapest_paths(cost(x, x), steps)[-1][1]
    assert path is not None
    return np.asarray(x[path])


def refined(x: Float[np.ndarray, " points"], cost: Cost) -> Float[np.ndarray, " points"]:
    """Local optimum around a grid: shortest paths through a few places for every point."""
    offsets = np.linspace(-1, 1, CANDIDATES)
    if x.size == 2:
        return x
    width = np.minimum(np.diff(x)[:-1], np.diff(x)[1:]).max()
    for _ in range(MAX_ROUNDS):
        places = np.clip(x[:, None] + width * offsets, x[0], x[-1])
        places[0], places[-1] = x[0], x[-1]
        layers = cost(places[:-1], places[1:])
        layers[0, 1:] = np.inf  # the ends have one place each
        layers[-1][:, 1:] = np.inf
        reach = np.zeros(CANDIDATES)
        arrows = []
        for layer in layers:
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
