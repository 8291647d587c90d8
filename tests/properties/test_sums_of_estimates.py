"""Arithmetic of estimates: errors of numbers add up, so do cumulants; the order does not matter."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenkl as tk

NUMBERS = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3)
PARTS = st.builds(
    tk.Estimate,
    NUMBERS,
    st.floats(0, 10),
    st.floats(0, 1),
    n_samples=st.integers(1, 1000),
    sample_range=st.floats(0, 10),
    interval_supported=st.booleans(),
    skewness=st.floats(-1, 1),
    degrees_of_freedom=st.integers(1, 100) | st.just(np.inf),
)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6), NUMBERS)
def test_numerical_errors_hold_all_roundings(terms: list[tuple[float, float]], last: float) -> None:
    """Sums of multiples of exact numbers, against fractions."""
    parts = [factor * tk.Estimate(number) for factor, number in terms]
    found = sum(parts[1:], parts[0]) / last
    exact = sum(Fraction(factor) * Fraction(number) for factor, number in terms) / Fraction(last)
    assert abs(Fraction(float(found)) - exact) <= Fraction(float(found.numerical_error))
    size = sum(abs(factor * number) for factor, number in terms) / abs(last)
    # One term is off by no less; `size` is rounded itself.
    assert found.numerical_error <= 2.001 * len(terms) * np.finfo(float).eps * size


@given(PARTS, PARTS, PARTS, NUMBERS)
def test_laws(a: tk.Estimate, b: tk.Estimate, c: tk.Estimate, factor: float) -> None:
    """a + b = b + a, (a + b) + c = a + (b + c), x (a + b) = x a + x b and -(a - b) = b - a."""
    pairs = [
        (a + b, b + a),
        ((a + b) + c, a + (b + c)),
        (factor * (a + b), factor * a + factor * b),
        (-(a - b), b - a),
    ]
    for one, other in pairs:
        for name in ("standard_error", "degrees_of_freedom", "sample_range"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-300)
        assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)
        assert one.numerical_error == pytest.approx(other.numerical_error, rel=1e-9, abs=1e-9)
        assert one.skewness == pytest.approx(other.skewness, abs=1e-9)
        assert (one.n_samples, one.interval_supported) == (
            other.n_samples,
            other.interval_supported,
        )


@given(PARTS, PARTS)
def test_intervals_of_a_sum(a: tk.Estimate, b: tk.Estimate) -> None:
    """Bernstein's: no wider than those of the parts together, no narrower than either."""
    total = a + b
    assert total.standard_error >= max(a.standard_error, b.standard_error)
    assert total.interval_supported == (a.interval_supported and b.interval_supported)
    widths = []
    for one in (a, b, total):
        one = dataclasses.replace(one, interval_supported=False)
        low, high, _ = one.confidence_interval()
        widths.append(float(high - low))
    slack = 1e-12 * (abs(total.value) + sum(widths))
    assert max(widths[:2]) - slack <= widths[2] <= sum(widths[:2]) + slack
