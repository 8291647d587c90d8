"""Voronoi cells in the plane: the inequality for one of them that docs/theory/optimality.md, O19,
rests on, over intervals that cover all cases, at whose ends each quantity is smallest or largest
(mu and values times lambda); and what it says of all cells together, for points of any kind."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, Voronoi
from scipy.spatial.distance import cdist

from tokenkl.optimality.nn_bounds import CORNERS, EDGES, SIDES, voronoi_bound

#: Cases of so many sides by themselves; the last one stands for all with more.
MOST, HALF = 13, math.pi / 2
INNER = 1 / (2 * math.sqrt(3))
CUBE = [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def tangents(m: int, angle: np.ndarray | float) -> np.ndarray:
    """m tan(angle / m), at most the area of a sector of twice the angle that m tangents bound."""
    if m == MOST:
        return np.asarray(angle)
    part = np.asarray(angle) / m
    return np.where(part < HALF, m * np.tan(np.minimum(part, HALF - 1e-12)), np.inf)


def strip(b: np.ndarray) -> np.ndarray:
    return b + np.sin(b) * np.cos(b)


def one_side(m: int, b: np.ndarray) -> np.ndarray:
    """Least area over rho^2, the side of the square at rho sin b; grows with b."""
    within = np.sin(b) * np.cos(b) + tangents(min(m + 1, MOST), HALF + b)
    return np.maximum(tangents(m, HALF) + strip(b), within)


def two_sides(m: int, b1: np.ndarray, b2: np.ndarray) -> np.ndarray:
    inside = np.sin(b1) ** 2 + np.sin(b2) ** 2 < 1
    cut = (math.pi - strip(b1) - strip(b2)) / 2
    corner = np.where(inside, np.sin(b1) * np.sin(b2), HALF / 2 - cut)
    area = tangents(m, HALF / 2) + (strip(b1) + strip(b2)) / 2 + corner
    far, near = np.sin(np.maximum(b1, b2)), np.sin(np.minimum(b1, b2))
    smaller = one_side(min(m + 1, MOST), np.arcsin(np.minimum(1, near / np.maximum(far, 1e-9))))
    return np.maximum(area, far**2 * smaller)


def lengths(low: tuple[np.ndarray, np.ndarray], high: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return (
        np.cos(high[0])
        + np.cos(high[1])
        + np.minimum(np.sin(low[1]), np.cos(high[0]))
        + np.minimum(np.sin(low[0]), np.cos(high[1]))
    )


def test_all_cases_of_a_cell() -> None:
    """max over r of r - lambda area - nu length - mu (sides), times lambda."""
    limit = INNER - 6 * SIDES
    for m in range(3, MOST + 1):
        assert 1 / tangents(m, math.pi) - SIDES * m <= limit + 1e-15
    ends = np.linspace(0, HALF, 401)
    low, high = ends[:-1], ends[1:]
    for m in range(1, MOST + 1):
        value = (1 - EDGES * np.cos(high)) ** 2 / one_side(m, low)
        assert value.max() - SIDES * (m + 2) < limit
    (low1, low2), (high1, high2) = np.meshgrid(low, low), np.meshgrid(high, high)
    inside = np.sin(high1) ** 2 + np.sin(high2) ** 2 < 1  # the corner is nearer than rho
    length = lengths((low1, low2), (high1, high2))
    for m in range(1, MOST + 1):
        value = np.clip(1 - EDGES * length / 2, 0, None) ** 2 / two_sides(m, low1, low2)
        value -= SIDES * (m + 4)
        assert value[~inside].max() < limit
        assert value[inside].max() < limit + (CORNERS - 2 * SIDES) / 4


def test_radii_beyond_the_side() -> None:
    """r > 2 at 16 points: a disc that the farther sides do not cut."""
    weight = math.sqrt(INNER * 16 + CORNERS) / 2  # lambda
    h = np.linspace(0, 1, 81)
    r = np.linspace(2, math.sqrt(8), 41)
    a1, a2, s = np.meshgrid(h[:-1], h[:-1], r[:-1], indexing="ij")
    b1, b2, t = np.meshgrid(h[1:], h[1:], r[1:], indexing="ij")
    there = s <= np.hypot(2 - a1, 2 - a2)
    least, most = (
        np.minimum(x / 2, 2 - y) for x, y in [(s, np.maximum(b1, b2)), (t, np.maximum(a1, a2))]
    )
    low = [np.arcsin(np.minimum(1, a / most)) for a in (a1, a2)]
    high = [np.arcsin(np.minimum(1, b / least)) for b in (b1, b2)]
    inside = np.hypot(b1, b2) < least
    length = least * lengths((low[0], low[1]), (high[0], high[1]))
    limit = INNER - 6 * SIDES + inside * (CORNERS - 2 * SIDES) / 4
    for m in range(1, MOST + 1):
        value = t - weight * least**2 * two_sides(m, *low) - EDGES * length
        assert (value - SIDES * (m + 4) / weight - limit / weight)[there].max() < 0, m


@settings(max_examples=200, deadline=None)
@given(
    st.integers(16, 90),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, 0.2, 2.0]),
    st.booleans(),
)
def test_no_points_have_more(K: int, seed: int, far: float, hexagonal: bool) -> None:
    """Rows of a lattice, turned and moved, some of them on walls: the mean of r is below."""
    rng = np.random.default_rng(seed)
    rows = math.ceil(math.sqrt(K))
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(rows)), axis=-1).reshape(-1, 2)[:K]
    points = 2.0 * grid / max(rows - 1, 1) - 1
    if hexagonal:
        points[:, 0] = 2 * (grid[:, 0] + grid[:, 1] % 2 / 2) / (rows - 0.5) - 1
    points = np.clip(points + far * rng.normal(size=points.shape), -1, 1)
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    assert distances.min(axis=1).mean() <= float(voronoi_bound(K).value)


@settings(max_examples=100, deadline=None)
@given(st.integers(16, 60), st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.1, 0.3, 2.0]))
def test_every_cell(K: int, seed: int, far: float) -> None:
    """Cells cut by the square, as those of all points and of their images in its four sides."""
    rng = np.random.default_rng(seed)
    rows = math.ceil(math.sqrt(K))
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(rows)), axis=-1).reshape(-1, 2)[:K]
    points = np.clip(2 * grid / (rows - 1) - 1 + far * rng.normal(size=(K, 2)), -0.99, 0.99)
    points += rng.uniform(-0.009, 0.009, (K, 2))  # all of them different
    images = [np.where(np.arange(2) == c, 2 * e - points, points) for c in (0, 1) for e in (-1, 1)]
    diagram = Voronoi(np.concatenate([points, *images]))
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    r = distances.min(axis=1)
    sides, walls, length = (np.zeros(K) for _ in range(3))
    for (a, b), ridge in zip(diagram.ridge_points, diagram.ridge_vertices, strict=True):
        for k, other in ((a, b), (b, a)):
            if k < K:
                sides[k] += 1
            if k < K <= other:
                walls[k] += 1
                length[k] += np.linalg.norm(np.subtract(*diagram.vertices[ridge]))
    area = [ConvexHull(diagram.vertices[diagram.regions[diagram.point_region[k]]]).volume
            for k in range(K)]  # fmt: skip
    assert sum(area) == pytest.approx(4)
    assert length.sum() == pytest.approx(8)
    assert (sides + walls).sum() <= 6 * K + 2
    weight = math.sqrt(INNER * K + CORNERS) / 2
    corner = np.array(
        [(cdist([e], CUBE) < one / 2).any() for e, one in zip(points, r, strict=True)]
    )
    assert corner.sum() <= 4
    spent = weight * np.array(area) + EDGES * length + SIDES / weight * (sides + walls)
    limit = INNER - 6 * SIDES + corner * (CORNERS - 2 * SIDES) / 4
    assert (r - spent < limit / weight + 1e-9).all()


def test_values() -> None:
    """Below Blichfeldt's bound from 16 points on; of many points, what hexagons have, and walls."""
    assert float(voronoi_bound(16).value) == pytest.approx(0.7573, abs=1e-4)
    many = 10**8
    assert float(voronoi_bound(many).value) * math.sqrt(many) == pytest.approx(
        2 * math.sqrt(2 / math.sqrt(3)), rel=1e-3
    )
    with pytest.raises(ValueError, match="at least 16; got 15"):
        voronoi_bound(15)
