"""The Golay code and the shortest vectors of the Leech lattice, against what is known of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tokenkl as tk
from tokenkl.codebooks.leech import (
    flattened,
    golay_words,
    leech_codebook,
    leech_parts,
    leech_whole,
)


def test_the_golay_code() -> None:
    """A linear code with the weights 1, 759, 2576, 759, 1, numbered by its first bits."""
    words = golay_words()
    count = np.bincount(words.sum(axis=1), minlength=25)
    assert {w: int(c) for w, c in enumerate(count) if c} == {0: 1, 8: 759, 12: 2576, 16: 759, 24: 1}
    numbers = words[:, :12] @ (1 << np.arange(11, -1, -1))
    assert np.array_equal(numbers, np.arange(4096))
    rng = np.random.default_rng(0)
    a, b = rng.integers(4096, size=(2, 500))
    assert np.array_equal(words[a] ^ words[b], words[a ^ b])


def test_inner_products() -> None:
    """From every one of some vectors: 1, 4600, 47104, 93150, 47104, 4600, 1."""
    whole = leech_whole().astype(np.int64)
    assert whole.shape == (196_560, 24)
    assert (np.square(whole).sum(axis=1) == 32).all()
    some = np.random.default_rng(1).integers(len(whole), size=20)
    for row in whole[some] @ whole.T:
        values, counts = np.unique(row, return_counts=True)
        assert values.tolist() == [-32, -16, -8, 0, 8, 16, 32]
        assert counts.tolist() == [1, 4600, 47104, 93150, 47104, 4600, 1]


@pytest.mark.parametrize(
    ("inner", "K", "cosine"), [(0, 93_150, 1 / 2), (1, 47_104, 7 / 15), (2, 4_600, 1 / 3)]
)
def test_parts_on_the_sphere(inner: int, K: int, cosine: float) -> None:
    whole = leech_whole(inner).astype(np.float64)
    assert (whole @ ([4.0, 4.0] + [0.0] * 22) == 8 * inner).all()
    points = flattened(whole, inner)
    assert points.shape == (K, 23)
    np.testing.assert_allclose(np.square(points).sum(axis=1), 1, atol=1e-14)
    some = points[np.random.default_rng(2).integers(K, size=10)]
    products = np.sort(points @ some.T, axis=0)
    np.testing.assert_allclose(products[-1], 1, atol=1e-13)
    np.testing.assert_allclose(products[-2], cosine, atol=1e-13)
    # A tight frame: the average power is the same in all directions.
    np.testing.assert_allclose(points.T @ points * 23 / K, np.eye(23), atol=1e-10)


@pytest.mark.parametrize("inner", [None, 0, 1, 2])
def test_parts_are_counted_as_they_are_listed(inner: Any) -> None:
    whole, parts = leech_whole(inner), leech_parts(inner)
    assert parts.size == len(whole)
    first = len(parts.fours)
    assert np.array_equal(whole[:first], parts.fours)
    assert (np.abs(whole[first : first + len(parts.spikes)]).max(axis=1) == 3).all()
    place, word = parts.spikes.T
    three = whole[first : first + len(parts.spikes)]
    assert (np.abs(three[np.arange(len(three)), place]) == 3).all()
    assert np.array_equal(parts.rank_of_spike[place, word], np.arange(len(three)))
    assert np.array_equal(whole[parts.first_ids][:, :2], parts.twos)


def test_as_a_codebook() -> None:
    part = leech_codebook(2)
    assert (part.K, part.n) == (4600, 23)
    assert part.min_distance() == pytest.approx(math.sqrt(4 / 3), rel=1e-12)
    assert tk.mean_nn_distance(part) == pytest.approx(math.sqrt(4 / 3), rel=1e-12)


@pytest.mark.parametrize("inner", [3, -1, True, "all", 0.5])
def test_refused(inner: Any) -> None:
    with pytest.raises(ValueError, match="inner must be 0, 1, 2 or None"):
        leech_codebook(inner)
