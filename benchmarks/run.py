"""Side-by-side timings in one process: `make bench`, or `python -m benchmarks.run`.

Every job is run beside what a user would write instead, one after the other, with one thread each
(the Makefile sets the limits), at equal achieved error or, where the row says so, at equal samples.
Ratios carry over to other machines better than seconds. Writes
benchmarks/results/spine.json.
"""

from __future__ import annotations

import json
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
from scipy import integrate, special

import tokenkl as tk
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "spine.json"
TARGET = 1e-3  # standard error at which sampled and exact methods are compared


def median_seconds(call: Callable[[], Any], repeats: int) -> float:
    """Median wall time of a call, after one that warms caches and compilers."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def machine_ceilings() -> dict[str, float]:
    """Rates of this machine in this run, one thread: matrix product and exponentials."""
    a = np.random.default_rng(0).standard_normal((1024, 1024))
    product = median_seconds(lambda: a @ a, 5)
    exponentials = median_seconds(lambda: np.exp(a), 10)
    return {
        "gemm_gflops": 2 * 1024**3 / product / 1e9,
        "numpy_exp_ns": exponentials / a.size * 1e9,
    }


def numpy_sampling(points: np.ndarray, snr: np.ndarray, samples: int) -> np.ndarray:
    """What a careful user writes: chunks, one pair of products for all levels, E max p."""
    rng = np.random.default_rng(0)
    total = np.zeros((snr.size, 2))
    norms = (points**2).sum(axis=1)
    for start in range(0, samples, 128):
        size = min(128, samples - start)
        ids = rng.integers(len(points), size=size)
        noise = rng.standard_normal((size, points.shape[1]))
        along = noise @ points.T
        inner = points[ids] @ points.T
        for level, h in enumerate(np.sqrt(snr)):
            logits = h * along + h**2 * (inner - norms / 2)
            logits -= logits.max(axis=1, keepdims=True)
            weight = np.exp(logits)
            mass = weight.sum(axis=1)
            total[level, 0] += (1 / mass).sum()
            total[level, 1] += (np.log(mass) - (weight * logits).sum(axis=1) / mass).sum()
    return total / samples


def quad_onehot_accuracy(K: int, snr: np.ndarray) -> list[float]:
    """int phi(x - h) Phi(x)^(K-1) dx by scipy.integrate.quad, told where the mass is."""

    def accuracy(h: float) -> float:
        def integrand(x: float) -> float:
            return np.exp(-((x - h) ** 2) / 2 + (K - 1) * special.log_ndtr(x)) / np.sqrt(2 * np.pi)

        return integrate.quad(integrand, h - 12, h + 12, limit=200, epsabs=0, epsrel=1e-11)[0]

    return [accuracy(h) for h in np.sqrt(snr)]


def jobs() -> list[dict[str, Any]]:
    rows = []
    snr64 = 10.0 ** np.linspace(-2, 4, 64)
    snr32 = 10.0 ** np.linspace(-1, 2, 32)

    def row(
        name: str, ours: float, limit: float | None, other: str = "", theirs: float = 0
    ) -> None:
        rows.append(
            {
                "job": name,
                "seconds": ours,
                "limit_seconds": limit,
                "beside": other,
                "their_seconds": theirs or None,
                "ratio": theirs / ours if theirs else None,
            }
        )

    fsq = tk.FSQ((3,) * 8)
    ours = median_seconds(lambda: tk.profile(fsq, snr64), 9)
    # The user's samples until both standard errors are 1e-3: measured on a few, then scaled.
    samples = 256
    sampled = tk.profile(
        tk.PointCodebook(fsq.points), snr32, method=tk.MonteCarlo(n_samples=4096), key=0
    )
    worst = max(
        float(sampled[name].standard_error.max()) for name in ("accuracy", "conditional_entropy")
    )
    needed = 4096 * (worst / TARGET) ** 2
    theirs = median_seconds(lambda: numpy_sampling(fsq.points, snr64, samples), 3)
    row(
        "FSQ 3^8, exact profile, 64 SNRs",
        ours,
        0.020,
        f"tuned NumPy sampling to standard error 1e-3 ({needed:.3g} samples, extrapolated)",
        theirs * needed / samples,
    )
    large = tk.FSQ((17,) * 6)
    row(
        "FSQ 17^6, exact profile, 64 SNRs",
        median_seconds(lambda: tk.profile(large, snr64), 9),
        0.050,
    )
    onehot = tk.OneHot(65536)
    row(
        "one-hot 65536, full profile, 32 SNRs",
        median_seconds(lambda: tk.profile(onehot, snr32), 3),
        2.0,
    )
    ours = median_seconds(lambda: tk.accuracy(onehot, snr32), 3)
    expected = quad_onehot_accuracy(65536, snr32)
    np.testing.assert_allclose(tk.accuracy(onehot, snr32).value, expected, rtol=1e-9)
    row(
        "one-hot 65536, accuracy, 32 SNRs",
        ours,
        None,
        "scipy.integrate.quad in a loop",
        median_seconds(lambda: quad_onehot_accuracy(65536, snr32), 3),
    )
    points = tk.PointCodebook(tk.perturb(fsq, 0.1, 0).points)
    method = tk.MonteCarlo(n_samples=2048)
    ours = median_seconds(lambda: tk.profile(points, snr32, method=method, key=0), 3)
    theirs = median_seconds(lambda: numpy_sampling(points.points, snr32, 2048), 1)
    row(
        "perturbed FSQ 3^8, 32 SNRs, 2048 samples, all quantities",
        ours,
        None,
        "tuned NumPy, accuracy and entropy only, as many samples",
        theirs,
    )
    command = [sys.executable, "-c", "import tokenkl"]
    row("import tokenkl", median_seconds(lambda: subprocess.run(command, check=True), 5), 1.5)
    return rows


def main() -> None:
    rows = jobs()
    table = Table("job", "seconds", "limit", "beside it", "ratio", title="tokenkl benchmarks")
    for row in rows:
        limit = "" if row["limit_seconds"] is None else f"{row['limit_seconds']:g}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3g}x"
        table.add_row(row["job"], f"{row['seconds']:.4g}", limit, row["beside"], ratio)
    Console().print(table)
    record = {
        "machine": platform.machine(),
        "python": platform.python_version(),
        "ceilings": machine_ceilings(),
        "jobs": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    with atomic_path(RESULTS) as path:
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
