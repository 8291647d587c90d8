"""What a cluster costs: to reach it, for every part of the work, and from which size on it pays.

    python -m benchmarks.scale_out [--scheduler tcp://HOST:8786]

Without an address a scheduler and two workers are started on this machine, as processes. Times are
wall-clock, since that is what a cluster is for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import tokenkl as tk
from tokenkl.workers import each, threads_of_cluster

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def processes(
    folder: Path, count: int = 2, nanny: bool = False
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and workers, each a process of its own; the address, and the workers."""
    place = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    environment["DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE"] = "False"
    common = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(place)]
    lines = [["dask_scheduler", "--port", "0", "--no-show", *common]]
    own = [
        "--nthreads",
        "1",
        "--nanny" if nanny else "--no-nanny",
        "--local-directory",
        str(folder),
    ]
    lines += [["dask_worker", *own, *common]] * count
    started = []
    with (folder / "log").open("wb") as log:
        try:
            for module, *words in lines:
                command = [sys.executable, "-m", f"distributed.cli.{module}", *words]
                started.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
                )
            address = None
            for _ in range(600):
                with contextlib.suppress(OSError, ValueError):
                    address = json.loads(place.read_text())["address"]
                    break
                time.sleep(0.1)
            if address is None:
                raise RuntimeError(f"no scheduler started; see {folder / 'log'}.")
            yield address, started[1:]
        finally:
            for process in started:
                process.kill()
                process.wait()


def nothing(item: object) -> None:
    """A part that is all overhead."""


class Holding:
    """The same, with so many bytes that every worker needs once."""

    def __init__(self, size: int) -> None:
        self.content = np.zeros(size, dtype=np.uint8)

    def __call__(self, item: object) -> None:
        pass


def seconds(work: Callable[[], object]) -> float:
    """Of the fastest of three."""
    found = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def report(address: str) -> None:
    began = time.perf_counter()
    with tk.cluster(address):
        print(f"reached in {time.perf_counter() - began:.2f} s; {threads_of_cluster()} threads")
        list(each(nothing, range(8)))  # workers import
        for count in (10, 100, 1000):
            took = seconds(lambda: list(each(nothing, range(count))))  # noqa: B023
            print(f"{count:5d} empty parts: {took:7.3f} s, {1e3 * took / count:6.2f} ms each")
        for size in (10**6, 10**7):
            took = seconds(lambda: list(each(Holding(size), range(10))))  # noqa: B023
            print(f"   10 empty parts that share {size:.0e} bytes: {took:7.3f} s")
    points = tk.PointCodebook(np.random.default_rng(0).standard_normal((2048, 8)))
    for samples in (2**13, 2**15, 2**17, 2**19):
        method = tk.MonteCarlo(n_samples=samples, variance_reduction=False)

        def sample(method: tk.MonteCarlo = method) -> bytes:
            found = tk.profile(points, [1.0, 4.0, 16.0], method=method, key=0)
            return b"".join(np.asarray(one.value).tobytes() for one in found.estimates.values())

        sample()
        began = time.perf_counter()
        bits = sample()
        here = time.perf_counter() - began
        with tk.cluster(address):
            began = time.perf_counter()
            same = sample() == bits
            there = time.perf_counter() - began
        told = "same bits" if same else "OTHER BITS"
        print(f"{samples:7d} samples: here {here:7.2f} s, there {there:7.2f} s, {told}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a cluster that runs already")
    given = parser.parse_args(arguments)
    if given.scheduler is not None:
        report(given.scheduler)
        return
    with tempfile.TemporaryDirectory() as folder, processes(Path(folder)) as (address, _):
        report(address)


if __name__ == "__main__":
    main()
