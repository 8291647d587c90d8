"""Branch and bound over patterns of cells, on fewer points than the file of the package has."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from tokenkl.optimality.patterns import SIDE, Node, find, patterns
from tokenkl.optimality.verify_patterns import Refused, verify


def test_four_points() -> None:
    """The corners are the only four points of the square with D = 2, and D < 2 is not proved."""
    corners = np.array(list(itertools.product((0.0, 2.0), repeat=2)))
    record = find(2, 4, 2, Fraction(8), corners)
    says = verify(record)
    assert "the sum of r is at most 8 (" in says
    assert "nowhere but at [[(0.0, 0.0), (0.0, 2.0), (2.0, 0.0), (2.0, 2.0)]] and" in says
    with pytest.raises(Refused, match="reach 8, more than 7"):
        verify({**record, "limit": 7})


def test_one_of_each_kind_of_patterns() -> None:
    """Orbits have as many patterns as there are in all."""
    for n, K, m in [(2, 3, 2), (2, 4, 3), (3, 3, 2)]:
        shape = np.arange(m**n).reshape((m,) * n)
        images = [
            np.flip(shape.transpose(order), axes).ravel()
            for order in itertools.permutations(range(n))
            for k in range(n + 1)
            for axes in itertools.combinations(range(n), k)
        ]
        orbits = [{tuple(np.array(one)[image]) for image in images} for one in patterns(n, K, m)]
        assert sum(map(len, orbits)) == len(set().union(*orbits)) == math.comb(K + m**n - 1, K)


def test_weights_bound_points_of_the_cells() -> None:
    """What best weights prove is above what random points of the cells have, and not far."""
    rng = np.random.default_rng(3)
    cells = tuple(
        ((x * SIDE, (x + 1) * SIDE), (y * SIDE, (y + 1) * SIDE))
        for x, y in [(0, 0), (0, 0), (0, 1), (1, 0), (1, 1), (1, 1)]
    )
    node = Node(cells, Fraction(1))
    best, (point, axis) = node.best()
    weights = np.rint(best * 1000).astype(np.int64)
    bound = float(node.value(weights))
    low, high = np.array(cells, dtype=float).transpose(2, 0, 1) / SIDE
    points = rng.choice([0.0, 0.5, 1.0], (20000, *low.shape)) * (high - low) + low
    apart = np.linalg.norm(points[:, :, None] - points[:, None], axis=3)
    apart[:, range(6), range(6)] = np.inf
    reached = apart.min(axis=2).sum(axis=1).max()
    assert reached <= bound < 1.3 * reached
    assert len(list(node.halves(point, axis))) == 1 + sum(cell == cells[point] for cell in cells)
