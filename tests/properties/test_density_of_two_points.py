"""KL(N(theta, 1) || law of Y) for two equiprobable points +-h, seen from inside [-h, h]."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def density(theta: np.ndarray, h: float) -> np.ndarray:
    """(theta^2 + h^2) / 2 - E log cosh(h (theta + Z)); with the entropy of Z on both sides."""
    logs = np.logaddexp(h * (theta[:, None] + NODES), -h * (theta[:, None] + NODES)) - np.log(2)
    return np.square(theta) / 2 + h**2 / 2 - logs @ WEIGHTS


@settings(deadline=None)
@given(h=st.floats(0.05, 3.0))
def test_it_is_largest_at_zero_or_at_the_ends(h: float) -> None:
    """max over [-h, h] of i is max(i(0), i(h)) (docs/theory/optimality.md, O15)."""
    found = density(np.linspace(-h, h, 201), h)
    assert found.max() <= max(found[0], found[100]) + 1e-10


@settings(deadline=None)
@given(h=st.floats(0.05, 3.0))
def test_the_ends_are_above_zero_up_to_the_threshold(h: float) -> None:
    """i(h) >= i(0) if and only if h <= 1.66592564..."""
    at_zero, at_end = density(np.array([0.0, h]), h)
    if abs(h - 1.66592564) > 1e-4:
        assert (at_end > at_zero) == (h < 1.66592564)
