"""Rates of this machine in this run, one thread: what floors (`benchmarks.floors`) are made of."""

from __future__ import annotations

from functools import partial

import numba
import numpy as np

from benchmarks.timing import least_seconds
from tokenkl.numerics.exp2 import power


@numba.njit(fastmath=True)
def _exponentials(x: np.ndarray, rounds: int) -> float:
    total = x.dtype.type(0)
    for r in range(rounds):
        for i in range(x.size):
            total += power(x[i] - x.dtype.type(r % 8))
    return total


@numba.njit(fastmath=True)
def _multiply_adds(x: np.ndarray, y: float, rounds: int) -> float:
    """Eight multiply-adds on every number read, in eight independent chains."""
    total = x.dtype.type(0)
    for r in range(rounds):
        z = x.dtype.type(y + 1e-6 * r)
        for i in range(x.size):
            a = x[i]
            b = (((a * z + a) * z + a) * z + a) * z + a
            total += ((b * z - a) * z - a) * z - a
    return total


def ceilings(turns: int = 7, rounds: int = 1000, size: int = 1024) -> dict[str, float]:
    """Rates that the least time of several turns gives.

    `gemm_gflops` of a matrix product in double precision; nanoseconds of NumPy's exponential, and
    in the sampler's own compiled form of an exponential and of a multiply-add, in double precision
    and (`_single`) in single; `copy_gbytes_per_s`, read and written, of arrays beyond every cache.
    """
    a = np.random.default_rng(0).standard_normal((size, size))
    found = {
        "gemm_gflops": 2 * size**3 / least_seconds(lambda: a @ a, turns) / 1e9,
        "numpy_exp_ns": least_seconds(lambda: np.exp(a), turns) / a.size * 1e9,
    }
    double = a.ravel()[:1024].copy()
    for row, ending in ((double, "ns"), (double.astype(np.float32), "single_ns")):
        work = row.size * rounds
        exponentials = least_seconds(partial(_exponentials, row, rounds), turns)
        products = least_seconds(partial(_multiply_adds, row, 0.5, rounds), turns)
        found[f"kernel_exp_{ending}"] = exponentials / work * 1e9
        found[f"multiply_add_{ending}"] = products / (8 * work) * 1e9
    source = np.ones(8 * size * size)
    copied = np.empty_like(source)
    copy = least_seconds(lambda: np.copyto(copied, source), turns)
    found["copy_gbytes_per_s"] = 2 * source.nbytes / copy / 1e9
    return found
