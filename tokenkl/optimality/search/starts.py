"""Where a search starts: spread points, grids, lattices, symmetric points, subsets of codes."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from tokenkl.numerics.neighbours import nearest_distances
from tokenkl.optimality.search.candidates import CodeCut, cuts
from tokenkl.optimality.search.spaces import Space
from tokenkl.optimality.search.subsets import Candidates
from tokenkl.optimality.search.symmetric import symmetric_points

#: Kinds of starts, in the order in which they take turns.
KINDS = ("sobol", "grid", "lattice", "uniform")
#: Only where they are asked for: points with symmetries.
SYMMETRIC = "symmetric"
#: Only for distances in a box: subsets of codes, annealed.
CODES = "code"
#: Only where it is asked for, and as that: tokens that walk on a fine grid, annealed.
WALK = "walk"
#: Steps of this grid between two levels of FSQ; tries for each token; temperatures, in such levels.
FINE, TRIES, WARM, FROZEN = 8, 600_000, 0.075, 60
#: Most points of a lattice that are listed before K of them are taken.
MAX_LISTED = 200_000
#: Sets of candidates that take turns, best base distance first.
SETS = 6
#: Candidates up to which others join them; how many of K there have to be, and what each of the
#: others costs, in units of the base distance.
MAX_WITH_FILL, FEWEST, DEAR = 400, 0.9, 1.8
#: Swaps and choices of one annealing, for each candidate, and at most.
SWEEPS, MOST = 3000, 4_000_000
#: Steps of one call of machine code.
WALK_PIECE = 2**18


def start(
    kind: str, turn: int, space: Space, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "K n"], str]:
    """The points of a start, in the space, and what they are in words."""
    K, n = space.K, space.n
    if kind == CODES:
        points, what = code_subset(n, K, turn, rng)
    elif kind == WALK:
        points, what = walked(*code_subset(n, K, turn, rng), rng)
    elif kind == "sobol":
        from scipy.stats import qmc  # slow to import

        made = qmc.Sobol(n, rng=rng) if _takes_rng() else qmc.Sobol(n, seed=rng)
        points = 2 * made.random(1 << (K - 1).bit_length())[:K] - 1
        what = "Sobol points"
    elif kind == "grid":
        points, what = _jittered_grid(n, K, rng)
    elif kind == "lattice":
        points, what = _lattice_cut(n, K, rng)
    elif kind == SYMMETRIC and (found := symmetric_points(n, K, rng)) is not None:
        points, what = found[0], f"points with {len(found[1])} symmetries"
    else:
        points, what = rng.uniform(-1, 1, (K, n)), "uniform points"
    return space.inside(points), what


def _takes_rng() -> bool:
    import inspect

    from scipy.stats import qmc  # slow to import

    return "rng" in inspect.signature(qmc.Sobol).parameters


def _jittered_grid(n: int, K: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A grid with at least K tokens, some of them left out, shaken."""
    levels = [max(1, int(K ** (1 / n)))] * n
    for axis in rng.permutation(n):
        if math.prod(levels) >= K:
            break
        levels[axis] += 1
    while math.prod(levels) < K or (rng.random() < 0.3 and math.prod(levels) < 2 * K):
        levels[int(rng.integers(n))] += 1
    axes = [np.linspace(-1, 1, L) if L > 1 else np.zeros(1) for L in levels]
    grid = np.stack([one.ravel() for one in np.meshgrid(*axes, indexing="ij")], axis=1)
    points = grid[rng.choice(len(grid), K, replace=False)]
    jitter = rng.choice([0.02, 0.1, 0.25]) * 2 / max(levels)
    return points + rng.normal(0, jitter, points.shape), "jittered grid " + "x".join(
        map(str, levels)
    )


def _lattice_cut(n: int, K: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """K points of D_n (the hexagonal lattice in the plane), stretched, shifted, cut by the box."""
    if n == 1:
        return np.linspace(-1, 1, K)[:, None], "equal steps"
    shift = rng.random(n)
    # Points a unit cell; rows in the plane are sqrt(3)/2 apart.
    steps = np.full(n, (2 * K) ** (1 / n)) if n > 2 else np.sqrt([2 * K / 3**0.5, 2 * K * 3**0.5])
    if n == 2 and rng.random() < 0.5:
        steps = steps[::-1]
    if rng.random() < 0.5:  # along the faces, as cuts that fill the box are
        shift = rng.integers(0, 2, n).astype(float)
        steps = np.round(steps) + rng.integers(0, 2, n)
    for _ in range(60):
        count = math.prod(int(s) + 2 for s in steps)
        if count > MAX_LISTED:
            return rng.uniform(-1, 1, (K, n)), "uniform points"
        axes = [np.arange(int(s) + 2) for s in steps]
        whole = np.stack([one.ravel() for one in np.meshgrid(*axes, indexing="ij")], axis=1)
        whole = whole[whole.sum(axis=1) % 2 == 0]
        points = 2 * (whole - shift % 1) / np.maximum(steps - 1, 1) - 1
        points = points[(np.abs(points) <= 1 + 1e-9).all(axis=1)]
        if len(points) >= K:
            break
        steps = steps + np.eye(n)[rng.integers(n)] * (1 if n > 2 else rng.integers(1, 3))
    if len(points) < K:
        return rng.uniform(-1, 1, (K, n)), "uniform points"
    points = points[rng.choice(len(points), K, replace=False)]
    points = points + rng.normal(0, 0.02 * K ** (-1 / n), points.shape)
    return points, "cut of a lattice"


def code_subset(
    n: int, K: int, turn: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "K n"], str]:
    """The best K points of a set of candidates that annealing finds; of another set every turn."""
    sets = ranked_cuts(n, K)
    if not sets:
        return rng.uniform(-1, 1, (K, n)), "uniform points"
    cut = sets[turn % len(sets)]
    points, inside = choose(cut, K, rng)
    what = f"{K} of {len(points)} points of code {cut.code!r} on {cut.levels} levels"
    return points[inside], f"{what} with {cut.fill}" if cut.fill else what


def walked(
    points: Float[np.ndarray, "K n"], what: str, rng: np.random.Generator, tries: int = TRIES
) -> tuple[Float[np.ndarray, "K n"], str]:
    """The best places on a grid that annealing finds: one token moves at a time.

    It moves by a step along one axis or two, or to anywhere along one. Squared distances are whole
    numbers, so that nothing is rounded on the way.
    """
    from tokenkl.optimality.search.kernels import walk_on_grid  # slow to import

    K, n = points.shape
    gaps = max(1.0, K ** (1 / n) - 1)
    top = max(1, round(FINE * gaps))
    places = np.rint((points + 1) / 2 * top).astype(np.int64)
    roots = np.sqrt(np.arange(n * top**2 + 1)) * (2 / top)
    hot = WARM * 2 / gaps * 10 ** rng.uniform(-0.15, 0.15)
    best, value, steps = places.copy(), -1.0, tries * K
    for start in range(0, steps, WALK_PIECE):
        stop = min(steps, start + WALK_PIECE)
        heat = [hot * FROZEN ** (-at / steps) for at in (start, stop)]
        value = walk_on_grid(
            places, top, heat[0], heat[1], rng.random((stop - start, 6)), roots, best, value
        )
    return best * (2 / top) - 1, f"walk on a grid of {top} steps, from {what}"


def choose(
    cut: CodeCut, K: int, rng: np.random.Generator, effort: float = 1.0
) -> tuple[Float[np.ndarray, "M n"], np.ndarray]:
    """The candidates of a recipe, and which K of them annealing keeps."""
    code = Candidates(cut._replace(fill="").points())
    steps = int(effort * min(MOST, SWEEPS * code.M))
    value, inside = 0.0, np.ones(code.M, dtype=bool)
    if code.M >= K:
        value, inside = code.isolate(K, steps, rng)
    if cut.fill:
        code = Candidates(cut.points(), code.base)
        inside = np.concatenate([inside, np.zeros(code.M - inside.size, dtype=bool)])
        spare = np.flatnonzero(~inside)
        inside[rng.choice(spare, K - int(inside.sum()), replace=False)] = True
        steps = int(effort * min(MOST, SWEEPS * code.M))
    again, swapped = code.anneal(inside, steps // 2, rng, float(rng.choice([0.05, 0.15, 0.4])))
    return code.points, swapped if again >= value else inside


def ranked_cuts(n: int, K: int) -> list[CodeCut]:
    """Recipes of candidates for K tokens, the most promising base distance first."""
    found = []
    for cut in cuts(n, K, FEWEST):
        count = cut.size()
        if count == K or count < 2:
            continue
        if count < K and not K <= cut.levels**n <= MAX_WITH_FILL:
            continue
        base = float(nearest_distances(cut.points()).min())
        # What is put between others takes some of their distance away.
        found.append((base * (1 - DEAR * max(0, K - count) / K), cut))
    found.sort(key=lambda one: -one[0])
    best = [cut if cut.size() > K else cut._replace(fill="grid") for _, cut in found[:SETS]]
    middles = [cut for cut in best if not cut.fill and cut.size() <= MAX_WITH_FILL]
    return best + [cut._replace(fill="middles") for cut in middles[:3]]
