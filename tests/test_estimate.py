"""Estimates: intervals, units, indexing; bounds are no values."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate, special

import tokenkl as tk


def test_interval_adds_sampling_and_numerical_error() -> None:
    estimate = tk.Estimate(2.0, standard_error=0.1, numerical_error=0.05, n_samples=100)
    low, high, level = estimate.confidence_interval(0.95)
    half = special.ndtri(0.975) * 0.1 + 0.05
    np.testing.assert_allclose([low, high], [2 - half, 2 + half])
    assert level == 0.95
    with pytest.raises(ValueError, match="level must be"):
        estimate.confidence_interval(1.0)


def test_unsupported_interval_is_the_bernstein_bound() -> None:
    """Maurer and Pontil (2009): sqrt(2 V log(4/delta) / n) + 7 R log(4/delta) / (3 (n - 1))."""
    estimate = tk.Estimate(
        0.0, standard_error=0.0, n_samples=1001, interval_supported=False, sample_range=1.0
    )
    low, high, _ = estimate.confidence_interval(0.95)
    np.testing.assert_allclose(high, 7 * np.log(80) / 3000)
    assert low == -high  # never clamped


def test_negative_values_stay() -> None:
    assert float(tk.Estimate(-1e-3, 0.01, unit="nats", quantity="mutual_information")) == -1e-3


def test_bits() -> None:
    estimate = tk.Estimate(np.log(2.0), 0.1 * np.log(2.0), unit="nats")
    assert estimate.bits.unit == "bits"
    np.testing.assert_allclose([estimate.bits.value, estimate.bits.standard_error], [1, 0.1])
    assert estimate.bits.bits is not None
    with pytest.raises(ValueError, match="bits must be asked of"):
        tk.accuracy(tk.FSQ((2,)), 1.0).bits  # noqa: B018


def test_indexing_and_arrays() -> None:
    estimate = tk.conditional_entropy(tk.FSQ((3,)), [0.5, 1.0, 2.0])
    assert float(estimate[1]) == float(tk.conditional_entropy(tk.FSQ((3,)), 1.0))
    np.testing.assert_array_equal(np.asarray(estimate), estimate.value)
    assert estimate.numerical_error.shape == (3,)


def test_repr_names_quantity_value_unit_and_method() -> None:
    text = repr(tk.mutual_information(tk.FSQ((2,)), 1.0))
    for part in ("mutual_information", "nats", "exact"):
        assert part in text
    assert "note here" in repr(dataclasses.replace(tk.Estimate(1.0), note="note here"))


def test_bound_is_no_number() -> None:
    bound = tk.Bound(0.3, "upper", "union bound")
    assert "<=" in repr(bound)
    with pytest.raises(TypeError):
        float(bound)  # type: ignore[arg-type]


@pytest.mark.parametrize(("freedom", "level"), [(1, 0.95), (4, 0.95), (15, 0.95), (15, 1 - 1e-6)])
def test_few_degrees_of_freedom(freedom: int, level: float) -> None:
    """Student's quantile, by integrating his density: 2.13 rather than 1.96 for 15 and 95 %."""
    constant = special.gamma((freedom + 1) / 2) / special.gamma(freedom / 2)
    constant /= np.sqrt(freedom * np.pi)
    estimate = tk.Estimate([1.0, 1.0], 0.1, n_samples=64, degrees_of_freedom=[freedom, np.inf])
    low, high, _ = estimate.confidence_interval(level)
    np.testing.assert_allclose(high[1], 1 + 0.1 * special.ndtri(0.5 + level / 2), rtol=1e-12)
    np.testing.assert_allclose(low + high, 2, rtol=1e-12)
    tail, _ = integrate.quad(
        lambda t: constant * (1 + t**2 / freedom) ** (-(freedom + 1) / 2),
        10 * (high[0] - 1),
        np.inf,
        epsabs=0,
    )
    assert tail == pytest.approx((1 - level) / 2, rel=1e-6)


def test_student_and_skewness_together() -> None:
    """The shift of a skewed estimate grows with Student's quantile, not with the normal one."""
    t = special.stdtrit(5, 0.975)
    estimate = tk.Estimate(0.0, 0.1, n_samples=9, degrees_of_freedom=5, skewness=0.3)
    low, high, _ = estimate.confidence_interval(0.95)
    np.testing.assert_allclose((low + high) / 2, (1 + 2 * t**2) / 6 * 0.3 * 0.1, rtol=1e-12)
    np.testing.assert_allclose((high - low) / 2, t * 0.1, rtol=1e-12)
