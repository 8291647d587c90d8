"""Rates of this machine in this run, one thread: the floors that the estimators stand on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from tokenkl.information.sampling.kernel import exp2


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call, after one that warms caches and compilers."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@numba.njit(fastmath=True)
def _exponentials(x: np.ndarray, rounds: int) -> float:
    total = 0.0
    for r in range(rounds):
        for i in range(x.size):
            total += exp2(x[i] - r)
    return total


@numba.njit(fastmath=True)
def _multiply_adds(x: np.ndarray, y: float, rounds: int) -> float:
    """Eight multiply-adds on every number read, in eight independent chains."""
    total = 0.0
    for r in range(rounds):
        z = y + 1e-9 * r
        for i in range(x.size):
            a = x[i]
            b = (((a * z + a) * z + a) * z + a) * z + a
            total += ((b * z - a) * z - a) * z - a
    return total


def ceilings() -> dict[str, float]:
    """Matrix product (GFlop/s), and nanoseconds of an exponential and of a multiply-add."""
    a = np.random.default_rng(0).standard_normal((1024, 1024))
    row = a.ravel()[:1024].copy()
    product = median_seconds(lambda: a @ a, 7)
    numpy_exp = median_seconds(lambda: np.exp(a), 7)
    kernel_exp = median_seconds(lambda: _exponentials(row, 1000), 7)
    multiply_add = median_seconds(lambda: _multiply_adds(row, 0.5, 1000), 7)
    copied = np.empty(2**23)
    source = np.ones(2**23)
    copy = median_seconds(lambda: np.copyto(copied, source), 7)
    return {
        "gemm_gflops": 2 * 1024**3 / product / 1e9,
        "numpy_exp_ns": numpy_exp / a.size * 1e9,
        "kernel_exp_ns": kernel_exp / (row.size * 1000) * 1e9,
        "multiply_add_ns": multiply_add / (row.size * 1000 * 8) * 1e9,
        "copy_gbytes_per_s": 2 * 8 * source.size / copy / 1e9,
    }
