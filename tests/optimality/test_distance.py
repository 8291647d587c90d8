"""Nearest-neighbour distances against brute force, closed forms, and nasty inputs."""

import math
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl.codebooks import FSQ, OneHot, PointCodebook, ProductCodebook, ResidualCodebook
from tokenkl.numerics import neighbours
from tokenkl.optimality import mean_nn_distance, min_distance, nn_distances


def brute(points: np.ndarray) -> np.ndarray:
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1)


@pytest.fixture(params=["tree", "blocks"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both algorithms, whatever the dimension, and blocks small enough to have many."""
    monkeypatch.setattr(neighbours, "TREE_DIMENSIONS", 10**9 if request.param == "tree" else 0)
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", 64)
    monkeypatch.setattr(neighbours, "BLOCK_COLUMNS", 100)
    monkeypatch.setattr(neighbours, "CHUNK_ELEMENTS", 1000)


def cases() -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for n in (1, 2, 8, 33):
        yield f"gaussian {n}", rng.normal(size=(501, n))
    yield "two points", rng.normal(size=(2, 3))
    yield "offset", rng.normal(size=(300, 8)) + 1e6
    yield "tiny", rng.normal(size=(300, 4)) * 1e-160
    yield "huge", rng.normal(size=(300, 4)) * 1e160
    pairs = rng.uniform(-1, 1, size=(150, 12)) + 1e3
    yield "near-duplicates", np.concatenate([pairs, pairs + 1e-6 * rng.normal(size=pairs.shape)])
    clusters = np.repeat(rng.normal(size=(5, 6)), 80, axis=0)
    yield "tight clusters", clusters + 1e-9 * rng.normal(size=clusters.shape)
    yield "an outlier", np.concatenate([1e-7 * rng.normal(size=(200, 5)), np.full((1, 5), 1e4)])
    yield "simplex", np.eye(130)
    yield "grid", FSQ((3,) * 5).points
    duplicated = rng.normal(size=(200, 7))
    duplicated[150] = duplicated[3]
    yield "one duplicate", duplicated
    yield "all equal", np.ones((70, 3))


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize(("name", "points"), list(cases()), ids=[name for name, _ in cases()])
def test_exact_against_brute_force(name: str, points: np.ndarray) -> None:
    # cdist squares what it is given, so it is given numbers whose squares neither over- nor
    # underflow; a power of two changes no bit.
    factor = {"tiny": 2.0**530, "huge": 2.0**-530}.get(name, 1.0)
    found = neighbours.nearest_distances(points)
    np.testing.assert_allclose(found, brute(points * factor) / factor, rtol=2e-15 * 33, atol=0)
    if name == "one duplicate":
        assert np.flatnonzero(found == 0).tolist() == [3, 150]
    if name == "all equal":
        assert (found == 0).all()


@pytest.mark.parametrize("K", [512, 513, 5000])
@pytest.mark.parametrize("kind", ["apart", "clusters", "ties", "one away"])
@pytest.mark.slow
def test_blocks_of_pairs(kind: str, K: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pair is met once, for both of its tokens, whatever the number of threads."""
    rng = np.random.default_rng(K)
    points = {
        "apart": lambda: rng.standard_normal((K, 12)),
        "clusters": lambda: (
            rng.standard_normal((7, 12))[rng.integers(0, 7, K)]
            + 1e-7 * rng.standard_normal((K, 12))
        ),
        "ties": lambda: rng.integers(0, 3, (K, 12)) + 0.1,
        "one away": lambda: np.r_[np.zeros((K - 1, 12)), np.ones((1, 12))],
    }[kind]()
    squares = cdist(points, points, "sqeuclidean")
    np.fill_diagonal(squares, np.inf)
    found = []
    for threads in ("1", "3"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        found.append(neighbours.nearest_distances(points))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], np.sqrt(squares.min(axis=1)), rtol=1e-14)


@pytest.mark.usefixtures("method")
def test_gap_of_1e_6_at_an_offset_of_1e_3_to_the_last_digits() -> None:
    rng = np.random.default_rng(7)
    base = np.round(rng.uniform(-1, 1, size=(40, 6)) * 2**20) / 2**20 + 1024
    moved = base.copy()
    moved[:, 2] += 2.0**-20  # exact in binary
    distances = nn_distances(PointCodebook(np.concatenate([base, moved])))
    assert (distances == 2.0**-20).all()


def grids() -> Iterator[ProductCodebook]:
    yield FSQ((3,) * 4)
    yield FSQ((2, 3, 4, 5), grid="rounding", order="F")
    yield FSQ((1, 4, 1))
    yield ProductCodebook([[0, 1, 3.5, 3.7], [0.0, 1, 2.2, -9], [5.0]], order="F")
    rng = np.random.default_rng(1)
    yield ProductCodebook([rng.normal(size=size) for size in (5, 1, 6, 7)])
    yield ProductCodebook([rng.normal(size=20), 1e-3 * rng.normal(size=11)], order="F")


@pytest.mark.parametrize("cb", list(grids()), ids=lambda cb: cb.label)
def test_closed_form_on_grids(cb: tk.ProductCodebook) -> None:
    expected = brute(cb.points)
    np.testing.assert_allclose(nn_distances(cb), expected, rtol=1e-14)
    assert mean_nn_distance(cb) == pytest.approx(expected.mean(), rel=1e-14)
    assert min_distance(cb) == pytest.approx(expected.min(), rel=1e-14)


def test_closed_form_on_grids_in_exact_arithmetic() -> None:
    levels = [[0, 1, 3, 7], [0, 2, 5], [0, 4, 9, 15, 22]]
    gaps = [[1, 1, 2, 4], [2, 2, 3], [4, 4, 5, 6, 7]]
    exact = Fraction(sum(min(a, b, c) for a in gaps[0] for b in gaps[1] for c in gaps[2]), 60)
    cb = ProductCodebook([np.array(column, float) for column in levels])
    assert mean_nn_distance(cb) == pytest.approx(float(exact), rel=1e-15)


def test_fsq_has_the_mean_distance_that_its_step_says() -> None:
    for levels in ((3,) * 8, (17,) * 6, (10,) * 40):
        step = 2 / (levels[0] - 1)
        assert mean_nn_distance(FSQ(levels)) == pytest.approx(step, rel=1e-14)
        assert min_distance(FSQ(levels)) == pytest.approx(step, rel=1e-14)
    assert mean_nn_distance(FSQ((2, 5, 9))) == pytest.approx(0.25)


def test_one_hot() -> None:
    for cb in (OneHot(10**6, scale=3.0), OneHot(2, [0.1, 0.9], scale=3.0)):
        assert mean_nn_distance(cb) == min_distance(cb) == 3 * math.sqrt(2)
    np.testing.assert_allclose(nn_distances(OneHot(6)), brute(np.eye(6)), rtol=1e-15)


def test_priors_do_not_matter() -> None:
    points = np.random.default_rng(2).normal(size=(9, 2))
    prior = np.random.default_rng(3).dirichlet(np.ones(9))
    assert mean_nn_distance(PointCodebook(points, prior)) == mean_nn_distance(PointCodebook(points))


def test_residual_sums_that_coincide_are_at_distance_0() -> None:
    cb = ResidualCodebook([[[0.0], [1.0]], [[0.0], [1.0]]])
    assert nn_distances(cb).tolist() == [1, 0, 0, 1]
    assert (mean_nn_distance(cb), min_distance(cb)) == (0.5, 0)


def vertices(n: int) -> np.ndarray:
    return FSQ((2,) * n).points


def test_counterexamples_of_statement_17() -> None:
    # Base 2, n = 5: a vertex replaced by the centre.
    points = np.concatenate([vertices(5)[1:], np.zeros((1, 5))])
    assert mean_nn_distance(PointCodebook(points)) == pytest.approx((62 + math.sqrt(5)) / 32)
    # Base 3, n = 4: halves added, the 16 points at distance 1 from four corners taken away.
    points = np.concatenate([FSQ((3,) * 4).points, vertices(4) / 2])
    corners = [(1, 1, a, b) for a in (1, -1) for b in (1, -1)]
    gone = [np.isclose(np.linalg.norm(points - corner, axis=1), 1) for corner in corners]
    cb = PointCodebook(points[~np.any(gone, axis=0)])
    assert cb.K == 81
    assert mean_nn_distance(cb) == pytest.approx((77 + 4 * math.sqrt(2)) / 81, rel=1e-14)


@pytest.mark.parametrize("function", [nn_distances, mean_nn_distance, min_distance])
@pytest.mark.parametrize("cb", [PointCodebook([[1.0]]), FSQ((1, 1)), OneHot(1)], ids=repr)
def test_a_single_token_has_no_neighbour(function: Callable[..., Any], cb: tk.Codebook) -> None:
    with pytest.raises(ValueError, match="K must be at least 2"):
        function(cb)


def test_too_many_distances_are_refused() -> None:
    for cb in (FSQ((17,) * 8), OneHot(10**9)):
        with pytest.raises(ValueError, match="nn_distances must be at most"):
            nn_distances(cb)
    assert mean_nn_distance(FSQ((17,) * 8)) == pytest.approx(0.125)


@pytest.mark.slow
@pytest.mark.parametrize(("K", "n", "limit"), [(65536, 8, 30), (32768, 16, 30), (16384, 64, 8)])
def test_tens_of_thousands_of_tokens_take_seconds(K: int, n: int, limit: float) -> None:
    """The limits are what 65,536 tokens may take, 120 s, by the number of pairs, and less."""
    points = np.random.default_rng(n).normal(size=(K, n))
    start = time.process_time()
    found = neighbours.nearest_distances(points)
    assert time.process_time() - start < limit
    some = np.arange(0, K, 1000)
    distances = cdist(points[some], points)
    distances[np.arange(some.size), some] = np.inf
    np.testing.assert_allclose(found[some], distances.min(axis=1), rtol=1e-14)
