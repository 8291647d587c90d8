"""Exact accuracy of checkerboards, against Owen's T, quadrature in the plane, and sampling."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import special

import tokenkl as tk
from tokenkl.information.exact.checkerboard import checkerboard_profile, errors_of_words

PLANAR = [(2, 2), (3, 3), (3, 4), (2, 5), (9, 7)]
SNR = np.array([1e-3, 0.1, 1.0, 10.0, 50.0, 300.0])


@pytest.mark.parametrize("levels", PLANAR)
@pytest.mark.parametrize("spacing", ["box", "equal"])
def test_in_the_plane_as_by_its_voronoi_edges(levels: tuple[int, ...], spacing: Any) -> None:
    board = tk.Checkerboard(levels, spacing=spacing)
    found = checkerboard_profile(board, SNR)
    other = tk.profile(tk.PointCodebook(board.points), SNR, tuple(found))
    for name, (value, error) in found.items():
        expected = other[name]
        assert str(expected.method).startswith("exact, ")
        room = error + expected.numerical_error + 1e-300
        assert (np.abs(value - expected.value) <= room).all()
        assert (error <= 1e-11 * value).all()


@pytest.mark.parametrize("levels", [(3, 4, 5), (5, 5, 5), (3, 3, 3, 2), (2, 6, 3), (7, 7, 7, 6)])
def test_as_sampled_from_a_list(levels: tuple[int, ...]) -> None:
    board = tk.Checkerboard(levels)
    snr = np.array([0.1, 1.0, 10.0, 50.0])
    exact = tk.error_probability(board, snr)
    assert str(exact.method) == "exact, checkerboard"
    rng, size = np.random.default_rng(3), 200_000
    for level, value in zip(snr, exact.value, strict=True):
        ids = rng.integers(board.K, size=size)
        y = board.points[ids] + rng.standard_normal((size, board.n)) / level**0.5
        wrong = (board.nearest(y) != ids).sum()
        spread = math.sqrt(size * value * (1 - value)) + 1e-9
        assert abs(wrong - size * value) < 5 * spread + 5


def test_errors_of_single_words() -> None:
    board, snr = tk.Checkerboard((6, 4, 3)), 25.0
    words = board.words_at(np.arange(board.K))
    errors = errors_of_words(board, words, snr)
    assert errors.mean() == pytest.approx(float(tk.error_probability(board, snr)), rel=1e-13)
    rng, size = np.random.default_rng(0), 400_000
    ids = rng.integers(board.K, size=size)
    y = board.points[ids] + rng.standard_normal((size, 3)) / snr**0.5
    sent = np.bincount(ids, minlength=board.K)
    wrong = np.bincount(ids, board.nearest(y) != ids, board.K)
    z = (wrong - sent * errors) / np.sqrt(sent * errors * (1 - errors))
    assert np.abs(z).max() < 5
    assert 0.6 < (z**2).mean() < 1.6


def test_rare_errors_keep_their_digits() -> None:
    """At high SNR the union bound over nearest neighbours is all there is."""
    board, snr = tk.Checkerboard((4, 3, 5), spacing="equal"), 9000.0
    step = 0.5
    words = {tuple(word) for word in board.words_at(np.arange(board.K)).tolist()}
    pairs = sum(
        tuple(np.add(word, step_)) in words for word in words for step_ in _diagonal_steps(3)
    )
    bound = pairs / board.K * special.ndtr(-math.sqrt(2) * step * math.sqrt(snr) / 2)
    found = tk.error_probability(board, snr)
    assert float(found.value) < 1e-200
    assert float(found.value) == pytest.approx(bound, rel=1e-10)
    assert float(found.numerical_error) < 1e-10 * bound


def _diagonal_steps(n: int) -> list[tuple[int, ...]]:
    return [step for step in itertools.product((-1, 0, 1), repeat=n) if sum(map(abs, step)) == 2]


def test_without_a_signal_and_at_any_size() -> None:
    board = tk.Checkerboard((7,) * 9 + (6,) * 9)
    assert float(tk.accuracy(board, 0.0)) == 1 / board.K
    both = tk.profile(board, [1.0, 100.0], ("accuracy", "error_probability"))
    total = both["accuracy"].value + both["error_probability"].value
    np.testing.assert_allclose(total, 1.0, atol=1e-12)


def test_equal_levels_as_decoded_along_rays() -> None:
    cut, snr = tk.d_codebook(12, 4), [20.0, 60.0]
    board = tk.Checkerboard((4,) * 12)
    sampled = tk.error_probability(cut, snr, key=0, method=tk.MonteCarlo(n_samples=2**15))
    exact = tk.error_probability(board, snr)
    assert (np.abs(sampled.value - exact.value) < 5 * sampled.standard_error).all()
