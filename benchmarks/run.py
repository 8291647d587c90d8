"""Every estimator beside what a competent user would write: `make bench`.

One process, one core, one thread; the two sides take turns. Samplers are compared at equal
achieved standard error on accuracy and entropy, over 32 levels from error about 1 to about 1e-3. A
rival's time is that of a slice of samples, times the number of samples that its variance asks for;
ours is run to the target, or, where that takes long, to a larger standard error and then scaled up
by the square (which counts the fixed costs many times over).

Writes benchmarks/results/estimators.json and estimators.png.

`python -m benchmarks.run NAME ...` runs some jobs and keeps the other results.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tokenkl as tk
from benchmarks import rivals
from benchmarks.ceilings import ceilings, median_seconds
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results"
TARGET = 1e-3
QUANTITIES = ("accuracy", "conditional_entropy")
#: Seconds for one slice of a rival, and about the most for one run of ours.
SLICE, LONGEST = 2.0, 40.0
REPEATS = 3

ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

Row = dict[str, Any]


# ---- Codebooks and levels ------------------------------------------------------------------------


def perturbed() -> tk.PointCodebook:
    return tk.PointCodebook(tk.perturb(tk.FSQ((3,) * 8), 0.1, 0).points, name="perturbed FSQ 3^8")


def gaussian(K: int, n: int) -> tk.PointCodebook:
    points = np.random.default_rng(0).standard_normal((K, n))
    return tk.PointCodebook(points, name=f"VQ {K} x {n}")


def levels(codebook: tk.Codebook, count: int = 32) -> np.ndarray:
    """SNRs, even in decibels, from error about 0.99 to about 1e-3."""
    decibels = np.arange(-20.0, 41.0, 2.0)
    method = tk.MonteCarlo(n_samples=512)
    error = tk.error_probability(codebook, 10 ** (decibels / 10), method=method, key=0)
    logs = np.log(np.maximum(np.asarray(error.value), 1e-9))
    low, high = (np.interp(-np.log(x), -logs, decibels) for x in (0.99, 1e-3))
    return 10 ** (np.linspace(low, high, count) / 10)


# ---- Jobs --------------------------------------------------------------------------------------


def row(job: str, beside: str, ours: float, theirs: float | None, **facts: Any) -> Row:
    return {
        "job": job,
        "beside": beside,
        "our_seconds": ours,
        "their_seconds": theirs,
        "ratio": theirs / ours if theirs else None,
        **facts,
    }


def sampled(name: str, codebook: tk.PointCodebook, targets: dict[str, float]) -> list[Row]:
    """Profiles of accuracy and entropy at equal standard error, beside each rival."""
    points, snr = np.asarray(codebook.points), levels(codebook)
    h = np.sqrt(snr)
    plain = tk.MonteCarlo(n_samples=4096, variance_reduction=False)
    measured = tk.profile(codebook, snr, QUANTITIES, method=plain, key=1)
    deviation = np.max([measured[q].standard_error for q in QUANTITIES], axis=0) * np.sqrt(4096)
    by_level = (deviation / TARGET) ** 2
    needed = float(by_level.max())

    def ours(wanted: float, key: int) -> tuple[float, tk.Profile]:
        started = time.perf_counter()
        method = tk.MonteCarlo(atol=wanted)
        found = tk.profile(codebook, snr, QUANTITIES, method=method, key=key)
        return time.perf_counter() - started, found

    wanted = 16 * TARGET
    seconds, _ = ours(wanted, 0)
    while wanted > TARGET and 4 * seconds < LONGEST:
        wanted /= 2
        seconds, _ = ours(wanted, 0)
    # Slices of equal time, so that the two sides see the same machine.
    slices = {}
    for label in targets:
        run = rivals.SAMPLERS[label]
        size = 32
        run(points, h, size)
        once = median_seconds(functools.partial(run, points, h, size), 1)
        slices[label] = max(size, int(SLICE / once * size))
    times: dict[str, list[float]] = {label: [] for label in ("ours", *targets)}
    found = []
    for key in range(REPEATS):
        seconds, profile = ours(wanted, key)
        times["ours"].append(seconds * (wanted / TARGET) ** 2)
        found.append(profile)
        for label, size in slices.items():
            started = time.perf_counter()
            rivals.SAMPLERS[label](points, h, size)
            times[label].append((time.perf_counter() - started) / size)
    apart, reported = 0.0, 0.0
    for q in QUANTITIES:
        errors = np.array([np.asarray(p[q].standard_error) for p in found])
        values = np.array([np.asarray(p[q].value) for p in found])
        reported = max(reported, float(errors.max()))
        difference = np.abs(values[0] - values[1]) / np.sqrt(errors[0] ** 2 + errors[1] ** 2)
        apart = max(apart, float(difference.max()))
    mine = statistics.median(times["ours"])
    return [
        row(
            name,
            label,
            mine,
            statistics.median(times[label]) * needed,
            target_ratio=target,
            per_level_stopping_ratio=statistics.median(times[label]) * by_level.mean() / mine,
            run_to_standard_error=wanted,
            largest_reported_standard_error=reported,
            largest_difference_of_two_runs_in_standard_errors=apart,
            rival_samples=needed,
            rival_slice=slices[label],
            rival_ns_per_token_and_level=statistics.median(times[label])
            / (codebook.K * snr.size)
            * 1e9,
        )
        for label, target in targets.items()
    ]


def perturbed_job() -> list[Row]:
    targets = {"tuned NumPy": 30.0, "jitted JAX": 20.0, "torch cdist": 100.0}
    return sampled("perturbed FSQ 6561 x 8", perturbed(), targets)


def vq_high_job() -> list[Row]:
    return sampled("VQ 4096 x 64", gaussian(4096, 64), {"tuned NumPy": 12.0})


def vq_large_job() -> list[Row]:
    rows = sampled("VQ 65536 x 16", gaussian(65536, 16), {"tuned NumPy": 15.0})
    code = (
        "import resource; from benchmarks.run import *;"
        "c = gaussian(65536, 16); s = 10 ** np.linspace(-1, 1.6, 32);"
        "tk.profile(c, s, QUANTITIES, method=tk.MonteCarlo(n_samples=4096), key=0);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    rows[0]["peak_memory_mib"] = int(done.stdout.split()[-1]) / 1024
    return rows


def kernel_job() -> list[Row]:
    """The inner loop alone: with an exponential for every token and level, as NumPy has it.

    Beside that, as a floor, one exponential and two multiply-adds; and what samples at nodes, from
    which as many levels are read off, save.
    """
    from tokenkl.information.sampling import kernel
    from tokenkl.information.sampling.nodes import Nodes

    rates = ceilings()
    floor = rates["kernel_exp_ns"] + 2 * rates["multiply_add_ns"]
    rows = []
    for codebook in (perturbed(), gaussian(4096, 64), gaussian(65536, 16)):
        points, h = np.asarray(codebook.points), np.sqrt(levels(codebook))
        table = kernel.lay_out(points - points.mean(axis=0), codebook.log_prior)
        rng = np.random.default_rng(0)
        size = max(16, 2**22 // codebook.K)
        ids, noise = rng.integers(codebook.K, size=size), rng.standard_normal((size, codebook.n))

        def alone(at: np.ndarray, table: Any = table, ids: Any = ids, noise: Any = noise) -> Any:
            return kernel.block_statistics(table, ids, noise, at, False)

        def read_off(nodes: Nodes, alone: Any = alone) -> None:
            _, reading = nodes.of(np.arange(nodes.levels.size))
            assert reading is not None
            reading.read(alone(nodes.h))

        many = Nodes(np.geomspace(h[0], h[-1], 1000), TARGET)
        runs: dict[str, Callable[[], Any]] = {
            "alone": functools.partial(alone, h),
            "nodes": functools.partial(read_off, Nodes(h, TARGET)),
            "many": functools.partial(read_off, many),
            "NumPy": functools.partial(rivals.numpy_shared_noise, points, h, size),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(6):
            for name, run in runs.items():
                started = time.perf_counter()
                run()
                if turn > 0:
                    seconds[name].append(time.perf_counter() - started)
        took = {name: statistics.median(found) for name, found in seconds.items()}
        nanoseconds = took["alone"] / (size * codebook.K * h.size) * 1e9
        name = f"kernel, {codebook.label}"
        rows += [
            row(
                name,
                "tuned NumPy, as many samples",
                took["alone"],
                took["NumPy"],
                ns_per_token_and_level=nanoseconds,
                floor_ns=floor,
                fraction_of_floor=floor / nanoseconds,
            ),
            row(
                f"{name}, 32 levels read off",
                "an exponential each",
                took["nodes"],
                took["alone"],
                target_ratio=2.0,
            ),
            row(
                f"{name}, 1000 levels read off",
                "an exponential each, scaled up",
                took["many"],
                took["alone"] * many.levels.size / h.size,
                target_ratio=10.0,
            ),
        ]
    return rows


def grid_job() -> list[Row]:
    """Exact profiles of grids; tuned NumPy to a standard error of 1e-3 beside the first."""
    fsq, snr = tk.FSQ((3,) * 8), 10.0 ** np.linspace(-2, 4, 64)
    points = np.asarray(fsq.points)
    plain = tk.MonteCarlo(n_samples=4096, variance_reduction=False)
    measured = tk.profile(tk.PointCodebook(points), snr, QUANTITIES, method=plain, key=0)
    needed = (
        4096 * max(float((measured[q].standard_error ** 2).max()) for q in QUANTITIES) / TARGET**2
    )
    ours, theirs = [], []
    for _ in range(5):
        ours.append(median_seconds(lambda: tk.profile(fsq, snr), 5))
        theirs.append(
            median_seconds(lambda: rivals.numpy_shared_noise(points, np.sqrt(snr), 128), 1)
        )
    large = tk.FSQ((17,) * 6)
    return [
        row(
            "FSQ 3^8 exact, 64 levels",
            "tuned NumPy",
            statistics.median(ours),
            statistics.median(theirs) * needed / 128,
            target_ratio=5000.0,
            limit_seconds=0.020,
            rival_samples=needed,
        ),
        row(
            "FSQ 17^6 exact, 64 levels",
            "",
            median_seconds(lambda: tk.profile(large, snr), 9),
            None,
            limit_seconds=0.050,
        ),
    ]


def onehot_job() -> list[Row]:
    codebook = tk.OneHot(65536)
    snr, many = 10.0 ** np.linspace(-1, 2, 32), 10.0 ** np.linspace(-1, 2, 10_000)
    h = np.sqrt(snr)
    expected = rivals.quad_told(codebook.K, h)
    np.testing.assert_allclose(tk.accuracy(codebook, snr).value, expected, rtol=1e-9)
    mine = median_seconds(lambda: tk.accuracy(codebook, snr), 25)
    told = median_seconds(lambda: rivals.quad_told(codebook.K, h), 5)
    plain = median_seconds(lambda: rivals.quad_plain(codebook.K, h), 1)
    in_bulk = median_seconds(lambda: tk.accuracy(codebook, many), 5)
    # Where the textbook call goes wrong, and we do not (references/onehot.json has the digits).
    hard = np.sqrt(np.array([1e3, 1e4, 1e6]))
    wrong = np.abs(np.array(rivals.quad_plain(codebook.K, hard)) - 1).max()
    ours = np.abs(np.asarray(tk.accuracy(codebook, hard**2).value) - 1).max()
    return [
        row(
            "one-hot 65536, accuracy",
            "scipy.stats in quad",
            mine,
            plain,
            target_ratio=1000.0,
            their_largest_error_from_30_to_60_db=float(wrong),
            our_largest_error_from_30_to_60_db=float(ours),
        ),
        row(
            "one-hot 65536, accuracy",
            "quad told where the mass is",
            mine,
            told,
            target_ratio=1000.0,
        ),
        row(
            "one-hot 65536, accuracy, 10 000 levels",
            "quad told, scaled up",
            in_bulk,
            told * many.size / snr.size,
            target_ratio=1000.0,
        ),
        row(
            "one-hot 65536, full profile",
            "",
            median_seconds(lambda: tk.profile(codebook, snr), 3),
            None,
            limit_seconds=2.0,
        ),
    ]


def rare_job() -> list[Row]:
    """An error probability near 1e-9 to 1 %, beside counting errors."""
    from tokenkl.information.rare.profile import rare_error_probability

    codebook = gaussian(4096, 64)
    points = np.asarray(codebook.points)
    snr = np.array([10 ** (x / 10) for x in np.arange(0.0, 12.0, 0.25)])
    found = rare_error_probability(codebook, snr, n_samples=256, key=0)
    snr = snr[[int(np.argmin(np.abs(np.log(found["value"] / 1e-9))))]]
    mine, theirs, size = [], [], 2000
    rivals.numpy_indicator(points, float(np.sqrt(snr[0])), size)
    for key in range(REPEATS):
        started = time.perf_counter()
        found = rare_error_probability(codebook, snr, n_samples=2000, key=key)
        mine.append(time.perf_counter() - started)
        started = time.perf_counter()
        rivals.numpy_indicator(points, float(np.sqrt(snr[0])), size)
        theirs.append((time.perf_counter() - started) / size)
    value = float(found["value"][0])
    relative = float(found["standard_error"][0] + found["numerical_error"][0]) / value
    needed = 1 / (value * 0.01**2)
    return [
        row(
            "error probability, VQ 4096 x 64",
            "indicator, extrapolated",
            statistics.median(mine),
            statistics.median(theirs) * needed,
            target_ratio=1e7,
            value=value,
            samples=int(found["n_samples"][0]),
            relative_error=relative,
            limit_relative_error=0.01,
        )
    ]


def import_job() -> list[Row]:
    command = [sys.executable, "-c", "import tokenkl"]
    here = os.sched_getaffinity(0) if ALL_CORES else None
    if here is not None:  # as users have it, not on the one core of the other jobs
        os.sched_setaffinity(0, ALL_CORES)
    seconds = median_seconds(lambda: subprocess.run(command, check=True), 5)
    if here is not None:
        os.sched_setaffinity(0, here)
    return [row("import tokenkl", "", seconds, None, limit_seconds=1.5)]


JOBS: dict[str, Callable[[], list[Row]]] = {
    "grid": grid_job,
    "onehot": onehot_job,
    "kernel": kernel_job,
    "perturbed": perturbed_job,
    "vq_high": vq_high_job,
    "vq_large": vq_large_job,
    "rare": rare_job,
    "import": import_job,
}


# ---- Results -----------------------------------------------------------------------------------


def print_table(rows: list[Row]) -> None:
    table = Table("job", "beside it", "ours, s", "theirs, s", "ratio", "wanted", "notes")
    for r in rows:
        ratio = "" if r["ratio"] is None else f"{r['ratio']:.3g}x"
        wanted = f"{r['target_ratio']:g}x" if r.get("target_ratio") else ""
        if r.get("limit_seconds"):
            wanted += f" {r['limit_seconds']:g} s"
        notes = []
        if "fraction_of_floor" in r:
            notes.append(
                f"{r['ns_per_token_and_level']:.2f} ns, {r['fraction_of_floor']:.0%} of floor"
            )
        if "per_level_stopping_ratio" in r:
            notes.append(f"{r['per_level_stopping_ratio']:.3g}x if they stopped level by level")
        if "relative_error" in r:
            notes.append(f"{r['value']:.2g} to {r['relative_error']:.2%}, {r['samples']} samples")
        if "peak_memory_mib" in r:
            notes.append(f"peak {r['peak_memory_mib']:.0f} MiB")
        theirs = "" if r["their_seconds"] is None else f"{r['their_seconds']:.3g}"
        seconds = f"{r['our_seconds']:.3g}"
        table.add_row(r["job"], r["beside"], seconds, theirs, ratio, wanted, "; ".join(notes))
    Console(width=160).print(table)


def draw(rows: list[Row], path: Path) -> None:
    """Bars of all ratios; a mark where a ratio was aimed at."""
    from tokenkl.plotting import COLOURS, PAGE, new_figure, save_figure

    shown = [r for r in rows if r["ratio"]][::-1]
    where = np.arange(len(shown))
    figure, axes = new_figure(width=PAGE, panel_height=0.28 * len(shown) + 0.8)
    panel = axes[0, 0]
    panel.barh(where, [r["ratio"] for r in shown], color=COLOURS[5], height=0.6)
    wanted = [(r["target_ratio"], i) for i, r in enumerate(shown) if r.get("target_ratio")]
    style = {"marker": "|", "linestyle": "", "markersize": 12, "markeredgewidth": 2}
    panel.plot(*zip(*wanted, strict=True), color=COLOURS[1], label="aimed at", **style)
    for i, r in enumerate(shown):
        panel.annotate(
            f"{r['ratio']:.3g}",
            (r["ratio"], i),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    panel.set_yticks(where, [f"{r['job']}  |  {r['beside']}" for r in shown])
    panel.set_xscale("log")
    panel.margins(x=0.16)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel("how many times faster (same process, one core)")
    panel.legend(loc="center right", fontsize=7, frameon=False)
    save_figure(figure, path)


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in JOBS]
    if unknown:
        sys.exit(f"Error: NAMES must be among {', '.join(JOBS)}; got {unknown[0]!r}.")
    if hasattr(os, "sched_setaffinity"):  # one core for everybody's threads
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    path = RESULTS / "estimators.json"
    stored = json.loads(path.read_text())["jobs"] if names and path.exists() else {}
    rates = ceilings()
    for name in names or JOBS:
        Console(stderr=True).print(f"{time.strftime('%H:%M:%S')} {name} ...")
        stored[name] = JOBS[name]()
    ordered = {name: stored[name] for name in JOBS if name in stored}
    rows = [r for found in ordered.values() for r in found]
    Console().print({key: round(value, 3) for key, value in rates.items()})
    print_table(rows)
    record = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "ceilings": rates,
        "jobs": ordered,
    }
    RESULTS.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    draw(rows, RESULTS / "estimators.png")


if __name__ == "__main__":
    main(sys.argv[1:])
