"""How long calls take: processor seconds, turn by turn, and wall seconds where these are meant.

Other work on the machine makes a call wait, which processor seconds leave out, and pushes its data
out of caches, which they do not. The least of several turns is therefore what counts; how far turns
differ says how well it is known.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: Says how many of how many steps are done.
Report = Callable[[float, float], None]

#: Seconds between two lines in a log.
EVERY = 30.0
#: A call that takes less is repeated until so many seconds have passed.
LEAST = 0.02


def part_of(report: Report, place: int, whole: int) -> Report:
    """The report of one of several parts of equal size."""
    return lambda done, total: report(place + done / total, whole)


def silent(done: float, total: float) -> None:
    """The report where nobody listens."""


@contextlib.contextmanager
def progress(title: str) -> Iterator[Report]:
    """A line on stderr that says how much is done: rewritten in a terminal, seldom in a log.

    Without a thread of its own as bars have, whose work would be counted as that of the job.
    """
    terminal = sys.stderr.isatty()
    width, last = 0, time.monotonic()

    def report(done: float, total: float) -> None:
        nonlocal width, last
        if time.monotonic() - last < (1.0 if terminal else EVERY):
            return
        last, said = time.monotonic(), f"{title}: {done / total:.0%}"
        width = max(width, len(said))
        print(said, end="\r" if terminal else "\n", file=sys.stderr, flush=True)

    try:
        yield report
    finally:
        if terminal:
            print(" " * width, end="\r", file=sys.stderr, flush=True)


def processor_seconds(call: Callable[[], Any], least: float = LEAST) -> float:
    """Processor seconds of one call, of all threads of this process."""
    count, began = 0, time.process_time()
    while True:
        call()
        count += 1
        took = time.process_time() - began
        if took >= least:
            return took / count


def in_turns(
    runs: Mapping[str, Callable[[], Any]],
    turns: int,
    report: Report = silent,
    *,
    clock: Callable[[Callable[[], Any]], float] = processor_seconds,
    warm: bool = False,
) -> dict[str, list[float]]:
    """Seconds of every run at every turn; all take their turns, so that they see one machine.

    A turn before those that count fills caches and compiles, unless all is `warm`.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    first = [] if warm else list(runs.values())
    total = len(first) + len(runs) * turns
    for done, run in enumerate(first):
        run()
        report(done + 1, total)
    for turn in range(turns):
        for place, (name, run) in enumerate(runs.items()):
            found[name].append(clock(run))
            report(len(first) + turn * len(runs) + place + 1, total)
    return found


def least_seconds(call: Callable[[], Any], turns: int) -> float:
    """The least of processor seconds of a call, after one that warms caches and compilers."""
    return min(in_turns({"": call}, turns)[""])


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call, after one that warms caches and compilers: for other devices."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
