"""From one start to a local maximum, and from there to better ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality.search.lists import ALL_PAIRS
from tokenkl.optimality.search.objectives import Objective
from tokenkl.optimality.search.polish import polish
from tokenkl.optimality.search.spaces import Space

#: Numbers K n up to which linear programmes polish.
MAX_POLISH = 1000
#: Programmes of a first look at a new candidate; how near to the best it has to be before that, and
#: after it, to be polished on.
FIRST_LOOK, NEAR, NEARER = 4, 0.01, 0.001
#: Share of the tries that polish shaken points, without a climb.
SHAKEN = 0.15
#: Moves that quasi-Newton steps remember.
MEMORY = 10
#: Quasi-Newton steps of a stage; losses, as parts of the value, that are accepted now and then.
STEPS, HEAT = 60, 0.01


def ascend(
    points: Float[np.ndarray, "K n"],
    space: Space,
    objective: Objective,
    steps: int = STEPS,
    stages: tuple[float, ...] | None = None,
) -> Float[np.ndarray, "K n"]:
    """Quasi-Newton ascent (L-BFGS), through the stages of the objective from smooth to sharp."""
    from scipy.optimize import minimize  # slow to import

    chosen = objective.stages if stages is None else stages
    if objective.is_distance and space.constraint == "box" and len(points) <= ALL_PAIRS:
        return _in_one_piece(points, objective.name == "min_distance", steps, chosen)
    shape = points.shape
    for stage in chosen:
        function = objective.climbed(stage)

        def negative(x: np.ndarray, function=function) -> tuple[float, np.ndarray]:  # type: ignore[no-untyped-def]
            x = x.reshape(shape)
            value, slope = function(space.points(x))
            return -value, -space.pull_back(x, slope).ravel()

        bounds = None if space.bounds is None else [space.bounds] * points.size
        found = minimize(
            negative,
            space.free(points).ravel(),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": steps, "maxcor": 20, "ftol": 1e-12, "gtol": 1e-10},
        )
        points = space.inside(space.points(found.x.reshape(shape)))
    return points


def _in_one_piece(
    points: Float[np.ndarray, "K n"], minimum: bool, steps: int, stages: tuple[float, ...]
) -> Float[np.ndarray, "K n"]:
    """The same for few tokens in a box."""
    from tokenkl.optimality.search.kernels import climb_in_box  # slow to import

    K = len(points)
    rows = np.arange(K)
    # Each pair once for the minimum; for the mean each as the neighbour of both.
    near = [rows[rows > k] if minimum else rows[rows != k] for k in rows]
    first = np.concatenate([[0], np.cumsum([one.size for one in near])])
    others = np.concatenate(near)
    points = np.clip(points, -1.0, 1.0)
    for stage in stages:
        points, _ = climb_in_box(points, first, others, stage, minimum, steps, MEMORY)
    return points


def refine(
    points: Float[np.ndarray, "K n"],
    space: Space,
    objective: Objective,
    best: float = -np.inf,
    climbed: bool = True,
) -> tuple[float, Float[np.ndarray, "K n"]]:
    """Polish distances by linear programmes where that is not too large a task.

    Of what has been climbed only where it is near `best` already; and after a few programmes only
    what is nearer.
    """
    if not objective.is_distance or points.size > MAX_POLISH:
        return objective.value(points), points
    minimum = objective.name == "min_distance"
    value = objective.value(points)
    if climbed and value < (1 - NEAR) * best:
        return value, points
    value, points = polish(points, space, minimum, FIRST_LOOK)
    if value < (1 - NEARER) * best:
        return value, points
    return polish(points, space, minimum)


def perturb(
    points: Float[np.ndarray, "K n"], space: Space, rng: np.random.Generator
) -> Float[np.ndarray, "K n"]:
    """Another start near these points: shaken, or a few tokens moved to where there is room."""
    K, n = points.shape
    radii = nearest_distances(points)
    unit = float(radii.mean())
    kind = rng.integers(4)
    moved = points.copy()
    if kind == 0:
        moved += rng.normal(0, unit * rng.choice([0.05, 0.15, 0.3]), points.shape)
    elif kind == 1:  # a neighbourhood is shaken
        centre = points[rng.integers(K)]
        near = np.sqrt(np.square(points - centre).sum(axis=1)) < unit * rng.uniform(1.2, 2.5)
        moved[near] += rng.normal(0, 0.4 * unit, (int(near.sum()), n))
    else:  # tokens go to the largest holes found, or anywhere
        count = int(rng.integers(1, max(2, min(4, K // 4 + 1))))
        gone = rng.choice(K, count, replace=False) if kind == 2 else np.argsort(radii)[:count]
        rest = np.delete(points, gone, axis=0)
        scale = np.abs(points).max(axis=0)
        for token in gone:
            tries = rng.uniform(-scale, scale, (64, n))
            if rng.random() < 0.5:  # on a face
                axis = rng.integers(n, size=64)
                tries[np.arange(64), axis] = scale[axis] * rng.choice([-1, 1], 64)
            gaps = np.square(tries[:, None] - rest).sum(axis=-1).min(axis=1)
            moved[token] = tries[gaps.argmax() if rng.random() < 0.7 else 0]
            rest = np.concatenate([rest, moved[token][None]])
        moved += rng.normal(0, 0.02 * unit, points.shape)
    return space.inside(moved)


def shake(
    points: Float[np.ndarray, "K n"], space: Space, rng: np.random.Generator
) -> Float[np.ndarray, "K n"]:
    """These points, moved a little: off saddles.

    Where a linear programme finds no rise there may be one of second order, and smooth functions
    below the distances have maxima near such points, so that climbing leads back to them.
    """
    unit = float(nearest_distances(points).mean())
    moved = points + rng.normal(0, unit * 10 ** rng.uniform(-3, -0.7), points.shape)
    return space.inside(moved)


def explore(
    points: Float[np.ndarray, "K n"],
    space: Space,
    objective: Objective,
    hops: int,
    rng: np.random.Generator,
    given: bool = False,
    enough: float = np.inf,
) -> tuple[float, Float[np.ndarray, "K n"]]:
    """A local maximum, then `hops` tries to leave it for a better one (basin hopping).

    With `given`, the points themselves are polished, and stay if the climb leads to less. Ends
    early with a value of `enough`.
    """
    start = points
    # Sharp from the beginning now and then: the smoothest function leads to grids again and again.
    stages = objective.stages[int(rng.integers(max(1, len(objective.stages) - 1))) :]
    value, points = refine(ascend(points, space, objective, stages=stages), space, objective)
    if given:
        itself, there = refine(start, space, objective, value)
        if itself >= value:
            value, points = itself, there
    polished = objective.is_distance and points.size <= MAX_POLISH
    best_value, best = value, points
    sharp = objective.stages[len(objective.stages) // 2 :]
    for _ in range(hops):
        if best_value >= enough:
            break
        shaken = polished and rng.random() < SHAKEN
        if shaken:
            tried = shake(points, space, rng)
        else:
            tried = ascend(perturb(points, space, rng), space, objective, STEPS, sharp)
        new, tried = refine(tried, space, objective, value, climbed=not shaken)
        if new > value or rng.random() < np.exp((new - value) / (HEAT * abs(value))):
            value, points = new, tried
        if value > best_value:
            best_value, best = value, points
    return best_value, best
