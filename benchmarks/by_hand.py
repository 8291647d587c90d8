"""The estimator that people write by hand in PyTorch, beside ours: `python -m benchmarks.by_hand`.

One codebook of 1024 vectors in 16 dimensions, 24 noise levels, 16,384 samples a level on both
sides, one thread. Seconds are of the processor, so that other work on the machine does not count.
Writes benchmarks/results/by_hand.json, out of which README.md tells; the function below is the one
that stands there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tokenkl as tk
from tokenkl._files import atomic_path

RESULTS = Path(__file__).parent / "results" / "by_hand.json"
QUANTITIES = ("error_probability", "conditional_entropy", "mmse")
DECIBELS = np.linspace(-20.0, 14.0, 24)
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
    method = tk.Auto(n_samples=SAMPLES)
    # Both once before the clock: threads, caches and compiled code are there then.
    profile_by_hand(table, snr[:2], 1024)
    tk.profile(codebook, snr[[0, 12, 23]], QUANTITIES, method=method, key=1)
    started = time.process_time()
    means, errors = profile_by_hand(table, snr, SAMPLES)
    between = time.process_time()
    profile = tk.profile(codebook, snr, QUANTITIES, method=method, key=0)
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
        "samples": SAMPLES,
        "our_cpu_seconds": done - between,
        "their_cpu_seconds": between - started,
        "levels": levels,
    }
    with atomic_path(RESULTS) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
