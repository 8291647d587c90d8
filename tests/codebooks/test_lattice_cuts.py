"""`LatticeCodebook`: the cuts, their ids and their decoders."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.codebooks import FSQ, LatticeCodebook, d_codebook, e8_codebook
from tokenkl.codebooks.lattice import nearest_dn, nearest_dn_plus, nearest_zn

Lattice = Literal["D", "D+"]

CUTS: list[tuple[Lattice, int, int]] = [
    ("D", 2, 1),
    ("D", 2, 3),
    ("D", 3, 4),
    ("D", 4, 4),
    ("D", 5, 3),
    ("D+", 2, 1),
    ("D+", 2, 8),
    ("D+", 3, 4),
    ("D+", 4, 3),
]


def test_e8_is_the_cut_of_e8_codebook() -> None:
    np.testing.assert_array_equal(LatticeCodebook("D+", 3, 8).points, e8_codebook().points)


@pytest.mark.parametrize(("lattice", "levels", "n"), CUTS)
def test_the_words_with_the_right_sum_in_order(lattice: Lattice, levels: int, n: int) -> None:
    cb = LatticeCodebook(lattice, levels, n)
    words = np.array(list(itertools.product(range(levels), repeat=n)), dtype=float)
    even = words.sum(axis=1) % 2 == 0
    centre = (levels - 1) / 2 if lattice == "D" else (levels - 0.5) / 2
    parts = [words[even]] + ([words[~even] + 0.5] if lattice == "D+" else [])
    expected = (np.concatenate(parts) - centre) / centre
    np.testing.assert_allclose(cb.points, expected, rtol=0, atol=1e-15)
    assert len(expected) == cb.K
    assert np.abs(cb.points).max() <= 1
    assert float(cb.prior_entropy()) == pytest.approx(np.log(cb.K), rel=1e-14, abs=1e-15)
    np.testing.assert_array_equal(cb.nearest(cb.points), np.arange(cb.K))


@pytest.mark.parametrize(("lattice", "levels", "n"), CUTS)
@pytest.mark.parametrize("spread", [0.4, 1.0, 20.0])
def test_nearest_in_the_cut(lattice: Lattice, levels: int, n: int, spread: float) -> None:
    cb = LatticeCodebook(lattice, levels, n)
    x = spread * np.random.default_rng(n).standard_normal((1500, n))
    squares = ((x[:, None] - cb.points) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(cb.nearest(x), squares.argmin(axis=1))
    np.testing.assert_array_equal(cb.nearest_points(x), cb.points[squares.argmin(axis=1)])


def _brute(x: np.ndarray, translates: list[tuple[float, int | None]]) -> np.ndarray:
    """Nearest points of a lattice by all that lie within 2 of each coordinate."""
    base = np.floor(x)
    steps = np.array(list(itertools.product((-1, 0, 1, 2), repeat=x.size)), dtype=float)
    near = [base + steps + shift for shift, _ in translates]
    near = [
        one[np.round((one - shift).sum(axis=1)) % 2 == parity] if parity is not None else one
        for one, (shift, parity) in zip(near, translates, strict=True)
    ]
    kept = np.concatenate(near)
    return kept[((kept - x) ** 2).sum(axis=1).argmin()]


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_nearest_points_of_lattices(n: int) -> None:
    cases: list[tuple[Callable[..., np.ndarray], list[tuple[float, int | None]]]] = [
        (nearest_zn, [(0.0, None)]),
        (nearest_dn, [(0.0, 0)]),
        (nearest_dn_plus, [(0.0, 0), (0.5, 0)]),
    ]
    x = 3 * np.random.default_rng(n).standard_normal((40, n))
    for decode, translates in cases:
        found = decode(x)
        for row, point in zip(x, found, strict=True):
            np.testing.assert_array_equal(point, _brute(row, translates))


def test_e8_covering_radius() -> None:
    """Every point of R^8 is within 1 of E8, and its deep holes are exactly at 1."""
    x = np.random.default_rng(1).uniform(-9, 9, size=(20000, 8))
    distance = np.linalg.norm(x - nearest_dn_plus(x), axis=1)
    assert 0.85 < distance.max() <= 1
    hole = np.eye(8)[0]  # half of a vector of norm 4
    assert np.linalg.norm(hole - nearest_dn_plus(hole)) == 1


def test_second_moment_of_e8() -> None:
    """The normalised second moment of E8 is 929/12960 (Conway and Sloane 1982)."""
    x = np.random.default_rng(2).uniform(0, 2, size=(200_000, 8))
    squares = ((x - nearest_dn_plus(x)) ** 2).sum(axis=1) / 8
    z = (squares.mean() - 929 / 12960) / (squares.std() / np.sqrt(squares.size))
    assert abs(z) < 4.3


def test_a_cut_too_large_to_list() -> None:
    cb = d_codebook(24, 4)
    assert cb.K == 4**24 // 2
    ids = np.random.default_rng(0).integers(cb.K, size=500)
    points = cb.points_at(ids)
    words = np.round((points + 1) * 1.5).astype(int)
    assert (words.sum(axis=1) % 2 == 0).all()
    np.testing.assert_array_equal(cb.nearest(points + 0.3 / 1.5 / 24), ids)
    with pytest.raises(ValueError, match="points must be"):
        _ = cb.points
    assert 2 * np.sqrt(2) / 3 == pytest.approx(tk.min_distance(d_codebook(4, 4)), rel=1e-13)


def test_beyond_64_bits() -> None:
    cb = LatticeCodebook("D+", 3, 200)
    assert cb.K == 3**200
    assert float(cb.prior_entropy()) == pytest.approx(200 * np.log(3), rel=1e-14)
    points = cb.sample_points(np.random.default_rng(0), 50)
    np.testing.assert_array_equal(cb.nearest_points(points), points)
    last = 2**63 - 1
    np.testing.assert_array_equal(
        cb.nearest_points(cb.points_at([0, last])), cb.points_at([0, last])
    )
    with pytest.raises(ValueError, match="K must be at most"):
        cb.nearest(points)


@pytest.mark.parametrize(("lattice", "levels", "n"), [("D", 3, 3), ("D+", 2, 3), ("D+", 3, 2)])
def test_sampled_points_are_uniform(lattice: Lattice, levels: int, n: int) -> None:
    cb = LatticeCodebook(lattice, levels, n)
    ids = cb.nearest(cb.sample_points(np.random.default_rng(5), 40_000))
    expected = 40_000 / cb.K
    chi2 = ((np.bincount(ids, minlength=cb.K) - expected) ** 2 / expected).sum()
    assert abs(chi2 - (cb.K - 1)) < 5 * np.sqrt(2 * cb.K)


def test_distances_beside_fsq() -> None:
    for n, levels in ((4, 3), (5, 4)):
        assert tk.mean_nn_distance(d_codebook(n, levels)) == pytest.approx(
            np.sqrt(2) * tk.mean_nn_distance(FSQ((levels,) * n)), rel=1e-13
        )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("E", 3, 8), "lattice must be"),
        (("D", 1, 8), "levels must be"),
        (("D", 3, 0), "n must be"),
    ],
)
def test_refusals(arguments: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        LatticeCodebook(*arguments)
    with pytest.raises(ValueError, match="x must be"):
        d_codebook(3, 3).nearest(np.zeros(4))
    with pytest.raises(ValueError, match="x must be"):
        nearest_dn(1.0)


@pytest.mark.parametrize("lattice", ["D", "D+"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_what_the_structure_says_is_what_the_points_say(
    lattice: Lattice, n: int, levels: int
) -> None:
    """Every parity of both numbers: corners, ends of the box and lonely tokens depend on it."""
    cut = tk.LatticeCodebook(lattice, levels, n)
    plain = tk.PointCodebook(cut.points)
    methods = ["mean", "average_power", "half_widths", "largest_coordinate", "diameter"]
    for method in [*methods, *["min_distance", "mean_nn_distance"] * (cut.K > 1)]:
        found, expected = getattr(cut, method)(), getattr(plain, method)()
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14, err_msg=method)
    found, expected = (
        np.sort(np.pad(one.covariance_eigenvalues(), (0, n)))[-n:] for one in (cut, plain)
    )
    np.testing.assert_allclose(found, expected, atol=1e-13)
    pairs = [
        sum(float(weight @ np.exp(-distance)) for weight, distance, _ in one.pairs())
        for one in (cut, plain)
    ]
    assert pairs[0] == pytest.approx(pairs[1], rel=1e-12)


def test_too_many_distances_are_refused() -> None:
    cut = tk.LatticeCodebook("D", 300, 64)
    assert not cut.knows_pairs
    with pytest.raises(ValueError, match="codebook must be at most 131,072 different distances"):
        next(cut.pairs())
    assert tk.bracket(cut, 1.0, "accuracy").upper.value <= 1
