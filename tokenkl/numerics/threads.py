"""Work shared out to threads; every part is computed by itself, whatever their number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def threads() -> int:
    """How many threads to use: NUMBA_NUM_THREADS, or the cores that this process may run on."""
    given = os.environ.get("NUMBA_NUM_THREADS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def share_out(work: Callable[[slice], None], size: int, task: int) -> None:
    """`work` on slices of `task` out of `size`."""
    parts = _parts(size, task)
    workers = min(threads(), len(parts))
    if workers < 2:
        for part in parts:
            work(part)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, parts))  # the list raises what a worker raised


def in_order(work: Callable[[slice], Result], size: int, task: int) -> Iterator[Result]:
    """What `work` returns on slices of `task` out of `size`; few results wait at a time."""
    parts = _parts(size, task)
    workers = min(threads(), len(parts))
    if workers < 2:  # starting a thread takes longer than most of what is shared out
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(workers) as pool:
        for group in range(0, len(parts), 4 * workers):
            yield from pool.map(work, parts[group : group + 4 * workers])


def _parts(size: int, task: int) -> list[slice]:
    return [slice(start, start + task) for start in range(0, size, task)]
