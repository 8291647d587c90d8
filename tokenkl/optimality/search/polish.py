"""Monotone polish of distances by linear programmes.

A norm is convex: |e_k + v_k - e_j - v_j| >= |e_k - e_j| + <u_kj, v_k - v_j>. So the best slopes t_k
below the right-hand sides are a true lower bound on what the motion v reaches, and since v = 0
is feasible it never falls below what is there: in a box, every solution is a step upwards. Motions
are at most `reach` in every coordinate, so that no pair off the list can come near.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality.search.spaces import Space

#: Rises below this part of the value make the reach smaller, by these factors: in a box, where a
#: programme says what it reaches, and under curved constraints, where it is brought back to them.
ENOUGH, SMALLER, GENTLY = 1e-14, 1e-4, 1 / 8
#: First reach of a motion, in units of the mean nearest distance, and the smallest one.
REACH, LEAST = 0.1, 1e-10
#: Most programmes of one polish.
ROUNDS = 60
#: A pair is listed if it can come within this part of the reach, in units of sqrt(n).
TOUCH = 4.0


def polish(
    points: Float[np.ndarray, "K n"],
    space: Space,
    minimum: bool,
    rounds: int = ROUNDS,
    reach: float = REACH,
) -> tuple[float, Float[np.ndarray, "K n"]]:
    """Raise D, or the smallest distance, until no linear programme does.

    Returns the value and the points, which satisfy the constraint; never worse than they came.
    """
    points = space.inside(points)
    radii = nearest_distances(points)
    value = float(radii.min() if minimum else radii.mean())
    unit = float(radii.mean())
    size = reach * unit
    smaller = SMALLER if space.constraint == "box" else GENTLY
    for _ in range(rounds):
        if size < LEAST * unit or radii.min() == 0:
            break
        motion = _step(points, radii, space, minimum, size)
        if motion is None:
            size *= smaller
            continue
        moved = space.inside(points + motion)
        found = nearest_distances(moved)
        new = float(found.min() if minimum else found.mean())
        used = float(np.abs(motion).max())
        rise = new - value
        if rise > 0:
            points, radii, value = moved, found, new
        if rise < ENOUGH * value:  # what is left is below the tolerance of programmes of this size
            size = min(size, used) * smaller
        elif used < size / 2:
            size = max(4 * used, LEAST * unit)
    return value, points


def _step(
    points: np.ndarray, radii: np.ndarray, space: Space, minimum: bool, size: float
) -> np.ndarray | None:
    """The best motion of the linear programme, at most `size` in every coordinate."""
    from scipy import sparse  # slow to import
    from scipy.optimize import linprog

    K, n = points.shape
    far = (np.full(K, radii.min()) if minimum else radii) + TOUCH * size * np.sqrt(n)
    first, second = pairs_within(points, far, once=minimum)
    across = points[first] - points[second]
    distance = np.sqrt(np.square(across).sum(axis=1))
    units = across / distance[:, None]
    # Unknowns: v in units of the size, and rises t of the owners above what they have now.
    if minimum:
        owner, owners, base = np.zeros(first.size, dtype=np.int64), 1, radii.min()
    else:
        owner, owners, base = first, K, radii[first]
    # Rows t - <u, v_k - v_j> <= distance - base, made in one piece: blocks take scipy longer than
    # HiGHS takes to solve a small programme.
    axes = np.arange(n)
    columns = np.concatenate(
        [first[:, None] * n + axes, second[:, None] * n + axes, K * n + owner[:, None]], axis=1
    )
    entries = np.concatenate([-units, units, np.ones((first.size, 1))], axis=1)
    ends = (2 * n + 1) * np.arange(first.size + 1)
    above = sparse.csr_array(
        (entries.ravel(), columns.ravel(), ends), shape=(first.size, K * n + owners)
    )
    most = (distance - base) / size
    if space.constraint == "box":
        low = np.maximum(-1.0, (-1.0 - points) / size).ravel()
        high = np.minimum(1.0, (1.0 - points) / size).ravel()
    else:
        low, high = np.full(K * n, -1.0), np.full(K * n, 1.0)
        rows, right = _tangent(points, space)
        beside = sparse.csr_array((rows.shape[0], owners))
        above = sparse.vstack([above, sparse.hstack([rows, beside])]).tocsr()
        most = np.concatenate([most, right / size])
    free = np.tile([-np.inf, np.inf], (owners, 1))
    bounds = np.concatenate([np.stack([low, high], axis=1), free])
    cost = np.concatenate([np.zeros(K * n), -np.ones(owners)])
    tight = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    with np.errstate(all="ignore"):
        found: Any = linprog(
            cost,
            above,
            most,
            bounds=bounds,
            method="highs-ds",
            options=tight,
        )
    if found.x is None:
        return None
    return np.asarray(size * np.clip(found.x[: K * n], low, high).reshape(K, n))


def _tangent(points: np.ndarray, space: Space) -> tuple[Any, np.ndarray]:
    """Rows and right-hand sides of the constraint in first order at these points."""
    from scipy import sparse  # slow to import

    K, n = points.shape
    if space.constraint == "ball":
        places = (np.repeat(np.arange(K), n), np.arange(K * n))
        rows = sparse.csr_array((points.ravel(), places), shape=(K, K * n))
        return rows, (1 - np.square(points).sum(axis=1)) / 2
    away = points - points.mean(axis=0)
    if space.constraint == "power":
        return sparse.csr_array(away.reshape(1, -1)), np.zeros(1)
    parts = [np.where(np.arange(n) == c, away, 0.0).ravel() for c in range(n)]
    return sparse.csr_array(np.array(parts)), np.zeros(n)


def pairs_within(points: np.ndarray, far: np.ndarray, once: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs k, j of different tokens with |e_k - e_j| <= far_k; with `once` only k < j."""
    from scipy.spatial import cKDTree  # slow to import
    from scipy.spatial.distance import cdist

    K, n = points.shape
    if K <= 1024 or n > 4:
        parts = []
        for start in range(0, K, rows := max(1, 2**22 // K)):
            near = cdist(points[start : start + rows], points) <= far[start : start + rows, None]
            parts.append(np.argwhere(near) + np.array([start, 0]))
        first, second = np.concatenate(parts).T
    else:
        found = cKDTree(points).query_ball_point(points, far, return_sorted=True)
        first = np.repeat(np.arange(K), [len(row) for row in found])
        second = np.concatenate([np.asarray(row, dtype=np.int64) for row in found])
    kept = first < second if once else first != second
    return first[kept], second[kept]
