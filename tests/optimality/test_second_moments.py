"""Decoders of lattices by what rounding costs: the closed forms of Conway and Sloane."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tokenkl.codebooks.lattice import nearest_a2, nearest_dn_dual
from tokenkl.optimality import second_moment
from tokenkl.optimality.second_moments import LATTICES

#: To the digits with which they are quoted.
PRINTED = {
    "Z": 0.083333, "A2": 0.080188, "A3": 0.078745, "A3*": 0.078543, "D4": 0.076603,
    "D5": 0.075786, "E8": 0.071682,
}  # fmt: skip


@pytest.mark.parametrize("name", LATTICES)
def test_closed_forms(name: str) -> None:
    if name in PRINTED:
        assert LATTICES[name].second_moment == pytest.approx(PRINTED[name], abs=6e-7)
    found = second_moment(name, key=3)
    # Chance of a false alarm of all of them together: 8 normal tails beyond 5.
    away = float(found.value) - LATTICES[name].second_moment
    assert abs(away) < 5 * float(found.standard_error)
    assert float(found.standard_error) < 2e-3 * LATTICES[name].second_moment


@pytest.mark.parametrize("name", [name for name, one in LATTICES.items() if one.n <= 4])
def test_a_period_holds_whole_cells(name: str) -> None:
    """Points within a period, listed by rounding a fine grid: as many as volumes of cells."""
    one = LATTICES[name]
    axes = [np.arange(0, side, side / 12) + side / 31 for side in one.period]
    x = np.array(list(itertools.product(*axes)))
    points = np.round(np.mod(np.round(one.nearest(x), 9), one.period), 6)
    points = np.where(np.isclose(points, one.period, atol=1e-5), 0.0, points)
    count = np.unique(points, axis=0).shape[0]
    assert count == pytest.approx(np.prod(one.period) / one.volume, rel=1e-12)


def test_hexagons_and_body_centred_cubes_by_search() -> None:
    rng = np.random.default_rng(0)
    for nearest, n, sides, shift in (
        (nearest_a2, 2, np.array([1.0, 3**0.5]), np.array([0.5, 3**0.5 / 2])),
        (nearest_dn_dual, 3, np.ones(3), np.full(3, 0.5)),
    ):
        grid = np.array(list(itertools.product(range(-3, 4), repeat=n))) * sides
        points = np.concatenate([grid, grid + shift])
        x = rng.uniform(-1, 1, size=(2000, n))
        best = np.linalg.norm(x[:, None] - points, axis=-1).min(axis=1)
        np.testing.assert_allclose(np.linalg.norm(x - nearest(x), axis=1), best, atol=1e-12)


def test_refused() -> None:
    with pytest.raises(ValueError, match="lattice must be one of"):
        second_moment("E9", key=0)
    with pytest.raises(ValueError, match="n_samples must be a whole number"):
        second_moment("E8", key=0, n_samples=1)
