"""What is equal but for rounding is equal again, and signs are those of the numbers."""

import numpy as np

from tokenkl.numerics.reproducible import LEVEL, level, signs


def test_ties_that_rounding_broke() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(1000)[rng.integers(1000, size=5000)]
    noisy = values * (1 + 1e-14 * rng.standard_normal(values.size))
    assert np.unique(noisy).size > 4 * np.unique(values).size
    found = level(noisy)
    assert np.unique(found).size == np.unique(values).size
    assert np.abs(found - values).max() <= LEVEL * np.abs(values).max()
    assert (found == level(values)).all()


def test_nothing_and_nought() -> None:
    assert level(np.zeros(3)).tolist() == [0.0] * 3
    assert level(np.zeros((0, 2))).shape == (0, 2)
    small = level(np.array([1.0, 1e-12]))
    assert small.tolist() == [1.0, 0.0]


def test_signs_follow_the_columns() -> None:
    rng = np.random.default_rng(1)
    columns = rng.standard_normal((40, 12))
    flips = rng.choice([-1.0, 1.0], 12)
    noise = 1 + 1e-13 * rng.standard_normal(columns.shape)
    assert (columns * signs(columns) == columns * flips * signs(columns * flips)).all()
    assert (signs(columns * noise) == signs(columns)).all()
    balanced = np.array([[0.5, 0.5], [-1.0, 1.0], [1.0, -1.0]])  # largest entries of either sign
    assert signs(balanced).tolist() == [-1.0, 1.0]
