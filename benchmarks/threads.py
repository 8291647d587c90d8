"""How profiles scale over threads, from one to as many as there are cores.

The numbers of threads take turns in one process, on all its cores; linear algebra of other
libraries keeps to one thread. Two ratios, since both matter: wall seconds of one thread over those
of several, which is what a user waits, and processor seconds of several over those of one, which
is what sharing out costs, and does not depend on other work. Where other work takes cores away the
first is worth little; the share of the cores that we got, and the load, are in the record.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from threadpoolctl import threadpool_limits

import tokenkl as tk
from benchmarks.cases import QUANTITIES, Sizes, gaussian, levels, perturbed
from benchmarks.floors import Rates
from benchmarks.machine import cores, every_core, load_average
from benchmarks.rows import Row, row
from benchmarks.timing import Report, in_turns, part_of

#: Where one thread gets less than this part of a core, the machine is loaded.
ALONE = 0.95


@contextlib.contextmanager
def of_threads(count: int) -> Iterator[None]:
    """So many threads in profiles."""
    before = os.environ.get("NUMBA_NUM_THREADS")
    os.environ["NUMBA_NUM_THREADS"] = str(count)
    try:
        yield
    finally:
        del os.environ["NUMBA_NUM_THREADS"]
        if before is not None:
            os.environ["NUMBA_NUM_THREADS"] = before


def counts_of(most: int) -> list[int]:
    """1, 2, 4, ... and the most.

    Example:
        >>> counts_of(1), counts_of(2), counts_of(12)
        ([1], [1, 2], [1, 2, 4, 8, 12])
    """
    return sorted({1, most, *(2**i for i in range(most.bit_length()))} & set(range(most + 1)))


def threads_job(sizes: Sizes, _: Rates, report: Report) -> list[Row]:
    """Plain averages, a profile with its defaults, and rare errors."""
    from tokenkl.information.rare.profile import rare_error_probability

    grid, vq = perturbed(sizes.grid), gaussian(*sizes.high)
    at_grid, at_vq = levels(grid, sizes.levels), levels(vq, sizes.levels)
    plain = tk.MonteCarlo(n_samples=max(64, sizes.work // 2**10), variance_reduction=False)
    target = tk.MonteCarlo(atol=8 * sizes.target)
    samples = sizes.rare_samples
    works: dict[str, Callable[[], Any]] = {
        f"plain averages, {grid.label}": lambda: tk.profile(
            grid, at_grid, QUANTITIES, method=plain, key=0
        ),
        f"to a target, {vq.label}": lambda: tk.profile(vq, at_vq, QUANTITIES, method=target, key=0),
        f"rare errors, {vq.label}": lambda: rare_error_probability(
            vq, at_vq[-1:] * 4, n_samples=samples, key=0
        ),
    }
    rows = []
    with every_core(), threadpool_limits(1):
        for place, (name, work) in enumerate(works.items()):
            part = part_of(report, place, len(works))
            rows += _scaled(name, work, sizes.turns, part)
    return rows


def _scaled(name: str, work: Callable[[], Any], turns: int, report: Report) -> list[Row]:
    """A row for each number of threads beyond one."""
    wall: dict[int, list[float]] = {}
    busy: dict[int, list[float]] = {}

    def run(count: int) -> None:
        with of_threads(count):
            began, used = time.perf_counter(), time.process_time()
            work()
            busy.setdefault(count, []).append(time.process_time() - used)
            wall.setdefault(count, []).append(time.perf_counter() - began)

    counts = counts_of(cores())
    in_turns({str(c): functools.partial(run, c) for c in counts}, turns, report, clock=_once)
    load, one = load_average(), min(wall[1][1:])
    share_of_one = max(b / w for b, w in zip(busy[1][1:], wall[1][1:], strict=True))
    rows = []
    for count in counts if cores() == 1 else counts[1:]:
        found = row(
            f"{name}, {count} thread{'s' if count > 1 else ''}",
            "one thread, wall",
            wall[count][1:],
            wall[1][1:],
            {"one thread's time": one / count},
            threads=count,
            processor_ratio=min(busy[count][1:]) / min(busy[1][1:]),
            share_of_cores=max(
                b / (w * count) for b, w in zip(busy[count][1:], wall[count][1:], strict=True)
            ),
            loaded=share_of_one < ALONE or (load is not None and load > count + 0.5),
        )
        rows.append(found)
    return rows


def _once(call: Callable[[], Any]) -> float:
    """Its own clock is in the call."""
    call()
    return 0.0
