"""The count of intervals finds estimators whose errors are too small, and no others."""

import dataclasses

import numpy as np
import pytest
from intervals import Intervals

import tokenkl as tk

EXACT = tk.accuracy(tk.FSQ((3,)), np.array([1.0, 4.0]))


def counted(
    *, cases: int, runs: int, claimed: float, wide: bool = False, key: int = 0
) -> Intervals:
    """Of normal estimates around 0 whose standard error, 1, is stated as `claimed`."""
    rng = np.random.default_rng(key)
    intervals = Intervals(cases, wide=wide)
    for case in range(cases):
        for _ in range(runs):
            found = dataclasses.replace(
                EXACT,
                value=rng.standard_normal(2),
                standard_error=np.full(2, claimed),
                numerical_error=np.zeros(2),
            )
            intervals.add(case, [found, found], [np.zeros(2), np.zeros(2)])
    return intervals


def test_right_ones_pass() -> None:
    for key in range(40):
        counted(cases=5, runs=16, claimed=1.0, wide=True, key=key).check()


@pytest.mark.parametrize(("cases", "runs"), [(5, 16), (7, 5), (6, 9)])
def test_errors_of_half_the_size_are_found(cases: int, runs: int) -> None:
    """Of 95 % intervals they leave 67 %."""
    found = 0
    for key in range(20):
        try:
            counted(cases=cases, runs=runs, claimed=0.5, key=key).check()
        except AssertionError:
            found += 1
    assert found >= 14


def test_a_fault_of_one_case_is_found() -> None:
    intervals = counted(cases=5, runs=16, claimed=1.0)
    off = dataclasses.replace(EXACT, value=np.array([0.0, 3.0]), standard_error=np.ones(2))
    for _ in range(16):
        intervals.add(0, [off, off], [np.zeros(2), np.zeros(2)])
    with pytest.raises(AssertionError):
        intervals.check()
    far = dataclasses.replace(off, value=np.array([0.0, 7.0]))
    with pytest.raises(AssertionError):
        Intervals(1).add(0, far, np.zeros(2))
