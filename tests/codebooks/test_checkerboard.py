"""`Checkerboard`: its words, ids and decoder against lists of all of them."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tokenkl as tk

BOARDS: list[tuple[int, ...]] = [
    (2, 2), (3, 3), (3, 4, 5), (4, 3, 3), (5, 5, 5), (2, 3, 2), (3, 3, 2, 3), (7, 7, 7, 6), (2, 9),
]  # fmt: skip
SPACINGS: list[Any] = ["box", "equal"]


def words_of(levels: tuple[int, ...]) -> np.ndarray:
    words = np.array(list(itertools.product(*map(range, levels))))
    return words[words.sum(axis=1) % 2 == 0]


@pytest.mark.parametrize("levels", BOARDS)
def test_even_words_in_the_order_of_the_grid(levels: tuple[int, ...]) -> None:
    board, words = tk.Checkerboard(levels), words_of(levels)
    assert len(words) == board.K
    ids = np.arange(board.K)
    assert np.array_equal(board.words_at(ids), words)
    assert np.array_equal(board.ids_of(words), ids)
    assert np.array_equal(board.nearest(board.points), ids)
    tops = np.array(levels) - 1
    np.testing.assert_allclose(board.points, 2 * words / tops - 1, rtol=0, atol=1e-15)
    equal = tk.Checkerboard(levels, spacing="equal").points
    np.testing.assert_allclose(equal, (2 * words - tops) / tops.max(), rtol=0, atol=1e-15)


@pytest.mark.parametrize("levels", BOARDS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("spread", [0.4, 1.0, 20.0])
def test_nearest_token_inside_and_outside(
    levels: tuple[int, ...], spacing: Any, spread: float
) -> None:
    board = tk.Checkerboard(levels, spacing=spacing).scaled(1.5).shifted(np.arange(len(levels)))
    x = spread * np.random.default_rng(len(levels)).standard_normal((1500, board.n)) + board.mean()
    squares = ((x[:, None] - board.points) ** 2).sum(axis=-1)
    np.testing.assert_array_equal(board.nearest(x), squares.argmin(axis=1))
    np.testing.assert_array_equal(board.nearest_points(x), board.points[squares.argmin(axis=1)])


def test_of_several_nearest_tokens_the_first() -> None:
    board = tk.Checkerboard((3, 4), spacing="equal")
    between = np.array([[1, 0], [0.5, 0.5], [1, 2], [2, 3], [1.5, 1.5]])  # in digits
    x = board.points_of(between)
    squares = ((x[:, None] - board.points) ** 2).sum(axis=-1)
    near = squares <= squares.min(axis=1, keepdims=True) * (1 + 1e-12)
    np.testing.assert_array_equal(board.nearest(x), near.argmax(axis=1))


@pytest.mark.parametrize("levels", BOARDS)
def test_second_moments_in_whole_numbers(levels: tuple[int, ...]) -> None:
    words = words_of(levels)
    K = len(words)
    board = tk.Checkerboard(levels, spacing=np.ones(len(levels)))
    power = sum(
        Fraction(int((words[:, i] ** 2).sum()), K) - Fraction(int(words[:, i].sum()), K) ** 2
        for i in range(len(levels))
    )
    assert board.average_power() == pytest.approx(float(power), rel=1e-14)


def test_as_large_as_one_likes() -> None:
    board = tk.Checkerboard((7,) * 30 + (6,))
    assert board.K == 3 * 7**30
    points = board.sample_points(np.random.default_rng(0), 50)
    np.testing.assert_array_equal(board.nearest_points(points), points)
    with pytest.raises(ValueError, match=r"K must be at most 2\*\*62 for tokens to have ids"):
        board.nearest(points)


def test_typed() -> None:
    assert tk.codebook("checker:7^3x6").K == 1029
    assert tk.codebook("checker:8,6,5:equal").min_distance() == pytest.approx(8**0.5 / 7)
    for spec in ("checker:7", "checker:7x1", "checker:7x7:round", "checker:a"):
        with pytest.raises(ValueError, match="CODEBOOK must be checker:LEVELS such as"):
            tk.codebook(spec)


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [
        ((5,), {}, "levels must be two coordinates or more"),
        ((5, 1), {}, "levels must be two coordinates or more"),
        ((5, 3), {"spacing": "round"}, "spacing must be one of"),
        ((5, 3), {"spacing": [1.0]}, r"spacing must be of shape \(2,\)"),
        ((5, 3), {"spacing": [1.0, 0.0]}, "every spacing must be above 0"),
        ((5, 3), {"centre": [1.0]}, r"centre must be of shape \(2,\)"),
    ],
)
def test_refused(levels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tk.Checkerboard(levels, **options)


def test_words_refused() -> None:
    board = tk.Checkerboard((5, 3))
    with pytest.raises(ValueError, match="words must be words with even sums"):
        board.ids_of([[0, 1]])
    with pytest.raises(ValueError, match="words must be an array whose last axis has length 2"):
        board.ids_of([0])
