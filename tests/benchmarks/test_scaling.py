"""Exponents of made-up times."""

import doctest
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks import scaling


def test_examples() -> None:
    assert doctest.testmod(scaling).failed == 0


@given(
    exponent=st.floats(-3, 3),
    factor=st.floats(1e-6, 1e3),
    first=st.floats(1e-4, 1e4),
    points=st.integers(5, 9),
)
def test_powers_are_found_exactly(
    exponent: float, factor: float, first: float, points: int
) -> None:
    x = first * np.geomspace(1, 10, points)
    found = scaling.fit(x, factor * x**exponent)
    assert abs(found.exponent - exponent) < 1e-11
    assert found.standard_error < 1e-11
    np.testing.assert_allclose(found.factor * x**found.exponent, factor * x**exponent, rtol=1e-9)


def test_noise_is_as_another_library_has_it() -> None:
    rng = np.random.default_rng(0)
    x = np.geomspace(8, 80, 6)
    seconds = 3e-3 * x**1.3 * np.exp(0.1 * rng.standard_normal(6))
    found, known = scaling.fit(x, seconds), stats.linregress(np.log(x), np.log(seconds))
    np.testing.assert_allclose(found.exponent, known.slope, rtol=1e-10)
    np.testing.assert_allclose(found.standard_error, known.stderr, rtol=1e-10)


def test_the_standard_error_holds_a_bend() -> None:
    """A fixed cost as large as the rest at the first point is no power."""
    x = np.geomspace(1, 10, 6)
    found = scaling.fit(x, 1 + x)
    assert 0.5 < found.exponent < 1
    assert found.standard_error > 0.02


def test_a_figure_is_drawn_of_a_record(tmp_path: Path) -> None:
    line = {"seconds": [1.0, 2.0, 4.0], "exponent": 1.0, "standard_error": 0.0, "factor": 1.0}
    moved = {
        name: {"x": [1, 2, 4], "lines": {scaling.PLAIN: line, scaling.DEFAULTS: line}}
        for name in scaling.TITLES
    }
    scaling.draw(moved, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 1000
