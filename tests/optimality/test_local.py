"""Local certificates: verdicts against brute force, closed forms against linear programmes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl.optimality.constraints import CONSTRAINTS, constraint_at
from tokenkl.optimality.counterexamples import d4_cut, merged_edges
from tokenkl.optimality.local import LocalCertificate
from tokenkl.optimality.programmes import Programme
from tokenkl.optimality.ties import find_ties, whole_numbers

TRIANGLE = tk.PointCodebook([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(3) / 2]])
RANDOM = tk.PointCodebook(np.random.default_rng(0).standard_normal((9, 2)))


def nearest(points: np.ndarray) -> np.ndarray:
    """By plain differences, apart from the library's own search."""
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1))


def value(points: np.ndarray, objective: str) -> float:
    found = nearest(points)
    return float(found.mean() if objective == "mean_distance" else found.min())


@pytest.mark.parametrize("objective", ["mean_distance", "min_distance"])
@pytest.mark.parametrize(
    "levels", [(2,), (3,), (7,), (2, 2), (3, 3), (5, 5), (4, 4, 4), (5,) * 4, (3,) * 8, (2,) * 12]
)
def test_equal_levels_are_a_strict_maximum(levels: tuple[int, ...], objective: str) -> None:
    """Claim C2 of the paper, at the sizes it is made for; verified in whole numbers."""
    found = tk.certify_local(tk.FSQ(levels), objective)
    assert (found.verdict, found.order, found.arithmetic) == ("strict", 1, "exact")
    assert found.value == 0


@pytest.mark.parametrize("levels", [(4, 3), (8, 6, 5), (8, 5, 5, 5), (7, 5, 5, 5, 5)])
@pytest.mark.parametrize("objective", ["mean_distance", "min_distance"])
def test_unequal_levels_are_none(levels: tuple[int, ...], objective: str) -> None:
    found = tk.certify_local(tk.FSQ(levels), objective)
    assert (found.verdict, found.order, found.arithmetic) == ("not a maximum", 2, "exact")
    assert found.direction is not None
    before = value(found.points, objective)
    for step in (found.step, 1e-3, 1e-4):
        moved = found.points + step * found.direction
        assert np.abs(moved).max() <= 1
        rise = value(moved, objective) - before
        if step == found.step:
            assert rise == pytest.approx(found.gain, rel=1e-6)
        else:
            assert rise == pytest.approx(found.curvature * step**2 / 2, rel=0.01)


@pytest.mark.parametrize("levels", [(3,), (2, 2), (3, 3), (4, 4), (2, 2, 2), (3, 3, 3), (4, 3)])
@pytest.mark.parametrize("objective", ["mean_distance", "min_distance"])
def test_programmes_agree_with_closed_forms(levels: tuple[int, ...], objective: str) -> None:
    grid = tk.FSQ(levels)
    by_hand = tk.certify_local(grid, objective)
    found = tk.certify_local(tk.PointCodebook(grid.points), objective)
    assert found.verdict == by_hand.verdict
    assert found.order == by_hand.order
    assert found.method != by_hand.method
    if found.verdict == "strict":
        assert found.arithmetic == "exact"
    else:  # the closed form is the best of the motions along coarser axes, or as good
        assert 0 < found.curvature <= by_hand.curvature * (1 + 1e-6)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("objective", ["mean_distance", "min_distance"])
def test_first_order_is_the_largest_derivative(objective: str, constraint: str) -> None:
    """Difference quotients reach the value along the direction, and not along feasible others."""
    found = tk.certify_local(RANDOM, objective, constraint)
    assert (found.verdict, found.order) == ("not a maximum", 1)
    points, step = found.points, 1e-7
    assert found.direction is not None
    before = value(points, objective)
    along = (value(points + step * found.direction, objective) - before) / step
    assert along == pytest.approx(found.value, abs=1e-3)
    limits = constraint_at(points, constraint)
    rng = np.random.default_rng(1)
    for _ in range(200):
        motion = rng.uniform(-1, 1, points.shape)
        motion[limits.low] = np.abs(motion[limits.low])
        motion[limits.high] = -np.abs(motion[limits.high])
        if limits.rows.shape[0] and (limits.rows @ motion.ravel()).max() > 0:
            continue
        assert (value(points + step * motion, objective) - before) / step <= found.value + 1e-5


def test_a_weak_maximum() -> None:
    """Isolated tokens of the merged edges are free to move without changing the least distance."""
    found = tk.certify_local(merged_edges(), "min_distance")
    assert (found.verdict, found.arithmetic) == ("weak", "exact")
    assert "leaves all listed pairs as they are" in found.check()
    points = found.points.copy()
    apart = np.flatnonzero(nearest(points) > 2)
    points[apart[0]] *= 0.999  # in the box, and still more than 2 from all others
    assert value(points, "min_distance") == pytest.approx(2.0, abs=1e-12)


def test_counterexamples_are_local_maxima_too() -> None:
    """Their radii are no rational multiples of each other: floating point is all there is."""
    for codebook in (merged_edges(), d4_cut()):
        found = tk.certify_local(codebook)
        assert (found.verdict, found.arithmetic) == ("strict", "floating point")
        with pytest.raises(ValueError, match="exact"):
            found.check()


@pytest.mark.parametrize(
    ("codebook", "constraint", "verdict", "order"),
    [
        (tk.FSQ((2, 2)), "ball", "strict", 1),  # four points on a circle, up to rotations
        (TRIANGLE, "power", "strict", 1),  # the simplex, up to shifts and rotations
        (tk.FSQ((3, 3)), "ball", "not a maximum", 1),
        (tk.FSQ((2, 2, 2)), "ball", "not a maximum", 2),  # the antiprism is better than the cube
        (tk.FSQ((3, 3)), "power", "not a maximum", 2),  # sheared towards triangles
        (tk.FSQ((2, 2)), "power", "undecided", 2),  # rhombi are as good: a flat motion
    ],
)
def test_curved_constraints(
    codebook: tk.Codebook, constraint: str, verdict: str, order: int
) -> None:
    found = tk.certify_local(codebook, constraint=constraint)
    assert (found.verdict, found.order) == (verdict, order)
    assert (found.gain > 0) == (verdict == "not a maximum")


def test_spectrum_on_flat_motions_matches_differences() -> None:
    """Of 2 x 2 at fixed power: distances and power of moved points, differentiated twice."""
    points = np.asarray(tk.FSQ((2, 2)).points)
    programme = Programme(find_ties(points, True, 1, False), constraint_at(points, "power"))
    dual = programme.dual()
    assert dual is not None
    basis = programme.flat_space(dual)
    ties = programme.ties

    def lagrangian(motion: np.ndarray) -> float:
        moved = points + motion.reshape(points.shape)
        distances = np.linalg.norm(moved[ties.first] - moved[ties.second], axis=1)
        power = np.square(moved - moved.mean(axis=0)).sum() / 2
        return float(dual.weights @ distances - dual.multipliers[0] * power)

    h, size = 1e-4, basis.shape[1]
    expected = np.empty((size, size))
    for a in range(size):
        for b in range(size):
            corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
            at = [lagrangian(h * (s * basis[:, a] + t * basis[:, b])) for s, t in corners]
            expected[a, b] = (at[0] - at[1] - at[2] + at[3]) / (4 * h * h)
    assert programme.hessian(dual, basis) == pytest.approx(expected, abs=1e-5)


def test_coordinates_are_recognised_or_taken_as_they_are() -> None:
    assert whole_numbers(np.array([[2 / 7, -0.5], [1 / 3, 0.0]])) == (
        [[12, -21], [14, 0]],
        42,
        True,
    )
    whole, over, recognised = whole_numbers(np.array([[math.pi], [0.5]]))
    assert not recognised
    assert whole[0][0] / over == math.pi


def test_files(tmp_path: Path) -> None:
    found = tk.certify_local(tk.FSQ((4, 3)))
    found.save(tmp_path / "one.json")
    again = tk.load_certificate(tmp_path / "one.json")
    assert isinstance(again, LocalCertificate)
    assert again.record == found.record
    assert again.check() == found.check()
    assert repr(again) == repr(found)
    assert "no maximum of mean_distance (box), order 2" in repr(found)
    for content in ("", "[]", "{}", '{"format": 3}', "[" * 10_000):
        (tmp_path / "other.json").write_text(content)
        with pytest.raises(ValueError, match="certificate"):
            tk.load_certificate(tmp_path / "other.json")


def test_what_is_refused() -> None:
    grid = tk.FSQ((3, 3))
    with pytest.raises(ValueError, match="objective"):
        tk.certify_local(grid, "accuracy")
    with pytest.raises(ValueError, match="constraint"):
        tk.certify_local(grid, constraint="sphere")
    with pytest.raises(ValueError, match="at least 2"):
        tk.certify_local(tk.FSQ((1,)))
    twice = tk.PointCodebook([[0.0], [0.0], [1.0]], allow_duplicates=True)
    with pytest.raises(ValueError, match="different"):
        tk.certify_local(twice)
    with pytest.raises(ValueError, match="codebook"):
        tk.certify_local(grid.points)  # type: ignore[arg-type]
