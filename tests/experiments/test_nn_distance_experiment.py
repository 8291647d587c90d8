"""Facts of the nearest-neighbour figure: distances of batches, and honest values of the ascent."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from experiments import nn_distance


@pytest.mark.parametrize(("K", "n"), [(4, 2), (81, 4), (1000, 3)])
def test_random_distances_are_those_of_plain_differences(K: int, n: int) -> None:
    values = nn_distance.random_distances(K, n, 3, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    # Batches and single draws consume the generator in the same order.
    for value in values:
        points = rng.uniform(-1, 1, (K, n))
        distances = cdist(points, points)
        np.fill_diagonal(distances, np.inf)
        assert value == pytest.approx(distances.min(axis=1).mean(), rel=1e-10)


@pytest.mark.parametrize(("K", "n", "fsq"), [(2, 1, 2.0), (4, 2, 2.0), (8, 3, 2.0), (9, 2, 1.0)])
def test_ascent_finds_fsq_where_nothing_better_is_known(K: int, n: int, fsq: float) -> None:
    best = nn_distance.ascend(K, n, 30, 1000, np.random.default_rng(1)).max()
    assert best <= fsq + 1e-12
    assert best == pytest.approx(fsq, rel=1e-4)


def test_two_points_on_a_line_have_a_known_maximum() -> None:
    assert (nn_distance.ascend(2, 1, 10, 500, np.random.default_rng(2)) == 2).all()


def test_table_is_relative_to_fsq() -> None:
    config = nn_distance.Config(cases=((2, 5, 50, 0), (3, 4, 50, 2)), ascent_steps=50)
    table, facts = nn_distance.compute(config, lambda done, total: None)
    base2, base3 = facts["cases"]
    assert (base2["D_fsq"], base3["D_fsq"]) == (2, 1)
    assert base2["explicit"]["merged edges"] == pytest.approx((30 + np.sqrt(5)) / 32, abs=1e-14)
    assert base3["explicit"]["D4 cut"] == pytest.approx((77 + 4 * np.sqrt(2)) / 81, abs=1e-14)
    assert table[table["kind"] == "random"].groupby("n")["count"].sum().tolist() == [50, 50]
    assert facts["largest_random"] < 1 < facts["largest_explicit"]
