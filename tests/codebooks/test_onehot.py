"""`OneHot`: lazy, and right where it is small enough to look."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

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
