"""The constrained decoder of a lattice cut finds a nearest token.

min_k |x - e_k| over all tokens k equals |x - nearest(x)|, for every x, inside the box or far away.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tokenkl.codebooks import LatticeCodebook

Lattice = Literal["D", "D+"]

CUTS: list[tuple[Lattice, int, int]] = [
    ("D", 2, 4),
    ("D", 3, 3),
    ("D", 4, 3),
    ("D+", 2, 4),
    ("D+", 3, 3),
]
#: Multiples of 1/8, where ties are common, and anything.
COORDINATES = st.one_of(st.integers(-40, 40).map(lambda i: i / 8), st.floats(-1e3, 1e3))


@functools.cache
def points_of(lattice: Lattice, levels: int, n: int) -> np.ndarray:
    return LatticeCodebook(lattice, levels, n).points


@given(st.sampled_from(CUTS), st.lists(COORDINATES, min_size=4, max_size=4))
def test_no_token_is_nearer(cut: tuple[Lattice, int, int], coordinates: list[float]) -> None:
    x = np.array(coordinates[: cut[2]])
    squares = ((x - points_of(*cut)) ** 2).sum(axis=1)
    found = LatticeCodebook(*cut).nearest(x)
    assert squares[found] <= squares.min() * (1 + 1e-12) + 1e-12 * np.abs(x).max()
