"""Variance reduction against plain averages, at equal standard error: processor time of both.

Run as `python -m benchmarks.variance_reduction`. Both sample until accuracy and entropy have their
target standard error at each of 32 levels, error probabilities from about 1 to 1e-3; a level that
has met it costs nothing more. The two take turns. Plain averages are timed at a coarser target,
since they take long, and their time goes with its inverse square. Writes
benchmarks/results/variance_reduction.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tokenkl as tk
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "variance_reduction.json"
QUANTITIES = ("accuracy", "conditional_entropy")


def gaussian(K: int, n: int) -> tk.PointCodebook:
    return tk.PointCodebook(np.random.default_rng(0).standard_normal((K, n)))


def perturbed(sd: float) -> tk.PointCodebook:
    return tk.PointCodebook(tk.perturb(tk.FSQ((3,) * 8), sd, 0).points)


#: Codebook, first and last level in dB, and the targets: that of variance reduction, and the
#: coarser one of plain averages.
JOBS: dict[str, tuple[Any, tuple[float, float], float, float]] = {
    "perturbed FSQ 3^8, sd 0.1": (lambda: perturbed(0.1), (-10, 17), 1e-3, 4e-3),
    "perturbed FSQ 3^8, sd 0.02": (lambda: perturbed(0.02), (-10, 16.5), 1e-3, 4e-3),
    "VQ 4096 x 64": (lambda: gaussian(4096, 64), (-16, -0.5), 2e-3, 8e-3),
    "VQ 65536 x 16": (lambda: gaussian(65536, 16), (-8, 9), 1e-2, 2e-2),
}


def timed(
    codebook: tk.Codebook, snr: np.ndarray, target: float, reduced: bool
) -> tuple[float, tk.Profile]:
    """Processor seconds of one profile, and the profile."""
    method = tk.MonteCarlo(atol=target, variance_reduction=reduced)
    started = time.process_time()
    found = tk.profile(codebook, snr, QUANTITIES, method=method, key=1)
    return time.process_time() - started, found


def job(name: str) -> dict[str, Any]:
    """One row: both ways, what they took and what they reached."""
    make, ends, fine, coarse = JOBS[name]
    codebook, snr = make(), 10 ** (np.linspace(*ends, 32) / 10)
    tk.profile(codebook, snr[:1], QUANTITIES, method=tk.MonteCarlo(4), key=0)  # compiles
    ours, reduced = timed(codebook, snr, fine, reduced=True)
    theirs, plain = timed(codebook, snr, coarse, reduced=False)
    entropy, coarse_entropy = reduced["conditional_entropy"], plain["conditional_entropy"]
    scale = (coarse / fine) ** 2
    samples, plain_samples = (int(np.sum(e.n_samples)) for e in (entropy, coarse_entropy))
    return {
        "job": name,
        "method": entropy.method,
        "target": fine,
        "worst_standard_error": float(max(reduced[q].standard_error.max() for q in QUANTITIES)),
        "error_probability": [float(1 - reduced["accuracy"].value[i]) for i in (0, -1)],
        "seconds": ours,
        "samples_times_levels": samples,
        "plain_seconds": theirs * scale,
        "plain_samples_times_levels": plain_samples * scale,
        "plain_timed_at": coarse,
        "ratio": theirs * scale / ours,
        "ratio_of_samples": plain_samples * scale / samples,
    }


def main() -> None:
    rows = []
    console = Console()
    for name in JOBS:
        console.print(f"{name} ...")
        rows.append(job(name))
        RESULTS.parent.mkdir(exist_ok=True)
        with atomic_path(RESULTS) as path:
            path.write_text(json.dumps(rows, indent=1) + "\n")
    table = Table("job", "target", "seconds", "plain", "ratio", "ratio of samples")
    for row in rows:
        numbers = [row[key] for key in ("seconds", "plain_seconds", "ratio", "ratio_of_samples")]
        table.add_row(row["job"], f"{row['target']:g}", *(f"{x:.3g}" for x in numbers))
    console.print(table)


if __name__ == "__main__":
    main()
