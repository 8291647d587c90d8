"""`search`: gradients against differences, lists against all pairs, packings against tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl.optimality.search.candidates import CodeCut, code_words, cuts
from tokenkl.optimality.search.climb import ascend
from tokenkl.optimality.search.lists import NeighbourLists
from tokenkl.optimality.search.objectives import (
    Distance,
    NearestDistances,
    Sampled,
    SoftDistance,
    objective_of,
)
from tokenkl.optimality.search.spaces import Space
from tokenkl.optimality.search.starts import KINDS, choose, start
from tokenkl.optimality.search.subsets import Candidates
from tokenkl.optimality.search.symmetric import symmetric_points


def quiet(done: float, total: float) -> None:
    """No bar."""


def nearest(points: np.ndarray) -> np.ndarray:
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1))


def differences(function: Any, points: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient by central differences."""
    slope = np.zeros(points.size)
    for place in range(points.size):
        moved = [points.copy(), points.copy()]
        for sign, one in zip((1, -1), moved, strict=True):
            one.ravel()[place] += sign * step
        slope[place] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return slope.reshape(points.shape)


# ---- Objectives --------------------------------------------------------------------------------


@pytest.mark.parametrize("minimum", [True, False])
@pytest.mark.parametrize("power", [8.0, 80.0])
def test_soft_distances(minimum: bool, power: float) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, (9, 3))
    function = SoftDistance(power, minimum)
    value, slope = function(points)
    squares = cdist(points, points)
    np.fill_diagonal(squares, np.inf)
    sums = (squares**-power).sum(axis=1)
    expected = sums.sum() ** (-1 / power) if minimum else (sums ** (-1 / power)).mean()
    assert value == pytest.approx(expected, rel=1e-12)
    assert value <= Distance(minimum).value(points)
    expected_slope = differences(lambda p: function(p)[0], points)
    np.testing.assert_allclose(slope, expected_slope, atol=1e-6)


@pytest.mark.parametrize("name", ["accuracy", "mutual_information"])
def test_sampled_objectives(name: str) -> None:
    """The gradient, and the value against the library's own, within what so few draws can say."""
    points = np.array(tk.FSQ((2, 3)).points) + np.random.default_rng(0).normal(0, 0.1, (6, 2))
    goal = Sampled(name, 4.0, 2, 0)
    value, slope = goal.climbed(0.0)(points)
    np.testing.assert_allclose(slope, differences(goal.value, points), atol=2e-7)
    expected = getattr(tk, name)(tk.PointCodebook(points), 4.0, key=1)
    assert value == pytest.approx(float(expected.value), abs=0.03)
    assert goal.value(points) == value


@pytest.mark.parametrize(("K", "n"), [(40, 3), (400, 2), (400, 8)])
def test_nearest_distances_while_tokens_move(K: int, n: int) -> None:
    """Exactly those of all pairs at every step, though lists are seldom made."""
    rng = np.random.default_rng(1)
    points, function = rng.uniform(-1, 1, (K, n)), NearestDistances()
    for _ in range(30):
        value, slope = function(points)
        distances = cdist(points, points)
        np.fill_diagonal(distances, np.inf)
        near, radii = distances.argmin(axis=1), distances.min(axis=1)
        assert value == pytest.approx(radii.mean(), rel=1e-13)
        pull = (points - points[near]) / radii[:, None] / K
        expected = pull.copy()
        np.add.at(expected, near, -pull)
        np.testing.assert_allclose(slope, expected, atol=1e-12)
        points = points + rng.normal(0, 0.01 * value, (K, n))
    assert function.lists is not None
    assert function.lists.builds < 30


def test_lists_know_when_they_end() -> None:
    rng = np.random.default_rng(2)
    points = rng.uniform(-1, 1, (300, 5))
    lists = NeighbourLists(points)
    assert lists.holds(points, nearest(points))
    assert not lists.holds(rng.permutation(points), nearest(points))


@pytest.mark.parametrize("constraint", ["box", "ball", "power", "variance"])
def test_spaces(constraint: str) -> None:
    """Free numbers give points that satisfy the constraint; gradients come back."""
    space = Space(7, 3, constraint)
    rng = np.random.default_rng(3)
    x = space.free(0.8 * rng.uniform(-1, 1, (7, 3)))
    points = space.points(x)
    sizes = {
        "box": np.abs(points).max() <= 1,
        "ball": np.square(points).sum(axis=1).max() <= 1,
        "power": abs(points.var(axis=0).sum() - 3) < 1e-12,
        "variance": np.abs(points.var(axis=0) - 1).max() < 1e-12,
    }
    assert sizes[constraint]
    np.testing.assert_allclose(space.inside(points), points, atol=1e-12)
    weights = rng.normal(size=(7, 3))
    found = space.pull_back(x, weights)
    expected = differences(lambda y: float((weights * space.points(y)).sum()), x)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_allclose(space.points(space.free(points)), points, atol=1e-12)


@pytest.mark.parametrize("minimum", [True, False])
def test_climb_in_one_piece(minimum: bool) -> None:
    """It ends where no feasible direction rises, in the box, never below where it began."""
    rng = np.random.default_rng(4)
    goal = Distance(minimum)
    for _ in range(5):
        points = rng.uniform(-1, 1, (7, 2))
        climbed = ascend(points, Space(7, 2, "box"), goal, 2000, (16.0,))
        function = SoftDistance(16.0, minimum)
        before, _ = function(points)
        value, slope = function(climbed)
        assert np.abs(climbed).max() <= 1
        assert value >= before
        slope[(climbed == 1) & (slope > 0)] = 0
        slope[(climbed == -1) & (slope < 0)] = 0
        assert np.abs(slope).max() < 1e-4
        rivals = ascend(points, Space(7, 2, "ball"), goal, 200, (16.0,))  # through SciPy
        assert np.square(rivals).sum(axis=1).max() <= 1 + 1e-12
        assert function(rivals)[0] > function(Space(7, 2, "ball").inside(points))[0]


# ---- Starts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "levels", "coset", "distance", "count"),
    [
        (5, 3, 0, 2.0, 34), (6, 3, 0, 2.0, 76), (7, 3, 0, 2.0, 184), (8, 3, 0, 2.0, 481),
        (4, 5, 0, 1.0, 97), (5, 5, 0, 1.0, 291), (6, 5, 0, 1.0, 1161),
    ],
)  # fmt: skip
def test_codes_have_many_points(
    n: int, levels: int, coset: int, distance: float, count: int
) -> None:
    cut = CodeCut("four", levels, (coset,) * n)
    points = cut.points()
    assert len(points) == cut.size() == count == len(np.unique(points, axis=0))
    assert np.abs(points).max() <= 1
    assert nearest(points).min() == pytest.approx(distance, abs=1e-14)


def test_words_of_codes_differ_in_four_places() -> None:
    for n, count in [(4, 2), (5, 2), (6, 4), (7, 8), (8, 16)]:
        words = np.array(code_words("four", n))
        assert len(words) == count
        far = np.abs(words[:, None] - words).sum(axis=-1)
        assert far[far > 0].min() == 4
    assert not code_words("four", 9)


def test_recipes_have_enough_candidates() -> None:
    for n, K in [(2, 36), (3, 27), (4, 81), (5, 32)]:
        found = list(cuts(n, K))
        assert found
        for cut in found:
            assert cut.size() >= K
            fill = cut._replace(fill="middles").points()
            np.testing.assert_allclose(fill[: cut.size()], cut.points(), atol=1e-15)
            assert len(np.unique(np.round(fill, 9), axis=0)) == len(fill)
            assert np.abs(fill).max() <= 1 + 1e-15


def test_isolation_against_every_choice() -> None:
    """Of the 3 x 3 grid with 6 kept: annealing finds what all 84 choices have at best."""
    import itertools

    points = np.array(tk.FSQ((3, 3)).points)
    best = max(nearest(points[list(c)]).mean() for c in itertools.combinations(range(9), 6))
    rng = np.random.default_rng(0)
    candidates = Candidates(points)
    value, inside = candidates.isolate(6, 2000, rng)
    again, swapped = candidates.anneal(inside, 40_000, rng, 0.4)
    assert value <= again
    assert again == pytest.approx(best, rel=1e-12)
    assert nearest(points[swapped]).mean() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize(
    ("n", "K", "cut", "value"),
    [
        (4, 81, CodeCut("four", 5, (0,) * 4), (77 + 4 * math.sqrt(2)) / 81),
        (5, 32, CodeCut("four", 3, (0,) * 5, "middles"), (60 + 2 * math.sqrt(5)) / 32),
        (8, 256, CodeCut("four", 3, (0,) * 8), (7 + math.sqrt(2)) / 4),
    ],
)
@pytest.mark.slow
def test_counterexamples_are_found_again(n: int, K: int, cut: CodeCut, value: float) -> None:
    points, inside = choose(cut, K, np.random.default_rng(0))
    assert inside.sum() == K
    assert nearest(points[inside]).mean() >= value - 1e-9


@pytest.mark.parametrize(("n", "K"), [(2, 7), (3, 21), (3, 32), (6, 64)])
def test_symmetric_points_are_mapped_to_themselves(n: int, K: int) -> None:
    for seed in range(5):
        found = symmetric_points(n, K, np.random.default_rng(seed))
        assert found is not None
        points, group = found
        assert points.shape == (K, n)
        assert nearest(points).min() > 0
        assert len(group) > 1
        for one in group:
            assert np.array_equal(one.T @ one, np.eye(n))
            images = points @ one.T
            gaps = np.abs(images[:, None] - points).max(axis=-1).min(axis=1)
            assert gaps.max() < 1e-9
        products = {(a @ b).tobytes() for a in group for b in group}
        assert products == {one.tobytes() for one in group}


@pytest.mark.parametrize("kind", [*KINDS, "symmetric", "code"])
def test_starts_are_in_the_space(kind: str) -> None:
    for n, K in [(1, 5), (2, 7), (3, 20), (5, 40)]:
        points, what = start(kind, 0, Space(K, n, "box"), np.random.default_rng(0))
        assert points.shape == (K, n)
        assert np.abs(points).max() <= 1
        assert what


# ---- The search --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "K", "unit"),
    [
        (2, 4, 1.0),
        (2, 6, math.sqrt(13) / 6),
        (2, 8, (math.sqrt(6) - math.sqrt(2)) / 2),
        (2, 10, 0.421279543983903432768821760651),
        (3, 5, math.sqrt(5) / 2),
        (3, 9, math.sqrt(3) / 2),
    ],
)
def test_packings(n: int, K: int, unit: float) -> None:
    """Points in the unit square and cube: known maxima of the smallest distance."""
    found = tk.search(
        n, K, "min_distance", starts=12, hops=30, key=1, enough=2 * unit - 1e-10, progress=quiet
    )
    assert found.value / 2 == pytest.approx(unit, abs=1e-9)
    assert tk.min_distance(found.codebook) == pytest.approx(found.value, rel=1e-14)


@pytest.mark.parametrize(("constraint", "radius"), [("ball", 1.0), ("power", math.sqrt(3))])
def test_spheres(constraint: str, radius: float) -> None:
    """Four points in a ball, or at fixed power: the regular tetrahedron on its sphere."""
    found = tk.search(
        3, 4, "min_distance", constraint, starts=3, hops=2, kinds=["uniform"], progress=quiet
    )
    assert found.value == pytest.approx(radius * math.sqrt(8 / 3), abs=1e-9)


def test_accuracy_of_two_tokens() -> None:
    """They go to opposite corners."""
    found = tk.search(2, 2, "accuracy", snr=1.0, starts=2, hops=0, progress=quiet)
    points = np.asarray(found.codebook.points)
    np.testing.assert_allclose(points[0], -points[1], atol=1e-4)
    np.testing.assert_allclose(np.abs(points), 1, atol=1e-4)


@pytest.mark.parametrize("library", ["jax", "numpy"])
def test_functions_of_users(library: str) -> None:
    """A smooth function with a maximum that is known."""

    def jax_function(points: Any) -> Any:
        return -jnp.sum((points - 0.25) ** 2)

    def numpy_function(points: np.ndarray) -> tuple[float, np.ndarray]:
        return -float(np.square(points - 0.25).sum()), -2 * (points - 0.25)

    function: Any = jax_function if library == "jax" else numpy_function
    found = tk.search(2, 3, function, starts=1, hops=0, progress=quiet)
    np.testing.assert_allclose(found.codebook.points, 0.25, atol=1e-3)
    assert found.objective == function.__name__


def test_resumed(tmp_path: Path) -> None:
    """A search that stopped goes on, to the same result as one that did not."""
    whole = tk.search(2, 7, starts=4, hops=1, key=3, progress=quiet)
    first = tk.search(2, 7, starts=2, hops=1, key=3, folder=tmp_path, progress=quiet)
    assert len(first.runs) == 2
    state = json.loads((tmp_path / "search.json").read_text())
    assert [row["index"] for row in state["runs"]] == [0, 1]
    seen: list[float] = []
    second = tk.search(
        2, 7, starts=4, hops=1, key=3, folder=tmp_path, progress=lambda done, _: seen.append(done)
    )
    assert seen == [2, 3, 4]
    assert [run.value for run in second.runs] == [run.value for run in whole.runs]
    np.testing.assert_array_equal(second.codebook.points, whole.codebook.points)
    with pytest.raises(ValueError, match=r"another search: key is 3, not 4"):
        tk.search(2, 7, starts=4, hops=1, key=4, folder=tmp_path, progress=quiet)
    given = np.random.default_rng(0).uniform(-1, 1, (7, 2))
    path = tmp_path / "given"
    tk.search(2, 7, starts=1, hops=0, include=[given], folder=path, progress=quiet)
    with pytest.raises(ValueError, match=r"another search: given is"):
        tk.search(2, 7, starts=1, hops=0, include=[given / 2], folder=path, progress=quiet)
    text = (path / "search.json").read_text()
    (path / "search.json").write_text(text.replace('"index": 0', '"index": "0"'))
    with pytest.raises(ValueError, match=r"runs\[0\]\.index must be"):
        tk.search(2, 7, starts=1, hops=0, include=[given], folder=path, progress=quiet)
    (tmp_path / "search.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match=r"search\.json"):
        tk.search(2, 7, starts=4, hops=1, key=3, folder=tmp_path, progress=quiet)


@pytest.mark.slow
def test_workers_change_nothing() -> None:
    alone = tk.search(2, 6, starts=3, hops=1, progress=quiet)
    shared = tk.search(2, 6, starts=3, hops=1, workers=2, progress=quiet)
    assert [run.value for run in shared.runs] == [run.value for run in alone.runs]
    np.testing.assert_array_equal(shared.codebook.points, alone.codebook.points)


def test_given_starts_are_kept() -> None:
    """FSQ 3 x 3 is a local maximum of D: what is given is not lost on the way."""
    grid = tk.FSQ((3, 3))
    found = tk.search(2, 9, starts=1, hops=0, include=[grid], progress=quiet)
    assert found.value == pytest.approx(1.0, abs=1e-12)
    assert found.best.kind == "given"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"n": 0}, "n must be"),
        ({"K": 1}, "K must be"),
        ({"K": 10**6}, "K must be at most"),
        ({"objective": "volume"}, "objective must be one of"),
        ({"objective": "accuracy"}, "snr must be given"),
        ({"snr": 1.0}, "snr must be left out"),
        ({"constraint": "cone"}, "constraint must be"),
        ({"starts": 0}, "starts must be"),
        ({"hops": -1}, "hops must be"),
        ({"kinds": "grid"}, "kinds must be a sequence"),
        ({"kinds": ["spiral"]}, "kinds must be"),
        ({"kinds": ["code"], "constraint": "ball"}, "kinds must be left out"),
        ({"include": [np.zeros((3, 2))]}, "include must be"),
    ],
)
def test_refused(given: dict[str, Any], says: str) -> None:
    words: dict[str, Any] = {"n": 2, "K": 4, "starts": 1, "hops": 0, "progress": quiet, **given}
    with pytest.raises(ValueError, match=says):
        tk.search(words.pop("n"), words.pop("K"), **words)


def test_functions_that_return_nothing_useful() -> None:
    with pytest.raises(ValueError, match="gradient of shape"):
        tk.search(2, 3, lambda p: (0.0, np.zeros(2)), starts=1, hops=0, progress=quiet)
    assert objective_of(lambda p: 0.0, 2, None, 0).name == "<lambda>"
    with pytest.raises(ValueError, match="objective must be a number at the points that are found"):
        tk.search(2, 3, lambda p: (np.nan, 0 * p), starts=1, hops=0, progress=quiet)
