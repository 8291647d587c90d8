"""The squared error of the estimate for two points +-h, seen from inside [-h, h]."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def risk(theta: np.ndarray, h: float) -> np.ndarray:
    """E (theta - h tanh(h (theta + Z)))^2."""
    found = theta[:, None] - h * np.tanh(h * (theta[:, None] + NODES))
    return np.square(found) @ WEIGHTS


@settings(deadline=None)
@given(h=st.floats(0.05, 1.09))
def test_it_is_largest_at_zero_or_at_the_ends(h: float) -> None:
    """max over [-h, h] of R is max(R(0), R(h)), for h^2 <= 1.2 (docs/theory/optimality.md, O15)."""
    found = risk(np.linspace(-h, h, 201), h)
    assert found.max() <= max(found[0], found[100]) + 1e-12


@settings(deadline=None)
@given(h=st.floats(0.05, 2.0), step=st.floats(0.01, 0.5))
def test_the_ends_lose_against_zero_as_h_grows(h: float, step: float) -> None:
    """(R(h) - R(0)) / h^2 falls with h."""
    differences = []
    for one in (h, h + step):
        at_zero, at_end = risk(np.array([0.0, one]), one)
        differences.append((at_end - at_zero) / one**2)
    assert differences[1] < differences[0]
