"""The lattice cuts: that they are the lattices they say, and what they promise."""

from typing import Any

import numpy as np
import pytest

from tokenkl.codebooks import FSQ, PointCodebook, e6_codebook, e8_codebook
from tokenkl.optimality import mean_nn_distance, min_distance, nn_distances


@pytest.fixture(scope="module")
def cut() -> PointCodebook:
    return e8_codebook()


def test_as_many_points_as_fsq_in_the_same_box(cut: PointCodebook) -> None:
    assert (cut.K, cut.n) == (3**8, 8)
    assert np.unique(cut.points, axis=0).shape[0] == cut.K
    assert np.abs(cut.points).max() == 1


def test_every_point_is_in_one_translate_of_the_lattice(cut: PointCodebook) -> None:
    # E8: all coordinates whole or all half-odd, with an even sum; one coordinate is shifted so.
    x = cut.points * 1.25 + 1.25
    np.testing.assert_allclose(2 * x, np.round(2 * x), atol=1e-14)
    half_odd = np.round(2 * x).astype(int) % 2
    assert (half_odd == half_odd[:, :1]).all()
    difference = np.round(2 * (x - x[0])).astype(int)
    odd = difference[:, 0] % 2
    total = difference.sum(axis=1) // 2
    # Even translate: whole rows have even sums; odd rows have odd sums, all of them.
    assert (total % 2 == odd).all()


def test_every_nearest_neighbour_is_at_sqrt_2_over_1_25(cut: PointCodebook) -> None:
    np.testing.assert_allclose(nn_distances(cut), np.sqrt(2) / 1.25, rtol=1e-14)
    assert min_distance(cut) == pytest.approx(np.sqrt(2) / 1.25, rel=1e-14)
    assert mean_nn_distance(cut) > 1.13 > mean_nn_distance(FSQ((3,) * 8)) == 1


def test_an_inner_point_touches_240_others(cut: PointCodebook) -> None:
    points = cut.points * 1.25
    inner = points[np.abs(points + 0.25).max(axis=1) < 1e-12]  # 1, ..., 1 before the shift
    assert inner.shape[0] == 1
    squares = np.round(np.square(points - inner).sum(axis=1), 9)
    # Of the 240, 112 are +-1 +-1 in two places and 128 have all halves: both are in the cut.
    assert np.count_nonzero(squares == 2) == 240
    assert squares[squares > 0].min() == 2


def test_prior_is_passed_on() -> None:
    prior = np.random.default_rng(0).dirichlet(np.ones(6561))
    np.testing.assert_allclose(e8_codebook(prior).prior, prior, rtol=1e-13)


def test_e6_has_its_kissing_number() -> None:
    codebook = e6_codebook()
    assert (codebook.K, codebook.n) == (729, 6)
    distance = np.linalg.norm(codebook.points[:, None] - codebook.points, axis=-1)
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_allclose(distance.min(axis=1), np.sqrt(3), rtol=1e-12)
    neighbours = (distance < np.sqrt(3) + 1e-9).sum(axis=1)
    assert neighbours.max() == 72  # the points deep inside the ball
    radius = np.linalg.norm(codebook.points, axis=1)
    assert (neighbours[radius < radius.max() - np.sqrt(3)] == 72).all()


@pytest.mark.parametrize("K", [0, 2001, 1.5])
def test_e6_refuses_sizes_beyond_its_list(K: Any) -> None:
    with pytest.raises(ValueError, match="K must be"):
        e6_codebook(K)
