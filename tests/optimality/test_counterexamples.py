"""Explicit codebooks that beat FSQ: the right number of distinct points, in the box, exact D."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import tokenkl as tk
from tokenkl import FSQ
from tokenkl.optimality import mean_nn_distance
from tokenkl.optimality.counterexamples import (
    COUNTEREXAMPLES,
    Counterexample,
    centre_for_vertex,
    d4_cut,
    hamming_cut,
    merged_edges,
)


@pytest.mark.parametrize("case", COUNTEREXAMPLES, ids=lambda c: f"{c.name}, {c.base}^{c.n}")
def test_fair_comparison_and_exact_distance(case: Counterexample) -> None:
    codebook = case.build()
    fsq = FSQ((case.base,) * case.n)
    points = np.asarray(codebook.points)
    assert points.shape == (fsq.K, fsq.n)
    assert np.abs(points).max() <= 1
    assert np.unique(points, axis=0).shape == points.shape
    assert mean_nn_distance(fsq) == case.D_fsq
    assert mean_nn_distance(codebook) == pytest.approx(case.D, abs=1e-14)
    assert case.D_fsq < case.D


@pytest.mark.parametrize(
    ("codebook", "counts"),
    [
        (centre_for_vertex(5), {2.0: 31, math.sqrt(5): 1}),
        (centre_for_vertex(9), {2.0: 511, 3.0: 1}),
        (merged_edges(), {2.0: 30, math.sqrt(5): 2}),
        (hamming_cut(), {2.0: 224, math.sqrt(8): 32}),
        (d4_cut(), {1.0: 77, math.sqrt(2): 4}),
    ],
    ids=lambda value: getattr(value, "label", ""),
)
def test_how_many_points_are_how_far(codebook: tk.PointCodebook, counts: dict[float, int]) -> None:
    # By plain differences over all pairs, apart from the library's own search.
    distances = cdist(codebook.points, codebook.points)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.min(axis=1)
    for distance, count in counts.items():
        assert (np.abs(nearest - distance) < 1e-12).sum() == count
    assert sum(counts.values()) == codebook.K
    assert codebook.label not in ("", "points")


def test_hamming_cut_lies_in_construction_a() -> None:
    # Whole coordinates that modulo 2 are words at Hamming distance 0, 4 or 8 from each other.
    points = hamming_cut().points
    words = {tuple(row) for row in np.abs(points).astype(int) % 2}
    assert np.array_equal(points, np.round(points))
    for one, two in itertools.product(words, repeat=2):
        assert np.bitwise_xor(one, two).sum() in (0, 4, 8)


@pytest.mark.parametrize("n", [4, 0, 2.5])
def test_centre_is_too_near_below_five_dimensions(n: Any) -> None:
    with pytest.raises(ValueError, match=r"n .*at least 5"):
        centre_for_vertex(n)
