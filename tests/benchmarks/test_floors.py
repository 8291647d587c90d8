"""Floors are what one counts by hand."""

import doctest

import numpy as np
import pytest
from scipy import special

from benchmarks import floors
from tokenkl.information.sampling import kernel
from tokenkl.information.sampling.nodes import Nodes

#: Nanoseconds that keep the counts of each operation apart.
RATES = {
    "kernel_exp_ns": 100.0,
    "numpy_exp_ns": 10.0,
    "multiply_add_ns": 1.0,
    "multiply_add_single_ns": 0.5,
}


def test_examples() -> None:
    assert doctest.testmod(floors).failed == 0


def test_levels_by_themselves() -> None:
    """Two products of three coordinates; four exponentials, each with five multiply-adds."""
    assert floors.by_exponentials(RATES, np.array([1.0, 2, 4, 8]), 3) == 6 + 4 * 105


def test_levels_that_are_carried() -> None:
    """Three exponentials for the stretch 1 .. 5, five multiply-adds a level; 7 and 50 alone."""
    h = np.array([1.0, 2, 3, 4, 5, 7, 50])
    assert floors.by_multiplications(RATES, h, 3) == 6 + 3 * 100 + 5 * 5 + 2 * 105


@pytest.mark.parametrize("h", [[1.0, 2, 3], [1.0, 2, 4, 7, 11, 16], [1.0]])
def test_few_or_uneven_levels_are_not_carried(h: list[float]) -> None:
    assert floors.even_stretches(np.array(h)) == []
    alone = floors.by_exponentials(RATES, np.array(h), 2)
    assert floors.by_multiplications(RATES, np.array(h), 2) == alone


@pytest.mark.parametrize("target", [1e-3, 1e-4, 1e-6])
def test_no_more_levels_are_carried_by_the_kernel_than_are_counted(target: float) -> None:
    """The kernel takes them two by two, and starts anew at least once in every stretch."""
    h = Nodes(np.geomspace(0.3, 9, 200), target).h
    stretches = floors.even_stretches(h)
    steps, fresh = kernel._runs(np.sort(h), kernel.RUN)
    assert 2 * np.count_nonzero(steps) <= sum(stretches)
    assert fresh.sum() >= len(stretches)


def test_samples_to_a_target() -> None:
    """Products for as many samples as the level with most has, sums for all of them."""
    found = floors.of_samples(RATES, np.array([10.0, 20.0]), K=4, n=3, kernel_ns=2.0)
    assert found["kernel"] == pytest.approx(30 * 4 * 2e-9)
    assert found["multiply-adds"] == pytest.approx(4 * (20 * 6 + 30 * 5 * 0.5) * 1e-9)


def test_rare_errors() -> None:
    assert floors.of_rare(RATES, samples=7, K=4, n=3) == {"distances": (6 + 28) * 3 * 1e-9}


def test_elementary_functions_are_counted() -> None:
    def work() -> None:
        out = np.empty(10)
        np.exp(np.zeros(10), out=out)
        special.ndtr(np.zeros((3, 1)) + np.zeros(4))
        np.log1p(0.5)

    found = floors.of_functions(RATES, work)
    assert found == {"elementary functions": pytest.approx((10 + 12 + 1) * 10e-9)}


def test_functions_are_themselves_again() -> None:
    before = [getattr(module, name) for module, names in floors.COUNTED for name in names]
    with pytest.raises(RuntimeError, match="stop"), floors.counting():
        raise RuntimeError("stop")
    after = [getattr(module, name) for module, names in floors.COUNTED for name in names]
    assert all(a is b for a, b in zip(before, after, strict=True))
