"""A vertex of the cube moved to the centre: its accuracy against FSQ's, and a bound that stays."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import tokenkl as tk
from tokenkl.optimality.counterexamples import centre_for_vertex
from tokenkl.optimality.enclosed import Enclosed


def bound(n: int, h: float) -> float:
    """Below 2^n (A - A_FSQ)."""
    Q = norm.sf
    pairs = n * (n - 1) / 2 * (Q(math.sqrt(2) * h) + Q(h) ** 2)
    gained = Q(h) * sum(norm.cdf(h) ** j for j in range(n)) + n * Q(h)
    return float(gained - pairs - 2 ** (n + 1) * Q(math.sqrt(n) * h / 2))


@settings(deadline=None, max_examples=20)
@given(n=st.integers(5, 8), snr=st.fractions(1, 40, max_denominator=16))
def test_the_bound_is_below_the_gain(n: int, snr: Fraction) -> None:
    """2^n (A - A_FSQ) >= 1 - Phi^n + n Q(h) - n(n-1)/2 (Q(sqrt 2 h) + Q(h)^2)
    - 2^(n+1) Q(sqrt n h/2) (docs/theory/optimality.md, O14)."""
    moved = Enclosed.accuracy(centre_for_vertex(n), snr)
    gain = 2**n * (moved - Enclosed.accuracy(tk.FSQ((2,) * n), snr))
    _, high = gain.enclosure()
    found = bound(n, math.sqrt(snr))
    assert found <= float(high) + 1e-12 * abs(found)


@settings(deadline=None)
@given(n=st.integers(5, 8), h=st.floats(0.5, 7.0), step=st.floats(0.01, 1.0))
def test_once_positive_it_stays_so(n: int, h: float, step: float) -> None:
    """Over Q(sqrt n h/2) the bound grows with h."""
    first, second = (bound(n, x) / norm.sf(math.sqrt(n) * x / 2) for x in (h, h + step))
    assert second > first - 1e-9 * abs(first)
