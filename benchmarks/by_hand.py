"""The estimator that people write by hand in PyTorch, beside ours: `python -m benchmarks.by_hand`.

One codebook of 1024 vectors in 16 dimensions, 12 noise levels, one thread; by hand 16,384 samples a
level, ours with its defaults. Seconds are of the processor, so that waiting for other work on the
machine does not count. Writes benchmarks/results/by_hand.json, out of which README.md tells; the
function below is the one that stands there.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokenkl as tk
from benchmarks.timing import progress
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "by_hand.json"
QUANTITIES = ("error_probability", "conditional_entropy", "mmse")
DECIBELS = np.linspace(-10.0, 12.0, 12)
SAMPLES = 16_384


def profile_by_hand(points, snrs, samples, chunk=512):  # type: ignore[no-untyped-def]
    K, n = points.shape
    means, errors = [], []
    for snr in snrs:
        draws = []
        for _ in range(samples // chunk):
            k = torch.randint(K, (chunk,))
            y = points[k] + torch.randn(chunk, n) / snr**0.5
            log_p = (-snr / 2 * torch.cdist(y, points) ** 2).log_softmax(dim=1)
            p = log_p.exp()
            wrong = (p.argmax(dim=1) != k).float()
            entropy = -(p * log_p).sum(dim=1)
            squared = ((p @ points - points[k]) ** 2).sum(dim=1)
            draws.append(torch.stack([wrong, entropy, squared]))
        found = torch.cat(draws, dim=1)
        means.append(found.mean(dim=1))
        errors.append(found.std(dim=1) / samples**0.5)
    return torch.stack(means), torch.stack(errors)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    points = np.random.default_rng(0).standard_normal((1024, 16))
    snr = 10 ** (DECIBELS / 10)
    table = torch.tensor(points, dtype=torch.float32)
    codebook = tk.PointCodebook(points)
    with progress("by hand and ours") as report:
        # Both once before the clock: threads, caches and compiled code are there then.
        profile_by_hand(table, snr[:2], 1024)
        tk.profile(codebook, snr[[0, 6, 11]], QUANTITIES, method=tk.Auto(n_samples=1024), key=1)
        report(1, 5)
        started = time.process_time()
        means, errors = profile_by_hand(table, snr, SAMPLES)
        between = time.process_time()
        report(3, 5)
        profile = tk.profile(codebook, snr, QUANTITIES, key=0)
        done = time.process_time()
    levels: list[dict[str, Any]] = []
    for index, level in enumerate(DECIBELS):
        one: dict[str, Any] = {"snr_db": float(level)}
        for column, name in enumerate(QUANTITIES):
            estimate = profile[name]
            one[name] = {
                "ours": float(estimate.value[index]),
                "our_error": float(np.broadcast_to(estimate.standard_error, snr.shape)[index]),
                "theirs": float(means[index, column]),
                "their_error": float(errors[index, column]),
            }
        levels.append(one)
    record = {
        "codebook": "1024 x 16, standard normal",
        "their_samples": SAMPLES,
        "our_cpu_seconds": done - between,
        "their_cpu_seconds": between - started,
        "levels": levels,
    }
    with atomic_path(RESULTS) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def table(record: dict[str, Any]) -> str:
    """What README.md tells of a record, as a Markdown table."""
    rows = ["| | by hand | tokenkl |", "|---|---|---|"]
    seconds = record["their_cpu_seconds"], record["our_cpu_seconds"]
    rows.append("| seconds of the processor | {:.0f} | {:.0f} |".format(*seconds))
    ratios = [
        level[name]["their_error"] / level[name]["our_error"]
        for level in record["levels"]
        for name in QUANTITIES
        if level["snr_db"] <= 4
    ]
    smaller = f"{min(ratios):.1f} to {max(ratios):.0f} times smaller"
    rows.append(f"| standard errors, -10 to 4 dB | | {smaller} |")
    at = {level["snr_db"]: level for level in record["levels"]}
    for name, decibels in (
        *(("error_probability", level) for level in (8.0, 10.0)),
        ("conditional_entropy", 10.0),
    ):
        found = at[decibels][name]
        theirs = told(found["theirs"], found["their_error"])
        ours = told(found["ours"], found["our_error"])
        title = {"error_probability": "error probability", "conditional_entropy": "entropy, nats"}
        rows.append(f"| {title[name]}, at {decibels:g} dB | {theirs} | {ours} |")
    return "\n".join(rows)


def told(value: float, error: float) -> str:
    """A value with its standard error, to the error's first digit.

    Example:
        >>> told(0.25712, 0.0034), told(5.1277e-05, 4.8e-09), told(0.0, 0.0)
        ('0.257 ± 0.003', '5.1277e-05 ± 5e-09', '0 ± 0')
    """
    if error == 0:
        return f"{value:g} ± 0"
    place = math.floor(math.log10(float(f"{error:.0e}")))
    if value > 5e-4:
        return f"{value:.{max(0, -place)}f} ± {error:.{max(0, -place)}f}"
    digits = max(0, math.floor(math.log10(value)) - place)
    return f"{value:.{digits}e} ± {error:.0e}"


if __name__ == "__main__":
    main()
