"""What a job cannot take less than, by the rates of this machine in this run.

A floor is in processor seconds, and counts operations that the way a job goes cannot do without,
at the rates of `benchmarks.ceilings` or of the kernel on the same codebook. The fraction reached is
the floor over our time. No floor is a theorem: another way may do with less, and a fraction above 1
says that ours did, as where whole tiles of tokens are left out. Floors by name:

- "exponentials", of the kernel at levels by themselves: for every sample, token and level an
  exponential, two multiply-adds for its argument and three for the sums that accuracy and entropy
  need; and for every sample and token two products of n coordinates, 2 n multiply-adds.
- "multiplications", of the kernel where levels are evenly spaced, and carried: instead of an
  exponential two multiplications, which are counted as multiply-adds, and three exponentials
  wherever weights start anew, at least once in every stretch of even spacing.
- "kernel", of samples with a target: as many samples as were drawn at each level, at what the
  kernel alone takes for a token and a level of this codebook, in the better of both precisions,
  and by itself or read off between nodes. What is left is the pilot, control variates, Sobol
  points, and blocks with few levels.
- "multiply-adds", of the same samples: two products of n coordinates once for every sample and
  token, and five multiply-adds for every level, in single precision.
- "elementary functions", of closed forms and quadrature: all exponentials, logarithms and normal
  tails that a call evaluates, counted, at the rate of NumPy's exponential. What is left is
  arithmetic in memory, and for short calls Python.
- "distances", of rare errors: those of all pairs of tokens, and of every draw to every token, at n
  multiply-adds each.
- "bare Python", of an import: a Python that imports nothing.
- "one thread's time", of several threads: that of one, shared out evenly.

A job that has none says why in a word.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import special

from benchmarks.timing import processor_seconds
from tokenkl.information.sampling import kernel
from tokenkl.information.sampling.nodes import Nodes

Rates = dict[str, float]

#: Multiply-adds for the argument of an exponential, to carry a weight, and for the sums.
ARGUMENT, CARRIED, SUMS = 2, 2, 3
#: Exponentials where a run of evenly spaced levels begins.
START = 3
#: How evenly, relative to the largest level; fewest levels that are worth it.
EVEN, FEWEST = 1e-12, 4


def even_stretches(h: np.ndarray) -> list[int]:
    """Lengths of stretches of evenly spaced levels, four or more each, none in two of them.

    Example:
        >>> even_stretches(np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 12.0, 20.0]))
        [4, 4]
    """
    levels, found, first = np.sort(h), [], 0
    while first < levels.size - 1:
        gaps = np.diff(levels[first:])
        same = np.abs(gaps - gaps[0]) <= EVEN * levels[-1]
        length = 1 + int(same.size if same.all() else same.argmin())
        if length >= FEWEST:
            found.append(length)
            first += length
        else:
            first += 1
    return found


def by_exponentials(rates: Rates, h: np.ndarray, n: int) -> float:
    """Nanoseconds for one sample and token at all levels, each by itself."""
    level = rates["kernel_exp_ns"] + (ARGUMENT + SUMS) * rates["multiply_add_ns"]
    return 2 * n * rates["multiply_add_ns"] + h.size * level


def by_multiplications(rates: Rates, h: np.ndarray, n: int) -> float:
    """The same where evenly spaced levels are carried from one to the next."""
    stretches = even_stretches(h)
    carried = sum(stretches)
    alone = by_exponentials(rates, h[: h.size - carried], n)
    starts = START * len(stretches) * rates["kernel_exp_ns"]
    return alone + starts + carried * (CARRIED + SUMS) * rates["multiply_add_ns"]


def of_samples(rates: Rates, samples: np.ndarray, K: int, n: int, kernel_ns: float) -> Rates:
    """Floors in seconds of so many samples at each level of a codebook of K tokens.

    `kernel_ns` is what `kernel_rate` gives. A sample serves all levels, so that there are as many
    as the level with most has.
    """
    products = samples.max() * 2 * n * rates["multiply_add_ns"]
    sums = samples.sum() * (CARRIED + SUMS) * rates["multiply_add_single_ns"]
    return {
        "kernel": float(samples.sum() * K * kernel_ns * 1e-9),
        "multiply-adds": float(K * (products + sums) * 1e-9),
    }


def kernel_rate(codebook: Any, h: np.ndarray, target: float, work: int, turns: int = 3) -> float:
    """Nanoseconds that the kernel alone takes for one sample, token and level, at its best."""
    points = np.asarray(codebook.points)
    centred = points - points.mean(axis=0)
    reach = float(h.max() * np.sqrt((centred**2).sum(axis=1).max()))
    size = max(16, work // codebook.K)
    rng = np.random.default_rng(0)
    ids, noise = rng.integers(codebook.K, size=size), rng.standard_normal((size, codebook.n))
    found = []
    for single in (False, True):
        narrow = single and reach <= kernel.NARROW
        table = kernel.lay_out(centred, codebook.log_prior, narrow=narrow)
        for at in {levels.size: levels for levels in (h, Nodes(h, target).h)}.values():

            def run(table: Any = table, at: np.ndarray = at, single: bool = single) -> None:
                kernel.block_statistics(table, ids, noise, at, False, single)

            run()
            found += [processor_seconds(run) for _ in range(turns)]
    return min(found) / (size * codebook.K * h.size) * 1e9


def of_rare(rates: Rates, samples: int, K: int, n: int) -> Rates:
    """Floor in seconds of rare errors by so many draws."""
    distances = K * (K - 1) / 2 + samples * K
    return {"distances": distances * n * rates["multiply_add_ns"] * 1e-9}


# ---- Elementary functions, counted -------------------------------------------------------------

#: Where they are looked up: functions of these names are counted.
COUNTED: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (np, ("exp", "exp2", "expm1", "log", "log1p", "log2", "power", "tanh", "cosh", "sinh")),
    (special, ("ndtr", "log_ndtr", "ndtri", "erf", "erfc", "erfcx", "expit", "log1p", "expm1")),
)


@contextlib.contextmanager
def counting() -> Iterator[list[int]]:
    """Counts values of elementary functions that NumPy and SciPy evaluate meanwhile."""
    counts: list[int] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **options: Any) -> Any:
            result = function(*values, **options)
            counts.append(np.size(result))
            return result

        return call

    kept = [(module, name, getattr(module, name)) for module, names in COUNTED for name in names]
    try:
        for module, name, function in kept:
            setattr(module, name, counted(function))
        yield counts
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


def of_functions(rates: Rates, call: Callable[[], Any]) -> Rates:
    """Floor in seconds of a call that evaluates elementary functions."""
    with counting() as counts:
        call()
    return {"elementary functions": sum(counts) * rates["numpy_exp_ns"] * 1e-9}
