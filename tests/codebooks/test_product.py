"""Grids: ids and digits, published conventions, laziness, joint priors, nearest tokens."""

import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import pytest

from tokenkl.codebooks import (
    FSQ,
    Codebook,
    PointCodebook,
    Product,
    ProductCodebook,
    ResidualCodebook,
    product,
)
from tokenkl.codebooks.digits import Order
from tokenkl.codebooks.product import rounding_levels, symmetric_levels

ORDERS = ("C", "F")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("levels", [(3,), (2, 3, 4), (8, 5, 5, 5), (1, 3, 1)])
def test_digits_agree_with_numpy_and_invert(levels: tuple[int, ...], order: Order) -> None:
    cb = FSQ(levels, order=order)
    ids = np.arange(cb.K)
    digits = cb.to_digits(ids)
    np.testing.assert_array_equal(
        digits, np.stack(np.unravel_index(ids, levels, order=order), axis=-1)
    )
    np.testing.assert_array_equal(cb.from_digits(digits), ids)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("levels", [(17,) * 6, (3,) * 39, (2,) * 62, (1,) * 70 + (5,) * 20])
def test_digits_invert_on_grids_that_fit_in_no_memory(
    levels: tuple[int, ...], order: Order
) -> None:
    cb = FSQ(levels, order=order)
    ids = np.random.default_rng(0).integers(cb.K, size=(7, 50))
    assert cb.from_digits(cb.to_digits(ids)).tolist() == ids.tolist()
    assert cb.to_digits(cb.K - 1).tolist() == [count - 1 for count in levels]


def test_more_tokens_than_64_bit_integers() -> None:
    cb = FSQ((10,) * 40)
    assert cb.K == 10**40
    assert cb.to_digits(1234).tolist() == [0] * 36 + [1, 2, 3, 4]
    assert cb.points_at([0]).tolist() == [[-1.0] * 40]
    with pytest.raises(ValueError, match="64-bit"):
        cb.from_digits(np.zeros(40, int))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sizes", [(2**16, 2**16, 2**16, 2**14), (2**16,) * 4, (2**9,) * 7])
def test_a_part_of_more_tokens_than_64_bit_integers(sizes: tuple[int, ...], order: Order) -> None:
    """Its ids are those of all tokens, wherever it varies fastest."""
    beside = FSQ((3,))
    parts = [beside, FSQ(sizes)] if order == "C" else [FSQ(sizes), beside]
    cb = Product(parts, order=order)
    last = 2**63 - 1
    expected = [list(divmod(one, math.prod(sizes))) for one in (0, 5, last)]
    found = cb.to_digits([0, 5, last])
    assert found.tolist() == [row if order == "C" else row[::-1] for row in expected]
    slow = Product(parts, order="F" if order == "C" else "C")
    found = slow.to_digits([5, last]).tolist()
    assert [sorted(row) for row in found] == [[1, 2], [1, last // 3]]
    alone = Product([FSQ((1,)), FSQ((2**9,) * 7)], order=order)
    assert alone.from_digits([0, last]) == last
    assert alone.to_digits(last).tolist() == [0, last]


@pytest.mark.parametrize("pairs_of_equal", [0, 1100])
def test_pairs_beyond_the_largest_number_of_float64(pairs_of_equal: int) -> None:
    """As many as there are, to rounding, and where float64 does not reach them about its most."""
    levels = [[0.0, 0.0]] * pairs_of_equal + [[0.0, 1.0]] * (1100 - pairs_of_equal)
    [(weights, distances, odds)] = ProductCodebook(levels, allow_duplicates=True).pairs()
    assert odds is None
    assert (np.diff(distances) > 0).all()
    assert np.isfinite(weights.sum())
    assert weights.sum() > 1e307
    [(weights, distances, _)] = FSQ((2,) * 1000).pairs()
    exact = [math.comb(1000, k) for k in range(1001)]
    assert weights[0] == 0
    np.testing.assert_allclose(weights[1:], np.array(exact[1:], float), rtol=1e-12)
    np.testing.assert_allclose(distances, 2 * np.sqrt(np.arange(1001)), rtol=1e-11)


def test_order_says_which_coordinate_is_fastest() -> None:
    assert FSQ((2, 3)).to_digits(1).tolist() == [0, 1]
    assert FSQ((2, 3), order="F").to_digits(1).tolist() == [1, 0]


def test_grids_by_name() -> None:
    assert symmetric_levels(4).tolist() == [-1, -1 / 3, 1 / 3, 1]
    assert symmetric_levels(1).tolist() == [0]
    assert rounding_levels(4).tolist() == [-1, -0.5, 0, 0.5]
    assert rounding_levels(2).tolist() == [-1, 0]
    assert rounding_levels(1).tolist() == [0]
    for count in (3, 5, 17):
        np.testing.assert_array_equal(rounding_levels(count), symmetric_levels(count))
    for count in range(1, 40):
        np.testing.assert_array_equal(symmetric_levels(count), -symmetric_levels(count)[::-1])
    assert FSQ((4,), grid="rounding").points[:, 0].tolist() == [-1, -0.5, 0, 0.5]
    with pytest.raises(ValueError, match="grid must be one of 'symmetric', 'rounding'"):
        FSQ((4,), grid=cast(Any, "centred"))


@pytest.mark.parametrize(
    "levels", [(8, 5, 5, 5), (3,) * 8, (8, 8, 8, 6, 5), (2, 2), (7, 5, 5, 5, 5)]
)
@pytest.mark.parametrize("grid", ["symmetric", "rounding"])
def test_same_codebook_as_vector_quantize_pytorch(
    levels: tuple[int, ...], grid: Literal["symmetric", "rounding"]
) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("vector_quantize_pytorch")
    if grid == "rounding" and 2 in levels:
        with pytest.raises(AssertionError, match="preserve_symmetry"):
            library.FSQ(list(levels))
        return
    theirs = library.FSQ(list(levels), preserve_symmetry=grid == "symmetric")
    ours = FSQ(levels, grid=grid, order="F")
    implicit = theirs.implicit_codebook.double().numpy()
    assert implicit.shape[0] == ours.K
    np.testing.assert_allclose(ours.points, implicit, rtol=0, atol=3e-7)  # theirs is float32
    ids = torch.arange(0, ours.K, 7)
    codes = theirs.indices_to_codes(ids[None])[0].double().numpy()
    np.testing.assert_allclose(ours.points_at(ids.numpy()), codes, rtol=0, atol=3e-7)
    back = theirs.codes_to_indices(torch.tensor(ours.points, dtype=torch.float32)).numpy()
    np.testing.assert_array_equal(back, np.arange(ours.K))
    np.testing.assert_array_equal(ours.nearest(implicit), np.arange(ours.K))


def test_a_big_grid_costs_nothing_until_points_are_asked_for() -> None:
    tracemalloc.start()
    cb = FSQ((17,) * 6)
    facts = cb.K, cb.n, cb.has_equal_priors, cb.prior_entropy(), repr(cb)
    cb.points_at([0, 5, 24_137_568])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert facts[:3] == (24_137_569, 6, True)
    assert facts[3] == pytest.approx(6 * np.log(17), rel=1e-14)
    assert "FSQ 17^6" in facts[4]
    with pytest.raises(ValueError, match=r"points must be at most .* points_at\(ids\)"):
        cb.points  # noqa: B018
    with pytest.raises(ValueError, match="log_prior must be at most"):
        FSQ((17,) * 8).log_prior  # noqa: B018
    assert FSQ((3, 3)).materialise(18).shape == (9, 2)
    with pytest.raises(ValueError, match="points"):
        FSQ((3, 3)).materialise(17)


@pytest.mark.parametrize("order", ORDERS)
def test_points_run_through_the_grid_in_the_order_of_the_ids(order: Order) -> None:
    cb = ProductCodebook([[0.0, 1.0], [5.0, 7.0, 6.0]], order=order)
    expected = list(itertools.product([0.0, 1.0], [5.0, 7.0, 6.0]))
    if order == "F":
        expected = [(a, b) for b in [5.0, 7.0, 6.0] for a in [0.0, 1.0]]
    assert cb.points.tolist() == [list(point) for point in expected]
    assert cb.points_at(4).tolist() == list(expected[4])
    assert cb.points_at(np.array([[0], [5]])).shape == (2, 1, 2)


@pytest.mark.parametrize("order", ORDERS)
def test_a_joint_prior_that_factorises_is_stored_as_factors(order: Order) -> None:
    rng = np.random.default_rng(1)
    factors = [rng.dirichlet(np.ones(size)) for size in (2, 3, 4)]
    whole = ProductCodebook([np.arange(size) for size in (2, 3, 4)], factors, order=order)
    joint = np.einsum("i,j,k->ijk", *factors).ravel(order=order)
    np.testing.assert_allclose(whole.prior, joint, rtol=1e-14)
    cb = FSQ((2, 3, 4), joint, order=order)
    assert cb.factorises
    assert not cb.has_equal_priors
    for found, factor in zip(cb.priors, factors, strict=True):
        assert found is not None
        np.testing.assert_allclose(found, factor, rtol=1e-14)
    np.testing.assert_allclose(cb.prior, joint, rtol=1e-14)
    assert cb.prior_entropy() == pytest.approx(-np.sum(joint * np.log(joint)), rel=1e-13)


@pytest.mark.parametrize("order", ORDERS)
def test_a_joint_prior_that_does_not_factorise_is_kept_whole(order: Order) -> None:
    joint = np.random.default_rng(2).dirichlet(np.ones(24))
    cb = FSQ((2, 3, 4), joint, order=order)
    assert not cb.factorises
    np.testing.assert_allclose(cb.prior, joint, rtol=1e-15)
    assert cb.prior_entropy() == pytest.approx(-np.sum(joint * np.log(joint)), rel=1e-13)


@pytest.mark.parametrize("levels", [(17,) * 5, (2,) * 20])
def test_equal_and_product_priors_on_large_grids_are_recognised(levels: tuple[int, ...]) -> None:
    K = int(np.prod(levels))
    assert FSQ(levels, np.full(K, 1 / K)).has_equal_priors
    rng = np.random.default_rng(3)
    joint = np.ones(1)
    for size in levels:
        joint = np.multiply.outer(joint, rng.dirichlet(np.ones(size))).ravel()
    assert FSQ(levels, joint).factorises


@pytest.mark.parametrize("order", ORDERS)
def test_nearest_agrees_with_brute_force(order: Order) -> None:
    cb = ProductCodebook([[3.0, -1.0, 0.5], [2.0], [0.0, 9.0, 4.0, 1.0]], order=order)
    x = np.random.default_rng(4).normal(2, 4, size=(11, 20, 3))
    brute = np.linalg.norm(x[..., None, :] - cb.points, axis=-1).argmin(axis=-1)
    np.testing.assert_array_equal(cb.nearest(x), brute)
    np.testing.assert_array_equal(cb.nearest(cb.points), np.arange(cb.K))
    for bad in (np.zeros((4, 2)), 0.0, [[np.nan, 0, 0]]):
        with pytest.raises(ValueError, match="x must be"):
            cb.nearest(bad)


@pytest.mark.parametrize("order", ORDERS)
def test_of_several_nearest_tokens_the_first(order: Order) -> None:
    """As among points in a list, and as `decide` has it with equal priors."""
    cb = ProductCodebook([[1.0, -1.0], [3.0, 0.0, 1.0, 0.0]], order=order, allow_duplicates=True)
    x = np.array(list(itertools.product([-2, 0, 2], [-1, 0, 0.5, 1, 2, 4])), float)
    listed = PointCodebook(cb.points, allow_duplicates=True)
    np.testing.assert_array_equal(cb.nearest(x), listed.nearest(x))
    np.testing.assert_array_equal(cb.nearest(x), cb.decide(x, np.ones(len(x))))


@pytest.mark.parametrize("make", [Product, ProductCodebook, ResidualCodebook])
@pytest.mark.parametrize("p", [0.2, 1e-9, 1e-20])
def test_what_is_left_beside_the_most_probable_token(make: type[Codebook], p: float) -> None:
    """1 - (1 - p)^2 (1 - 2 p), with its digits."""
    laws, left = [[1 - p, p], [p, 1 - p], [p, 1 - 2 * p, p]], (1 - p) * (1 - p) * (1 - 2 * p)
    expected = 1 - left if p > 0.1 else 4 * p - 5 * p**2
    cb: Codebook
    if make is ProductCodebook:
        cb = ProductCodebook([np.arange(len(law)) for law in laws], laws)
    elif make is Product:
        cb = Product([PointCodebook(np.eye(len(law)), law) for law in laws])
    else:
        cb = ResidualCodebook([np.eye(3)[: len(law)] for law in laws], stage_priors=laws)
    assert cb.smaller_priors() == pytest.approx(expected, rel=1e-12, abs=0)
    assert cb.largest_prior() == pytest.approx(left, rel=1e-13)


def test_distances_that_are_merged_count_as_lower_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs stay as many, none is further than it is, and equal tokens stay by themselves."""
    levels = [np.sort(np.random.default_rng(axis).normal(size=4)) for axis in range(3)]
    cb = ProductCodebook([*levels, [0.0, 0.0]], allow_duplicates=True)
    [(weights, distances, _)] = cb.pairs()
    monkeypatch.setattr(product, "MAX_CLASSES", 10)
    [(fewer, lower, _)] = cb.pairs()
    assert lower.size <= 11 < distances.size
    assert fewer.sum() == pytest.approx(cb.K - 1, rel=1e-12)
    assert fewer[0] == pytest.approx(weights[0], rel=1e-12)
    assert lower[0] == 0
    for bound in lower:  # as many within any distance, or more
        assert fewer[lower <= bound].sum() >= weights[distances <= bound].sum() * (1 - 1e-12)


def test_labels() -> None:
    assert FSQ((3,) * 8).label == "FSQ 3^8"
    assert FSQ((8, 5, 5, 5)).label == "FSQ 8x5x5x5"
    assert ProductCodebook([[0, 1], [0, 1]]).label == "grid 2^2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProductCodebook([]), "levels"),
        (lambda: ProductCodebook(cast(Any, np.zeros((2, 2)))), "levels"),
        (lambda: ProductCodebook([[0.0, 0.0]]), r"levels\[0\] must be distinct"),
        (lambda: ProductCodebook([[0.0, np.inf]]), r"levels\[0\] must be finite"),
        (lambda: ProductCodebook([[[0.0, 1.0]]]), r"levels\[0\] must be an array with one axis"),
        (lambda: ProductCodebook([[0, 1]], order=cast(Any, "A")), "order must be one of"),
        (lambda: ProductCodebook([[0, 1]], [[0.5, 0.5]], [0.5, 0.5]), "prior must be given alone"),
        (lambda: ProductCodebook([[0, 1]], [None, None]), "priors must be a list of 1"),
        (lambda: ProductCodebook([[0, 1]], [[0.2, 0.2, 0.6]]), r"priors\[0\] must be of length"),
        (lambda: Product([]), "parts must be a list with at least one codebook"),
        (
            lambda: Product([FSQ((2,)), cast(Any, 3)]),
            r"^parts\[1\] must be a tokenkl codebook, .*; got 3\.$",
        ),
        (lambda: FSQ((2, 2), [0.5, 0.5]), "prior must be of length K = 4"),
        (lambda: FSQ((2, 2)).to_digits(4), "ids must be whole numbers from 0 to 3"),
        (lambda: FSQ((2, 2)).from_digits([0, 2]), r"digits\[..., 1\] must be whole"),
        (lambda: FSQ((2, 2)).from_digits([0]), "digits must be an array whose last axis"),
    ],
)
def test_bad_input_is_refused(make: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_product_of_grids_is_a_grid_where_their_ids_count_alike() -> None:
    line, plane = FSQ((3,), order="F"), FSQ((2, 4), order="F")
    cases: list[tuple[list[ProductCodebook], Order]] = [
        ([line, FSQ((2, 4))], "C"),
        ([plane, line], "F"),
        ([plane], "F"),
    ]
    for parts, order in cases:
        whole = Product(parts, order=order)
        assert whole.as_grid is not None
        np.testing.assert_array_equal(whole.as_grid.points, whole.points)
    assert Product([plane, line]).as_grid is None


def test_parts_of_one_token_tell_none_apart() -> None:
    alone, points = PointCodebook([[7.0]]), np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0]])
    cb = Product([alone, PointCodebook(points), alone])
    listed = PointCodebook(cb.points)
    np.testing.assert_array_equal(cb.nn_distances(), listed.nn_distances())
    assert cb.min_distance() == cb.min_distance_bound() == 3
    assert cb.mean_nn_distance() == pytest.approx(10 / 3)
    assert ProductCodebook([[0, 1, 3], [5]]).mean_nn_distance() == pytest.approx(4 / 3)


def test_a_product_knows_its_covariance_where_parts_can_be_listed() -> None:
    small = PointCodebook(np.eye(3))
    assert not small.knows_covariance
    assert Product([small, FSQ((3,) * 90)]).knows_covariance
