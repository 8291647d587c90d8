"""`OneHot`: lazy, and right where it is small enough to look."""

import tracemalloc
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenkl.codebooks import OneHot


def test_points() -> None:
    cb = OneHot(3, scale=2.0)
    np.testing.assert_array_equal(cb.points, 2 * np.eye(3))
    np.testing.assert_array_equal(cb.points_at([[2]]), [[[0, 0, 2]]])
    assert (cb.K, cb.n, cb.label) == (3, 3, "one-hot 3")


def test_a_million_tokens_cost_nothing() -> None:
    tracemalloc.start()
    cb = OneHot(10**6)
    facts = cb.K, cb.n, cb.prior_entropy(), cb.has_equal_priors, repr(cb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    assert facts[2] == pytest.approx(np.log(1e6))
    with pytest.raises(ValueError, match="points must be at most"):
        cb.points  # noqa: B018
    with pytest.raises(ValueError, match=r"points_at\(ids\) must be at most"):
        cb.points_at(np.arange(100))
    assert cb.points_at(999_999)[-1] == 1


def test_prior() -> None:
    cb = OneHot(2, [0.1, 0.9])
    assert not cb.has_equal_priors
    assert cb.prior_entropy() == pytest.approx(-(0.1 * np.log(0.1) + 0.9 * np.log(0.9)))


@pytest.mark.parametrize(
    "bad", [{"K": 0}, {"K": 2.0}, {"K": 2, "scale": 0}, {"K": 2, "prior": [1]}]
)
def test_bad_input_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        OneHot(**bad)


@given(
    logs=st.lists(st.floats(-60.0, 0.0), min_size=2, max_size=80),
    snr_log=st.floats(-20.0, 690.0),
    scale=st.sampled_from([1e-3, 1.0, 7.0]),
)
@settings(deadline=None)
def test_second_order_keeps_its_digits(logs: list[float], snr_log: float, scale: float) -> None:
    """Whatever the prior, however nearly certain a token is, and at any snr."""
    weights = np.exp(np.array(logs) - max(logs))
    one_hot, snr = OneHot(weights.size, weights / weights.sum(), scale), float(np.exp(snr_log))
    stated = np.asarray(one_hot.given_prior)
    linear, log_det = one_hot.second_order(np.array([snr]))
    with mpmath.workdps(400):
        prior = [mpmath.mpf(float(one)) for one in stated]
        top = int(stated.argmax())
        prior[top] = 1 - sum(prior[:top] + prior[top + 1 :])
        g = mpmath.mpf(snr) * mpmath.mpf(scale) ** 2
        share = [one / (1 + g * one) for one in prior]
        left = sum(share)
        power = mpmath.mpf(scale) ** 2 * sum(one * (1 - one) for one in prior)
        least = mpmath.mpf(scale) ** 2 * sum(one * (left - one) for one in share) / left
        log = sum(mpmath.log(1 + g * one) for one in prior) + mpmath.log(left)
        expected = [float(power), float(least), float(log)]
    np.testing.assert_allclose([one_hot.average_power(), linear[0], log_det[0]], expected, 1e-12)
